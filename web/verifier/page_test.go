//go:build linux

package verifier

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/web/browser"
)

// builtPage is the folder that make verifier makes, served.
func builtPage(t *testing.T) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command("make", "-s", "-C", "../..", "verifier", "VERIFIER="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("make verifier: %v\n%s", err, out)
	}
	if info, err := os.Stat(filepath.Join(dir, "verifier.wasm")); err != nil {
		t.Fatal(err)
	} else if info.Size() > 12<<20 {
		t.Errorf("verifier.wasm has %d bytes, and docs/verifier-page.md says about 9.5 million", info.Size())
	}
	s := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s
}

// A pretender is what stands at a Keep's address.
type pretender struct {
	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []string // nonces, in the order in which they came
	seen   http.Header
}

func (p *pretender) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked, p.seen = append(p.asked, r.URL.Query().Get("nonce")), r.Header.Clone()
	answer := p.answer
	p.mu.Unlock()
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Content-Type", "application/cmw+cbor")
	answer(w, r)
}

func (p *pretender) set(answer http.HandlerFunc) {
	p.mu.Lock()
	p.answer = answer
	p.mu.Unlock()
}

// page is the page in a browser.
type page struct {
	*browser.Browser
	url string
}

func (p page) fresh() {
	p.T.Helper()
	p.Open(p.url)
	p.until("the verifier", `document.getElementById('judge').disabled === false`)
}

func (p page) until(what, expression string) {
	p.T.Helper()
	var ok bool
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if p.Eval(expression, &ok); ok {
			return
		}
	}
	p.T.Fatalf("%s does not come: %s", what, p.Text())
}

func (p page) set(id, value string) {
	p.T.Helper()
	p.Eval(fmt.Sprintf("document.getElementById(%q).value = %s", id, quoted(value)), nil)
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has a form
	}
	return string(b)
}

// files puts files into a field.
func (p page) files(id string, files ...string) {
	p.T.Helper()
	var root struct{ Root struct{ NodeID int } }
	p.Call("DOM.getDocument", nil, &root)
	var node struct{ NodeID int }
	p.Call("DOM.querySelector", map[string]any{"nodeId": root.Root.NodeID, "selector": "#" + id}, &node)
	p.Call("DOM.setFileInputFiles", map[string]any{"nodeId": node.NodeID, "files": files}, nil)
}

// shown is what the page says once it has judged.
type shown struct {
	Outcome, Words, Headline, Facts, JSON string
	Simulated, Unbound, Neighbour         bool
	Checks                                []struct{ Code, Word, Sign string }
	Message                               string // of a refusal
}

const readShown = `(() => { const t = id => document.getElementById(id).textContent, on = id => !document.getElementById(id).hidden;
  const judged = on('result');
  return { outcome: judged ? document.getElementById('outcome').className : '', words: t('words'), headline: t('headline'), facts: t('facts'), json: t('json'),
    simulated: judged && on('simulated'), unbound: judged && on('unbound'), neighbour: judged && on('neighbour'), message: judged ? '' : t('state'),
    checks: [...document.querySelectorAll('#checks > li')].map(l => ({ code: l.querySelector('code').textContent, sign: l.querySelector('.state > span').textContent,
      word: l.querySelector('.state').lastChild.textContent.trim() })) } })()`

// judge presses the button with the keyboard.
func (p page) judge() shown {
	p.T.Helper()
	p.Eval("document.getElementById('main').focus()", nil)
	p.TabTo("the button", func(f browser.Focused) bool { return f.ID == "judge" })
	p.Key("Enter")
	p.until("a verdict", `document.getElementById('judge').disabled === false && !/^(Judging|Asking)/.test(document.getElementById('state').textContent)`)
	var s shown
	p.Eval(readShown, &s)
	return s
}

// String leaves the JSON out.
func (s shown) String() string {
	return fmt.Sprintf("%s, %s: %s (simulated %v, unbound %v) %s %v", s.Outcome, s.Words, s.Headline, s.Simulated, s.Unbound, s.Message, s.Checks)
}

