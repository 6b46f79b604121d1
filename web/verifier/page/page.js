// The verifier page. It reads what the reader chose, or asks a Keep, has the evidence
// judged by the WebAssembly program, and shows the answer. Text from anywhere reaches
// the page as text alone.
'use strict';

const maxAnswer = 256 * 1024; // bytes of evidence with what is stapled to it
const maxFile = 4 * 1024 * 1024;
const patience = 30_000; // milliseconds for a Keep's answer
const wellKnown = '/.well-known/donjon/evidence';

const $ = id => document.getElementById(id);

// A Refusal is said to the reader.
class Refusal extends Error {}

function say(text, bad) {
  $('state').textContent = text;
  $('state').classList.toggle('bad', Boolean(bad));
}

// host is a name without the dot that may stand at its end: it leads to the same place.
const host = url => url.hostname.replace(/\.$/, '');

// origin reads a Keep's address.
function origin(text) {
  let url;
  try {
    url = new URL(text.includes('://') ? text : 'https://' + text);
  } catch {
    throw new Refusal('That is no address. Wanted something like https://keep.example:9443.');
  }
  if (url.protocol !== 'https:') throw new Refusal('A Keep is asked over https.');
  if (url.username || url.password) throw new Refusal('The address holds a name or a password, and a Keep needs none.');
  if (host(url) === host(location) && url.protocol === location.protocol && url.port === location.port) {
    throw new Refusal('This page comes from that very address. A Keep must not judge itself: take the page from somewhere else.');
  }
  return url;
}

// neighbour says whether the page and the Keep are on one machine that is not the
// reader's own.
function neighbour(url) {
  const own = ['localhost', '127.0.0.1', '[::1]'];
  return host(url) === host(location) && !own.includes(host(url));
}

async function limited(response, most) {
  const reader = response.body.getReader();
  const parts = [];
  let n = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    n += value.length;
    if (n > most) {
      await reader.cancel();
      throw new Refusal(`The answer has more than ${most} bytes.`);
    }
    parts.push(value);
  }
  const all = new Uint8Array(n);
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

