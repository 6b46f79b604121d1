package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// contrasts is a script that gives every text on the page whose contrast with what is
// behind it is under its bound (WCAG 2.2, 1.4.3: 4.5, large text 3), and the least
// that was found.
const contrasts = `(() => {
  const rgb = s => { const m = s.match(/^rgba?\(([^)]*)\)$/); return m ? m[1].split(/[ ,/]+/).map(Number) : null };
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c && (c.length < 4 || c[3] === 1)) return c; if (!c || c[3] !== 0) return null } return null };
  const out = { least: 99, texts: 0, bad: [] };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement, s = getComputedStyle(e);
    if (!n.data.trim() || !e.getClientRects().length || s.visibility === 'hidden' || e.closest('.hidden, title, script, style')) continue;
    const svg = e.closest('svg');
    const front = rgb(svg ? s.fill : s.color), back = behind(svg || e);
    const large = parseFloat(s.fontSize) >= 24 || parseFloat(s.fontSize) >= 18.66 && parseInt(s.fontWeight) >= 700;
    const r = front && back ? ratio(front, back) : 0;
    out.texts++; out.least = Math.min(out.least, r);
    if (r < (large ? 3 : 4.5)) out.bad.push(r.toFixed(2) + ' ' + n.data.trim().slice(0, 40));
  }
  return out;
})()`

// focus says what has the keyboard's focus, and whether that can be seen.
const focus = `(() => { const e = document.activeElement, s = getComputedStyle(e);
  return { tag: e.tagName, id: e.id, text: (e.innerText || e.getAttribute('aria-label') || '').trim().slice(0, 60), href: e.getAttribute('href') || '',
    seen: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 } })()`

type focused struct {
	Tag, ID, Text, Href string
	Seen                bool
}

// tabTo presses Tab until what is wanted has the focus.
func (b *browser) tabTo(what string, is func(focused) bool) {
	b.t.Helper()
	for range 60 {
		b.key("Tab")
		var f focused
		b.eval(focus, &f)
		if f.Tag != "BODY" && !f.Seen {
			b.t.Errorf("the focus on %s %q cannot be seen", f.Tag, f.Text+f.ID)
		}
		if is(f) {
			return
		}
	}
	b.t.Fatalf("the keyboard does not reach %s", what)
}

func (b *browser) quiet(name string) {
	b.t.Helper()
	if got := b.complaints(); len(got) > 0 {
		b.t.Errorf("%s: the browser complains: %s", name, strings.Join(got, "; "))
	}
}

func TestInBrowser(t *testing.T) {
	b := newBrowser(t)
	v := good(t)
	f := newFixture(t, false, func(o *Options) {
		o.Verify = func(_ context.Context, s Submission) *verdict.Verdict {
			var verifier attest.Verifier
			return verifier.Verify(s.Evidence, attest.Options{At: v.At, Collateral: v.Collateral, PlatformOnly: true, SimulatedRoots: v.Roots})
		}
	})
	server := httptest.NewTLSServer(f.handler)
	defer server.Close()
	b.screen(1200, 900, "light")

	// The listener hears what it must: a page that its policy stops.
	b.open(server.URL + "/sign-in")
	b.quiet("/sign-in")
	b.eval(`void document.body.insertAdjacentHTML('beforeend', '<p style="color:red">x</p>')`, nil)
	if got := strings.Join(b.complaints(), " "); !strings.Contains(got, "style-src") {
		t.Errorf("a style in the page: the browser says %q, wanted a violation of the policy", got)
	}

	var c struct{ Bad []string }
	b.eval(`document.querySelector('main h1 + p').style.color = '#aaa'`, nil)
	if b.eval(contrasts, &c); len(c.Bad) == 0 {
		t.Errorf("a text in light grey: found %q, wanted it named", c.Bad)
	}

	b.open(server.URL + "/")
	t.Run("form", func(t *testing.T) { b.t = t; dropEvidence(b, v.Evidence) })
	t.Run("phone verdict", func(t *testing.T) { b.t = t; everyScreen(b, "verdict") })
	t.Run("sign in", func(t *testing.T) { b.t = t; signInByKeyboard(b, server.URL) })
	seen := 0
	for _, p := range adminPages(f.memory) {
		if strings.HasPrefix(p, "/nothing") || strings.Contains(p, "bogus") {
			continue // a status of 404 or 400 is itself an error on the console
		}
		if strings.HasPrefix(p, "/decisions/") {
			if seen++; seen > 4 {
				continue // each takes seconds, and the tests of the handler see all
			}
		}
		name := strings.Trim(strings.NewReplacer("/", "-", "?", "-", "&", "-", "=", "-", ":", "-", digestOf(0), "w0", digestOf(1), "w1").Replace(p), "-")
		if name == "" {
			name = "overview"
		}
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.open(server.URL + p)
			everyScreen(b, name)
			b.quiet(p)
		})
	}
	b.t = t
	t.Run("hostile", func(t *testing.T) {
		b.t = t
		bad := newFixture(t, true, func(o *Options) { o.AllowSimulated = true })
		server := httptest.NewTLSServer(bad.handler)
		defer server.Close()
		signInByKeyboard(b, server.URL)
		for _, p := range []string{"/", "/decisions", "/decisions/4", "/workloads/" + digestOf(0), "/collateral"} {
			b.open(server.URL + p)
			everyScreen(b, "hostile"+strings.ReplaceAll(p, "/", "-")[:min(len(p), 6)])
			var n int
			if b.eval(`document.querySelectorAll('script, style, [data-evil], [onmouseover]').length`, &n); n != 0 {
				t.Errorf("%s: found %d elements of hostile text", p, n)
			}
			b.quiet(p)
		}
	})
	b.t = t
}