func (s shown) word(code verdict.Code) string {
	for _, c := range s.Checks {
		if c.Code == string(code) {
			return c.Word
		}
	}
	return ""
}

// clock is the time that the page's browser believes in.
func (p page) clock(at time.Time) (restore func()) {
	p.T.Helper()
	var id struct{ Identifier string }
	p.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": "Date.now = () => " + strconv.FormatInt(at.UnixMilli(), 10)}, &id)
	return func() {
		p.Call("Page.removeScriptToEvaluateOnNewDocument", map[string]any{"identifier": id.Identifier}, nil)
	}
}

func TestPage(t *testing.T) {
	b := browser.Start(t, browser.Options{Hosts: "MAP keep.example 127.0.0.1"})
	site := builtPage(t)
	p := page{b, site.URL + "/index.html"}
	b.Screen(1200, 900, "light")
	run := func(name string, do func(*testing.T)) {
		t.Run(name, func(t *testing.T) {
			b.T = t
			defer func() { b.T = t }()
			p.fresh()
			do(t)
		})
		b.T = t
	}
	k := newKeep(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	run("empty", func(t *testing.T) {
		b.EveryScreen("verifier")
		if s := p.judge(); !strings.Contains(s.Message, "no evidence") {
			t.Errorf("found %v", s)
		}
		b.Quiet("the page")
	})
	run("policy", func(t *testing.T) { pageIsStrict(t, p) })
	run("published", func(t *testing.T) {
		for _, c := range publishedCases {
			in, want := c.input(t), c.verdict(t)
			restore := p.clock(in.At)
			p.fresh()
			p.files("evidence", file(c.evidence, in.Evidence))
			var names []string
			for _, f := range in.Collateral {
				names = append(names, file(f.Name, f.Bytes))
			}
			p.Eval("document.getElementById('more').open = true", nil)
			if names != nil {
				p.files("collateral", names...)
			}
			p.Eval("document.getElementById('platform').checked = true", nil)
			s := p.judge()
			if s.Outcome != "outcome "+string(want.Outcome) || s.JSON != want.json || len(s.Checks) != len(want.Checks) {
				t.Errorf("%s: the page says %q %s, attest says %s\n%s", c.name, s.Outcome, s.Headline, want.Outcome, s.Message)
			}
			if !strings.Contains(s.Facts, in.At.UTC().Format(time.RFC3339)) {
				t.Errorf("%s: the time is not shown: %s", c.name, s.Facts)
			}
			restore()
		}
		b.EveryScreen("verifier-published")
		b.Quiet("published evidence")
	})
	run("pasted", func(t *testing.T) {
		p.Eval("document.getElementById('paste').open = document.getElementById('more').open = true", nil)
		p.set("pasted", hex.EncodeToString(k.evidence("file", nonce)))
		p.set("policy", k.policy(""))
		p.set("nonce", hex.EncodeToString(nonce))
		s := p.judge()
		if s.Outcome != "outcome admitted" || s.Words != "admitted" || !s.Simulated || s.Unbound {
			t.Errorf("found %v", s)
		}
		var focus string
		if b.Eval("document.activeElement.id", &focus); focus != "verdict" {
			t.Errorf("after the verdict the focus is on %q", focus)
		}
		for i, c := range s.Checks {
			if c.Sign == "" || c.Word == "" {
				t.Errorf("check %d is without a sign or a word: %+v", i, c)
			}
		}
		bad := k.evidence("file", nonce)
		bad[bytes.Index(bad, nonce)] ^= 1
		p.set("pasted", hex.EncodeToString(bad))
		if s := p.judge(); s.Outcome != "outcome not_genuine" || s.Words != "NOT GENUINE" {
			t.Errorf("tampered: found %v", s)
		}
		p.set("keep", "https://keep.example")
		if s := p.judge(); !strings.Contains(s.Message, "One piece of evidence") {
			t.Errorf("two at once: found %v", s)
		}
		b.Quiet("pasted evidence")
	})
	run("hostile", func(t *testing.T) { // T30
		evil := "<img src=x onerror=alert(1)><script>alert(1)</script>\u202e\x1b[2J"
		p.Eval("document.getElementById('more').open = true", nil)
		p.files("evidence", file("evil<b>.bin", []byte(evil)))
		p.files("collateral", file("<img src=x>\u202e.pem", []byte("nothing")))
		p.set("policy", k.policy("[[waive]]\ncheck = \"nonce\"\nreason = "+quoted(evil)))
		s := p.judge()
		var n int
		if b.Eval(`document.querySelectorAll('main script, main img, main b').length`, &n); n != 0 || s.Outcome != "outcome not_genuine" || strings.ContainsAny(b.Text(), "\u202e\x1b") {
			t.Errorf("found %d elements of hostile text, %v", n, s)
		}
		b.Quiet("hostile text")
	})
	run("keep", func(t *testing.T) { pageAsksKeeps(t, p, k) })
	run("neighbour", func(t *testing.T) { pageNextToTheKeep(t, p, k) })
}

// pageIsStrict: no script but the page's own runs, and nothing is written as markup.
func pageIsStrict(t *testing.T, p page) {
	for what, script := range map[string]string{
		"inline script":  `(() => { const s = document.createElement('script'); s.textContent = 'globalThis.evil = 1'; document.body.append(s) })()`,
		"inline style":   `document.body.setAttribute('style', 'color: red')`,
		"a handler":      `(() => { const b = document.createElement('button'); b.setAttribute('onclick', 'globalThis.evil = 1'); document.body.append(b); b.click() })()`,
		"a foreign site": `fetch('http://192.0.2.1/').catch(() => 0)`,
	} {
		p.Eval(`void (async () => { try { await (`+script+`) } catch {} })()`, nil)
		var complaints []string
		for end := time.Now().Add(10 * time.Second); len(complaints) == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			complaints = p.Complaints()
		}
		var evil bool
		if p.Eval("globalThis.evil === 1", &evil); evil || len(complaints) == 0 {
			t.Errorf("%s: it runs: %v; the browser complains: %q", what, evil, complaints)
		}
	}
}

