package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/web/browser"
)

func TestInBrowser(t *testing.T) {
	b := browser.New(t)
	v := good(t)
	f := newFixture(t, false, func(o *Options) {
		o.Verify = func(_ context.Context, s Submission) *verdict.Verdict {
			var verifier attest.Verifier
			return verifier.Verify(s.Evidence, attest.Options{At: v.At, Collateral: v.Collateral, PlatformOnly: true, SimulatedRoots: v.Roots})
		}
	})
	server := httptest.NewTLSServer(f.handler)
	defer server.Close()
	b.Screen(1200, 900, "light")

	// The listener hears what it must: a page that its policy stops.
	b.Open(server.URL + "/sign-in")
	b.Quiet("/sign-in")
	b.Eval(`void document.body.insertAdjacentHTML('beforeend', '<p style="color:red">x</p>')`, nil)
	if got := strings.Join(b.Complaints(), " "); !strings.Contains(got, "style-src") {
		t.Errorf("a style in the page: the browser says %q, wanted a violation of the policy", got)
	}

	var c struct{ Bad []string }
	b.Eval(`document.querySelector('main h1 + p').style.color = '#aaa'`, nil)
	if b.Eval(browser.Contrasts, &c); len(c.Bad) == 0 {
		t.Errorf("a text in light grey: found %q, wanted it named", c.Bad)
	}

	b.Open(server.URL + "/")
	t.Run("form", func(t *testing.T) { b.T = t; dropEvidence(b, v.Evidence) })
	t.Run("phone verdict", func(t *testing.T) { b.T = t; b.EveryScreen("verdict") })
	t.Run("sign in", func(t *testing.T) { b.T = t; signInByKeyboard(b, server.URL) })
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
			b.T = t
			b.Open(server.URL + p)
			b.EveryScreen(name)
			b.Quiet(p)
		})
	}
	b.T = t
	t.Run("hostile", func(t *testing.T) {
		b.T = t
		bad := newFixture(t, true, func(o *Options) { o.AllowSimulated = true })
		server := httptest.NewTLSServer(bad.handler)
		defer server.Close()
		signInByKeyboard(b, server.URL)
		for _, p := range []string{"/", "/decisions", "/decisions/4", "/workloads/" + digestOf(0), "/collateral"} {
			b.Open(server.URL + p)
			b.EveryScreen("hostile" + strings.ReplaceAll(p, "/", "-")[:min(len(p), 6)])
			var n int
			if b.Eval(`document.querySelectorAll('script, style, [data-evil], [onmouseover]').length`, &n); n != 0 {
				t.Errorf("%s: found %d elements of hostile text", p, n)
			}
			b.Quiet(p)
		}
	})
	b.T = t
}

func signInByKeyboard(b *browser.Browser, url string) {
	b.T.Helper()
	b.Open(url + "/decisions")
	b.Key("Tab")
	var f browser.Focused
	if b.Eval(browser.Focus, &f); f.Text != "Skip to the content" || !f.Seen {
		b.T.Errorf("the first Tab leads to %+v, wanted the skip link", f)
	}
	b.Key("Enter")
	b.TabTo("the token", func(f browser.Focused) bool { return f.ID == "token" })
	b.Call("Input.insertText", map[string]any{"text": testToken}, nil)
	b.Loads(func() { b.Key("Enter") })
	var path string
	if b.Eval("location.pathname", &path); path != "/decisions" || !strings.Contains(b.Text(), "newest first") {
		b.T.Fatalf("sign-in by keyboard leads to %s: %s", path, b.Text())
	}
	var cookies string
	if b.Eval("document.cookie", &cookies); cookies != "" {
		b.T.Errorf("scripts could read the cookies %q", cookies)
	}
	b.Quiet("sign-in")
}

// dropEvidence drops a file on the form's field with the mouse and sends it with the
// keyboard.
func dropEvidence(b *browser.Browser, evidence []byte) {
	b.T.Helper()
	file := filepath.Join(b.T.TempDir(), "evidence.bin")
	if err := os.WriteFile(file, evidence, 0o600); err != nil {
		b.T.Fatal(err)
	}
	var at struct{ X, Y float64 }
	b.Eval(`(() => { const r = document.getElementById('evidence').getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2} })()`, &at)
	for _, kind := range []string{"dragEnter", "dragOver", "drop"} {
		b.Call("Input.dispatchDragEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y,
			"data": map[string]any{"items": []any{}, "files": []string{file}, "dragOperationsMask": 1}}, nil)
	}
	var names json.RawMessage
	if b.Eval(`[...document.getElementById('evidence').files].map(f => f.name + ' ' + f.size)`, &names); !bytes.Contains(names, []byte("evidence.bin")) {
		b.T.Fatalf("the field holds %s after the drop", names)
	}
	b.TabTo("the button", func(f browser.Focused) bool { return f.Tag == "BUTTON" && f.Text == "Judge it" })
	b.Loads(func() { b.Key("Enter") })
	text := b.Text()
	for _, want := range []string{"SIMULATED.", "Chain of trust", "Vendor root", "Endorsed key", "evidence.bin", verdict.Digest(evidence)} {
		if !strings.Contains(text, want) {
			b.T.Errorf("the verdict does not show %q", want)
		}
	}
	b.Quiet("verdict")
}