// everyScreen looks at the page that is open on a phone and on a desk, light and dark.
func everyScreen(b *browser, name string) {
	b.t.Helper()
	shots := map[string][]byte{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{360, 1200} {
			b.screen(width, 900, scheme)
			b.eval(`document.querySelectorAll('details').forEach(d => d.open = `+map[bool]string{true: "true", false: "false"}[width == 360]+`)`, nil)
			var wide struct {
				Page  int
				Which []string
			}
			b.eval(`({page: document.documentElement.scrollWidth, which: [...document.querySelectorAll('body *')].filter(e => !e.closest('.hidden, thead, svg') && e.getBoundingClientRect().right > `+strconv.Itoa(width)+` + 0.5).slice(0, 5).map(e => e.tagName + '.' + e.className)})`, &wide)
			if wide.Page > width || len(wide.Which) > 0 {
				b.t.Errorf("%s at %d: the page is %d wide: %v", name, width, wide.Page, wide.Which)
			}
			var c struct {
				Least float64
				Texts int
				Bad   []string
			}
			b.eval(contrasts, &c)
			if len(c.Bad) > 0 || c.Texts < 5 {
				b.t.Errorf("%s, %s, %d: of %d texts these have too little contrast: %q", name, scheme, width, c.Texts, c.Bad)
			}
			if width == 1200 || os.Getenv("DONJON_WEB_SHOTS") != "" {
				shots[scheme] = b.shot(name + "-" + scheme + map[int]string{360: "-phone"}[width])
			}
		}
	}
	if bytes.Equal(shots["light"], shots["dark"]) {
		b.t.Errorf("%s: light and dark look the same", name)
	}
	b.screen(1200, 900, "light")
}

func signInByKeyboard(b *browser, url string) {
	b.t.Helper()
	b.open(url + "/decisions")
	b.key("Tab")
	var f focused
	if b.eval(focus, &f); f.Text != "Skip to the content" || !f.Seen {
		b.t.Errorf("the first Tab leads to %+v, wanted the skip link", f)
	}
	b.key("Enter")
	b.tabTo("the token", func(f focused) bool { return f.ID == "token" })
	b.call("Input.insertText", map[string]any{"text": testToken}, nil)
	b.loads(func() { b.key("Enter") })
	var path string
	if b.eval("location.pathname", &path); path != "/decisions" || !strings.Contains(b.text(), "newest first") {
		b.t.Fatalf("sign-in by keyboard leads to %s: %s", path, b.text())
	}
	var cookies string
	if b.eval("document.cookie", &cookies); cookies != "" {
		b.t.Errorf("scripts could read the cookies %q", cookies)
	}
	b.quiet("sign-in")
}

// dropEvidence drops a file on the form's field with the mouse and sends it with the
// keyboard.
func dropEvidence(b *browser, evidence []byte) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "evidence.bin")
	if err := os.WriteFile(file, evidence, 0o600); err != nil {
		b.t.Fatal(err)
	}
	var at struct{ X, Y float64 }
	b.eval(`(() => { const r = document.getElementById('evidence').getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2} })()`, &at)
	for _, kind := range []string{"dragEnter", "dragOver", "drop"} {
		b.call("Input.dispatchDragEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y,
			"data": map[string]any{"items": []any{}, "files": []string{file}, "dragOperationsMask": 1}}, nil)
	}
	var names json.RawMessage
	if b.eval(`[...document.getElementById('evidence').files].map(f => f.name + ' ' + f.size)`, &names); !bytes.Contains(names, []byte("evidence.bin")) {
		b.t.Fatalf("the field holds %s after the drop", names)
	}
	b.tabTo("the button", func(f focused) bool { return f.Tag == "BUTTON" && f.Text == "Judge it" })
	b.loads(func() { b.key("Enter") })
	text := b.text()
	for _, want := range []string{"SIMULATED.", "Chain of trust", "Vendor root", "Endorsed key", "evidence.bin", verdict.Digest(evidence)} {
		if !strings.Contains(text, want) {
			b.t.Errorf("the verdict does not show %q", want)
		}
	}
	b.quiet("verdict")
}