// pageNextToTheKeep: a page from another port of the Keep's own machine says so.
func pageNextToTheKeep(t *testing.T, p page, k *keep) {
	here := &pretender{}
	here.set(func(w http.ResponseWriter, r *http.Request) {
		n, _ := hex.DecodeString(r.URL.Query().Get("nonce"))
		_, _ = w.Write(k.evidence("http", n))
	})
	server := httptest.NewTLSServer(here)
	defer server.Close()
	named := func(url string) string { return strings.Replace(url, "127.0.0.1", "keep.example", 1) }
	for _, c := range []struct {
		page, keep string
		near       bool
	}{{named(p.url), named(server.URL), true}, {named(p.url), server.URL, false}, {p.url, named(server.URL), false}} {
		page{p.Browser, c.page}.fresh()
		p.set("keep", c.keep)
		p.set("policy", k.policy(""))
		if s := p.judge(); s.Outcome != "outcome cannot_tell" || s.Neighbour != c.near {
			t.Errorf("%s from %s: found %v, a neighbour: %v", c.keep, c.page, s, s.Neighbour)
		}
	}
	page{p.Browser, named(p.url)}.fresh() // T17: a name with a dot at its end is another origin, and the same place
	p.set("keep", strings.Replace(p.url, "127.0.0.1", "keep.example.", 1))
	if s := p.judge(); !strings.Contains(s.Message, "comes from that very address") {
		t.Errorf("the page's own address with a dot: found %v", s)
	}
}

