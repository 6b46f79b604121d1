package web

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

// adminPages are all addresses of an administrator, variants included.
func adminPages(m *memory) []string {
	out := []string{"/", "/?span=hours", "/verify", "/decisions", "/decisions?outcome=refused&tee=sgx&simulated=no&from=2026-11-01&to=2026-11-20", "/decisions?before=50",
		"/decisions?tee=bogus", "/workloads", "/workloads/" + digestOf(0), "/workloads/" + digestOf(0) + "?version=1", "/workloads/" + digestOf(1),
		"/certificates", "/certificates?within=1", "/collateral", "/nothing-here"}
	for _, p := range m.policies {
		out = append(out, "/workloads/"+url.PathEscape(p.Workload))
	}
	for _, seq := range []int{4, 9, 31, 72, 1, 2, 23, 36, 84, 92, 124, 136} {
		out = append(out, fmt.Sprintf("/decisions/%d", seq))
	}
	return out
}

var (
	tags      = regexp.MustCompile(`<[a-zA-Z/!][^>]*>`)
	bare      = regexp.MustCompile(`\s(on[a-z]+|style|srcdoc)\s*=`)
	ids       = regexp.MustCompile(`\sid="([^"]*)"`)
	fors      = regexp.MustCompile(`\s(?:for|aria-labelledby|aria-describedby)="([^"]*)"`)
	links     = regexp.MustCompile(`\s(?:href|src|action)="([^"]*)"`)
	quotedAll = regexp.MustCompile(`="[^"]*"`)
)

// lint holds a page against what every page must be.
func lint(t *testing.T, name, page string) {
	t.Helper()
	for _, w := range []string{"<!doctype html>", `<html lang="en">`, `name="viewport" content="width=device-width, initial-scale=1"`, `<main id="main"`, `class="skip" href="#main"`} {
		if n := strings.Count(page, w); n != 1 {
			t.Errorf("%s: found %q %d times, wanted once", name, w, n)
		}
	}
	if n := strings.Count(page, "<h1"); n != 1 {
		t.Errorf("%s: found %d h1, wanted one", name, n)
	}
	if a, b := strings.Count(page, "<table"), strings.Count(page, "<caption"); a != b {
		t.Errorf("%s: found %d tables and %d captions", name, a, b)
	}
	for _, tag := range tags.FindAllString(page, -1) {
		plain := quotedAll.ReplaceAllString(tag, `=""`)
		if low := strings.ToLower(plain); strings.HasPrefix(low, "<script") || strings.HasPrefix(low, "<style") || bare.MatchString(low) || strings.Contains(low, "data-evil") {
			t.Errorf("%s: found %s", name, tag)
		}
		for _, l := range links.FindAllStringSubmatch(tag, -1) {
			if u := html.UnescapeString(l[1]); !strings.HasPrefix(u, "/") && !strings.HasPrefix(u, "#") || strings.HasPrefix(u, "//") {
				t.Errorf("%s: found the address %q", name, u)
			}
		}
	}
	seen := map[string]bool{}
	for _, m := range ids.FindAllStringSubmatch(page, -1) {
		if seen[m[1]] {
			t.Errorf("%s: found the id %q twice", name, m[1])
		}
		seen[m[1]] = true
	}
	for _, m := range fors.FindAllStringSubmatch(page, -1) {
		for _, id := range strings.Fields(m[1]) {
			if !seen[id] {
				t.Errorf("%s: nothing has the id %q that a label names", name, id)
			}
		}
	}
	for _, tag := range regexp.MustCompile(`<(?:input|select)[^>]*>`).FindAllString(page, -1) {
		id := ids.FindStringSubmatch(tag)
		if strings.Contains(tag, `type="hidden"`) {
			continue
		}
		if id == nil || !strings.Contains(page, `<label for="`+id[1]+`"`) {
			t.Errorf("%s: %s has no label", name, tag)
		}
	}
	for i, r := range page {
		if r < 0x20 && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\u2028' || r == 0xfffd {
			t.Errorf("%s: found the character %U at %d", name, r, i)
			break
		}
	}
}

func checkHeaders(t *testing.T, name string, h http.Header) {
	t.Helper()
	csp := h.Values("Content-Security-Policy")
	if len(csp) != 1 || !strings.HasPrefix(csp[0], "default-src 'none';") || strings.Contains(csp[0], "unsafe") ||
		!strings.Contains(csp[0], "frame-ancestors 'none'") || !strings.Contains(csp[0], "form-action 'self'") || !strings.Contains(csp[0], "base-uri 'none'") {
		t.Errorf("%s: found the policy %q", name, csp)
	}
	for k, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
		if got := h.Get(k); got != want {
			t.Errorf("%s: %s: found %q, wanted %q", name, k, got, want)
		}
	}
}

func TestEveryPage(t *testing.T) {
	for _, bad := range []bool{false, true} {
		f := newFixture(t, bad, func(o *Options) { o.AllowSimulated = bad })
		visitor, admin := f.client(t), f.admin(t)
		for _, p := range []string{"/", "/verify", "/sign-in", "/sign-in?next=" + url.QueryEscape(hostile), "/none", "/assets/none", "/" + url.PathEscape(hostile)} {
			w := visitor.get(p)
			checkHeaders(t, p, w.Header())
			lint(t, p, w.Body.String())
		}
		for _, p := range adminPages(f.memory) {
			if bad {
				p = strings.ReplaceAll(p, "&to=", "&instance="+url.QueryEscape(hostile)+"&to=")
			}
			w := admin.get(p)
			checkHeaders(t, p, w.Header())
			lint(t, p, w.Body.String())
			if w.Code >= 500 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: found status %d, Cache-Control %q", p, w.Code, w.Header().Get("Cache-Control"))
			}
			if !strings.Contains(w.Body.String(), "Sign out") {
				t.Errorf("%s: no way to sign out", p)
			}
			if bad && !strings.Contains(w.Body.String(), "admitted by this Steward") {
				t.Errorf("%s: does not say that simulated evidence is admitted", p)
			}
		}
		if bad {
			for p, want := range map[string]string{"/decisions/4": `\u202eevil\u001b[31m\u0000\u2028\u0007&lt;script&gt;`, "/": `\u202eevil`, "/collateral": `\u202eevil`, "/workloads/" + digestOf(0): `\u202eevil`} {
				if !strings.Contains(admin.get(p).Body.String(), want) {
					t.Errorf("%s: does not show hostile text as escapes", p)
				}
			}
		}
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New made pages without a way to hash tokens")
		}
	}()
	New(Options{Store: &memory{}, Verify: func(context.Context, Submission) *verdict.Verdict { return nil }})
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
	}{"tampered": {store.ErrTampered, 500}, "unavailable": {fmt.Errorf("x: %w", store.ErrUnavailable), 503}, "busy": {store.ErrBusy, 503}, "other": {errors.New("secret detail"), 500}} {
		f := newFixture(t, false, nil)
		a := f.admin(t)
		f.err = c.err
		for _, p := range []string{"/", "/decisions", "/sign-in"} {
			w := a.get(p)
			if w.Code != c.code || strings.Contains(w.Body.String(), "secret detail") {
				t.Errorf("%s, %s: found %d, wanted %d", name, p, w.Code, c.code)
			}
			checkHeaders(t, p, w.Header())
			lint(t, p, w.Body.String())
		}
	}
}