// ask gets evidence of a Keep for a nonce that nobody could know.
async function ask(url, nonce) {
  let response;
  try {
    response = await fetch(`${url.origin}${wellKnown}?nonce=${nonce}`, {
      mode: 'cors', credentials: 'omit', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer', signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new Refusal('No answer that a browser takes. Is it a Keep with evidence = true, and does your browser trust its certificate? Open the address in a tab to see.');
  }
  let body;
  try {
    body = await limited(response, maxAnswer);
  } catch (e) {
    throw e instanceof Refusal ? e : new Refusal('The answer broke off.');
  }
  if (response.status === 503) throw new Refusal('The Keep is busy: too many ask at once. Try again in a moment.');
  if (response.status !== 200) throw new Refusal(`The answer is an error, status ${response.status}: is it a Keep with evidence = true?`);
  if (response.headers.get('Content-Type') !== 'application/cmw+cbor') throw new Refusal('The answer is no evidence of a Keep.');
  return body;
}

async function read(file, what) {
  if (file.size > maxFile) throw new Refusal(`${what} has more than 4 MiB.`);
  return new Uint8Array(await file.arrayBuffer());
}

async function gather() {
  const input = { policy: $('policy').value, nonce: '', collateral: [], platformOnly: $('platform').checked, fromKeep: false };
  for (const f of $('collateral').files) input.collateral.push({ name: f.name, bytes: await read(f, 'A file of vendor data') });
  const keep = $('keep').value.trim();
  const file = $('evidence').files[0];
  const pasted = $('pasted').value.trim();
  if ([keep, file, pasted].filter(Boolean).length > 1) throw new Refusal('One piece of evidence at a time: an address, a file or a text.');
  let near = false;
  if (keep) {
    const url = origin(keep);
    near = neighbour(url);
    input.nonce = Array.from(crypto.getRandomValues(new Uint8Array(32)), b => b.toString(16).padStart(2, '0')).join('');
    input.fromKeep = true;
    say('Asking the Keep…');
    input.evidence = await ask(url, input.nonce);
  } else {
    input.nonce = $('nonce').value;
    input.evidence = file ? await read(file, 'The evidence') : new TextEncoder().encode(pasted);
  }
  input.at = Date.now();
  return { input, near };
}

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function list(facts) {
  const dl = element('dl');
  for (const f of facts) dl.append(element('dt', f.name), element('dd', f.value));
  return dl;
}

function item(c) {
  const li = element('li');
  const name = element('p', undefined, 'name');
  const state = element('span', undefined, 'state ' + c.status);
  const sign = element('span', c.sign);
  sign.setAttribute('aria-hidden', 'true');
  state.append(sign, ' ' + c.word);
  name.append(state, ' ', element('code', c.code));
  li.append(name, list(c.facts || []));
  if (c.hint) li.append(element('p', c.hint, 'hint'));
  return li;
}

function advisories(all) {
  const of = status => all.filter(a => a.status === status);
  $('advisories-section').hidden = all.length === 0;
  const exposed = of('failed');
  $('exposed').replaceChildren(...exposed.map(item));
  $('exposed').hidden = exposed.length === 0;
  $('unexposed').hidden = exposed.length > 0;
  for (const [id, status, words] of [['untold', 'not-made', 'that this evidence does not answer'], ['fixed', 'passed', 'fixed on this platform']]) {
    const some = of(status);
    $(id).hidden = some.length === 0;
    $(id).querySelector('summary').textContent = `${some.length} ${words}`;
    $(id).querySelector('ul').replaceChildren(...some.map(item));
  }
}

const outcomes = {
  admitted: ['✔', 'admitted'], refused: ['✗', 'REFUSED'], not_genuine: ['✗', 'NOT GENUINE'], cannot_tell: ['–', 'CANNOT TELL'],
};

function show(view, near) {
  const outcome = view.outcome in outcomes ? view.outcome : 'not_genuine';
  const [sign, word] = outcomes[outcome];
  $('outcome').className = 'outcome ' + outcome;
  $('mark').className = 'mark state ' + outcome;
  $('mark').textContent = sign;
  $('words').textContent = word;
  $('headline').textContent = view.headline;
  $('simulated').hidden = !view.simulated;
  $('unbound').hidden = !view.unbound || outcome === 'not_genuine';
  $('neighbour').hidden = !near;
  $('false').hidden = outcome !== 'not_genuine';
  $('facts').replaceChildren(...list(view.facts.concat((view.ignored || []).map(value => ({ name: 'not used', value })))).childNodes);
  for (const dd of $('facts').querySelectorAll('dd')) dd.className = 'mono';
  $('checks').replaceChildren(...view.checks.map(item));
  advisories(view.advisories);
  $('json').textContent = view.json;
  $('result').hidden = false;
  $('verdict').focus();
}

async function judge(event) {
  event.preventDefault();
  $('judge').disabled = true;
  $('result').hidden = true;
  say('Judging…');
  try {
    const { input, near } = await gather();
    const view = JSON.parse(globalThis.donjonJudge(input));
    if (view.error) throw new Refusal(view.error);
    show(view, near);
    say('Judged.');
  } catch (e) {
    say(e instanceof Refusal ? e.message : 'The verifier failed. Load the page anew.', true);
  } finally {
    $('judge').disabled = false;
  }
}

async function start() {
  const go = new Go();
  const response = await fetch('verifier.wasm');
  if (!response.ok) throw new Error('no verifier.wasm');
  const { instance } = await WebAssembly.instantiate(await response.arrayBuffer(), go.importObject);
  go.run(instance).finally(() => {
    globalThis.donjonJudge = undefined;
    say('The verifier has ended. Load the page anew.', true);
  });
  if (!globalThis.donjonJudge) throw new Error('no judge');
  $('judge').disabled = false;
  say('Ready.');
}

$('form').addEventListener('submit', judge);
start().catch(() => say('The verifier could not be loaded: verifier.wasm and wasm_exec.js must lie beside this page.', true));