func pageAsksKeeps(t *testing.T, p page, k *keep) {
	other := newKeep(t)
	here := &pretender{}
	honest := func(w http.ResponseWriter, r *http.Request) {
		n, _ := hex.DecodeString(r.URL.Query().Get("nonce"))
		_, _ = w.Write(k.evidence("http", n))
	}
	here.set(honest)
	server := httptest.NewTLSServer(here)
	defer server.Close()
	p.set("keep", server.URL)
	p.set("policy", k.policy(""))
	for range 2 {
		s := p.judge()
		if s.Outcome != "outcome cannot_tell" || s.Words != "CANNOT TELL" || !s.Unbound || !s.Simulated || s.word(verdict.ChannelBinding) != "NOT MADE" || s.Neighbour ||
			!strings.Contains(s.Headline, "NOT shown") {
			t.Errorf("an honest Keep: found %v", s)
		}
	}
	p.EveryScreen("verifier-keep")
	p.Quiet("an honest Keep")
	here.mu.Lock()
	if a := here.asked; len(a) != 2 || a[0] == a[1] || len(a[0]) != 64 {
		t.Errorf("the nonces: found %q", a)
	}
	if c := here.seen; c.Get("Cookie") != "" || c.Get("Referer") != "" {
		t.Errorf("the Keep is told %v", c)
	}
	here.mu.Unlock()
	recorded := k.evidence("http", nonce)
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		outcome string // "": a message
		says    string
	}{
		"a recording": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(recorded) }, "not_genuine", string(verdict.Nonce)},
		"another Keep's": {func(w http.ResponseWriter, r *http.Request) {
			n, _ := hex.DecodeString(r.URL.Query().Get("nonce"))
			_, _ = w.Write(other.evidence("http", n))
		}, "not_genuine", string(verdict.TrustedRoot)},
		"of another purpose": {func(w http.ResponseWriter, r *http.Request) {
			n, _ := hex.DecodeString(r.URL.Query().Get("nonce"))
			_, _ = w.Write(k.evidence("file", n))
		}, "not_genuine", string(verdict.Purpose)},
		"a flipped bit": {func(w http.ResponseWriter, r *http.Request) {
			n, _ := hex.DecodeString(r.URL.Query().Get("nonce"))
			b := k.evidence("http", n)
			b[len(b)/3] ^= 4
			_, _ = w.Write(b)
		}, "not_genuine", ""},
		"nothing":   {func(http.ResponseWriter, *http.Request) {}, "", "no evidence"},
		"too much":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, bytes.NewReader(make([]byte, 1<<20))) }, "", "more than"},
		"busy":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "", "busy"},
		"not there": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "", "status 404"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<script>alert(1)</script>")
		}, "", "no evidence of a Keep"},
		"no leave": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Del("Access-Control-Allow-Origin")
			honest(w, r)
		}, "", "No answer that a browser takes"},
		"sent elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "", "No answer that a browser takes"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "", "broke off"},
	} {
		here.set(c.answer)
		s := p.judge()
		if c.outcome == "" && !strings.Contains(s.Message, c.says) || c.outcome != "" && (s.Outcome != "outcome "+c.outcome || c.says != "" && s.word(verdict.Code(c.says)) != "FAILED") {
			t.Errorf("%s: found %q %q %q %v", name, s.Outcome, s.Headline, s.Message, s.Checks)
		}
	}
	_ = p.Complaints() // the browser says what it refused
	for address, says := range map[string]string{
		p.url: "comes from that very address", // T17
		strings.TrimPrefix(strings.TrimSuffix(p.url, "/index.html"), "https://") + "/x": "comes from that very address",
		"http://" + strings.TrimPrefix(server.URL, "https://"):                          "over https",
		"https://user:pw@keep.example":                                                  "name or a password",
		"https://":                                                                      "no address",
		"javascript:alert(1)":                                                           "",
	} {
		p.set("keep", address)
		if s := p.judge(); !strings.Contains(s.Message, says) || s.Message == "" {
			t.Errorf("%s: found %v", address, s)
		}
	}
	_ = p.Complaints()
}
