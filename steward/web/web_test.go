package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

// fixture is a site with a clock that the test moves.
type fixture struct {
	*memory
	now     time.Time
	log     bytes.Buffer
	handler http.Handler
	judged  int // calls of Verify
}

func newFixture(t testing.TB, bad bool, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{memory: newMemory(t, bad), now: testNow}
	var verifier attest.Verifier
	v := good(t)
	o := Options{
		Store: f.memory,
		Verify: func(_ context.Context, s Submission) *verdict.Verdict {
			f.judged++
			// The synthetic vectors' time: what is dropped here is one of them.
			return verifier.Verify(s.Evidence, attest.Options{At: v.At, Collateral: s.Collateral, PlatformOnly: true, SimulatedRoots: v.Roots})
		},
		Collateral: func(context.Context) ([]collateral.Line, error) { return testCollateral(bad), nil },
		TokenHash:  testHash,
		Now:        func() time.Time { return f.now },
		Log:        slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	if change != nil {
		change(&o)
	}
	f.handler = New(o)
	return f
}

// client keeps cookies as a browser would.
type client struct {
	t       testing.TB
	handler http.Handler
	cookies map[string]string
	address string
}

func (f *fixture) client(t testing.TB) *client {
	return &client{t, f.handler, map[string]string{}, "192.0.2.1:1000"}
}

func (c *client) do(method, path, kind string, body io.Reader) *httptest.ResponseRecorder {
	c.t.Helper()
	r := httptest.NewRequest(method, "https://steward.test"+path, body)
	r.RemoteAddr = c.address
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for n, v := range c.cookies {
		r.AddCookie(&http.Cookie{Name: n, Value: v})
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		if !k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || k.Domain != "" || !strings.HasPrefix(k.Name, "__Host-") {
			c.t.Errorf("%s %s: found the cookie %v", method, path, k)
		}
		if k.MaxAge < 0 {
			delete(c.cookies, k.Name)
		} else {
			c.cookies[k.Name] = k.Value
		}
	}
	return w
}

func (c *client) get(path string) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.do("GET", path, "", nil)
}

func (c *client) post(path string, form url.Values) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.do("POST", path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

// field is a hidden field of the form that goes to action.
func field(page, action string) string {
	_, rest, _ := strings.Cut(page, `action="`+action+`"`)
	m := regexp.MustCompile(`name="form" value="([^"]*)"`).FindStringSubmatch(rest)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func (c *client) signIn(token, next string) *httptest.ResponseRecorder {
	c.t.Helper()
	form := field(c.get("/sign-in").Body.String(), "/sign-in")
	return c.post("/sign-in", url.Values{"form": {form}, "token": {token}, "next": {next}})
}

func (f *fixture) admin(t testing.TB) *client {
	t.Helper()
	c := f.client(t)
	if w := c.signIn(testToken, ""); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Fatalf("sign-in: found %d %q", w.Code, w.Header().Get("Location"))
	}
	return c
}

// upload sends the public form: parts are field, file name, content.
func (c *client) upload(form string, parts ...[3]string) *httptest.ResponseRecorder {
	c.t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	if form != "-" {
		_ = m.WriteField("form", form)
	}
	for _, p := range parts {
		w, err := m.CreateFormFile(p[0], p[1])
		if err != nil {
			c.t.Fatal(err)
		}
		_, _ = io.WriteString(w, p[2])
	}
	_ = m.Close()
	return c.do("POST", "/verify", m.FormDataContentType(), &b)
}

func (c *client) verifyField() string {
	c.t.Helper()
	return field(c.get("/verify").Body.String(), "/verify")
}

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

// TestAuthOnEachRoute walks the table of routes: without a session nothing is looked
// up and nothing of it is seen.
func TestAuthOnEachRoute(t *testing.T) {
	f := newFixture(t, false, nil)
	for i := range f.tokens {
		f.tokens = append(f.tokens, store.Token{ID: "old", Hash: testHash("expired"), Scopes: f.tokens[i].Scopes, Expires: testNow},
			store.Token{ID: "revoked", Hash: testHash("revoked"), Scopes: f.tokens[i].Scopes, Revoked: testNow.Add(-time.Hour)},
			store.Token{ID: "secrets", Hash: testHash("no-read"), Scopes: []store.Scope{store.ScopeSecret, store.ScopeAdmin}})
	}
	fill := strings.NewReplacer("{$}", "", "{seq}", "130", "{subject}", digestOf(0), "{name}", "style.css")
	public := map[string]bool{"GET /{$}": true, "GET /verify": true, "POST /verify": true, "GET /sign-in": true, "POST /sign-in": true, "GET /assets/{name}": true, "/": true}
	for _, r := range table() {
		if r.public != public[r.pattern] {
			t.Errorf("%s: public is %v", r.pattern, r.public)
		}
		method, path, ok := strings.Cut(r.pattern, " ")
		if !ok {
			method, path = "DELETE", "/decisions"
		}
		path = fill.Replace(path)
		for name, cookie := range map[string]string{"none": "", "made up": strings.Repeat("A", 43), "malformed": "x'--DROP"} {
			c := f.client(t)
			if cookie != "" {
				c.cookies[sessionCookie] = cookie
			}
			before := f.reads
			w := c.do(method, path, "application/x-www-form-urlencoded", nil)
			checkHeaders(t, r.pattern, w.Header())
			if f.reads != before {
				t.Errorf("%s, cookie %s: the store was read", r.pattern, name)
			}
			switch {
			case !r.public && method == "GET" && (w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/sign-in")):
				t.Errorf("%s, cookie %s: found %d, wanted the way to sign in", r.pattern, name, w.Code)
			case !r.public && method != "GET" && w.Code != http.StatusForbidden:
				t.Errorf("%s, cookie %s: found %d, wanted 403", r.pattern, name, w.Code)
			}
			if strings.Contains(w.Body.String(), "Decisions") || strings.Contains(w.Body.String(), "Sign out") {
				t.Errorf("%s, cookie %s: a visitor sees an administrator's page", r.pattern, name)
			}
		}
	}
	for _, token := range []string{"", "wrong", "expired", "revoked", "no-read", testToken + "x", strings.Repeat("x", 600), hostile} {
		c := f.client(t)
		c.address = fmt.Sprintf("192.0.2.%d:1", len(token)%250+2)
		if w := c.signIn(token, ""); w.Code != http.StatusForbidden || c.cookies[sessionCookie] != "" {
			t.Errorf("the token %q: found %d, a session %v", token, w.Code, c.cookies[sessionCookie] != "")
		}
	}
	if strings.Contains(f.log.String(), "expired") || strings.Contains(f.log.String(), testToken) {
		t.Error("a token stands in the log")
	}
	// The file ends in a newline.
	if w := f.client(t).signIn(testToken+"\n", "/decisions/7"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/decisions/7" {
		t.Errorf("found %d to %q, wanted 303 to /decisions/7", w.Code, w.Header().Get("Location"))
	}
	for _, next := range []string{"//evil.test", "https://evil.test/", "/\\evil.test", "/sign-out", "/decisions/../x", "/decisions?x", "/decisions\r\nX: y"} {
		c := f.client(t)
		c.address = fmt.Sprintf("198.51.100.%d:1", len(next))
		if w := c.signIn(testToken, next); w.Header().Get("Location") != "/" {
			t.Errorf("next %q: found %q, wanted /", next, w.Header().Get("Location"))
		}
	}
}

func TestSession(t *testing.T) {
	f := newFixture(t, false, nil)
	a := f.admin(t)
	id := a.cookies[sessionCookie]
	if v := f.values[sessionsKey]; strings.Contains(string(v.Data), id) || len(v.Data) == 0 {
		t.Errorf("the store holds the session's id itself, or nothing: %s", v.Data)
	}
	signedIn := func(c *client) bool { return c.get("/decisions").Code == http.StatusOK }
	if !signedIn(a) {
		t.Fatal("not signed in")
	}
	// Another replica on the same store knows the session.
	other := &client{t, New(Options{Store: f.memory, TokenHash: testHash, Verify: func(context.Context, Submission) *verdict.Verdict { return nil }, Now: func() time.Time { return f.now }}), a.cookies, a.address}
	if !signedIn(other) {
		t.Error("a second replica does not know the session")
	}
	// Two cookies of the name: neither is believed.
	r := httptest.NewRequest("GET", "https://steward.test/decisions", nil)
	r.Header.Set("Cookie", sessionCookie+"="+id+"; "+sessionCookie+"="+id)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	if w.Code != http.StatusSeeOther {
		t.Errorf("two session cookies: found %d", w.Code)
	}
	b := f.admin(t)
	if b.cookies[sessionCookie] == id {
		t.Error("two sessions have one id")
	}
	if w := b.post("/sign-out", url.Values{"form": {field(a.get("/").Body.String(), "/sign-out")}}); w.Code != http.StatusForbidden || !signedIn(b) {
		t.Errorf("sign-out with another session's field: found %d", w.Code)
	}
	keep := b.cookies[sessionCookie]
	if w := b.post("/sign-out", url.Values{"form": {field(b.get("/").Body.String(), "/sign-out")}}); w.Code != http.StatusSeeOther || b.cookies[sessionCookie] != "" {
		t.Errorf("sign-out: found %d", w.Code)
	}
	b.cookies[sessionCookie] = keep
	if signedIn(b) {
		t.Error("a session that was signed out still holds")
	}
	f.now = testNow.Add(sessionLife - time.Second)
	if !signedIn(a) {
		t.Error("the session ended too early")
	}
	f.tokens[0].Revoked = f.now
	if signedIn(a) {
		t.Error("a session outlives its token")
	}
	f.tokens[0].Revoked = time.Time{}
	f.now = testNow.Add(sessionLife)
	if signedIn(a) {
		t.Error("a session outlives its time")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	m := &memory{values: map[string]store.Value{}}
	s := storeSessions{m}
	ctx := context.Background()
	for i := range maxSessions + 20 {
		if err := s.Add(ctx, Session{Hash: [32]byte{byte(i), byte(i >> 8), 1}, Expires: testNow.Add(time.Duration(i+1) * time.Minute)}, testNow); err != nil {
			t.Fatal(err)
		}
	}
	list, _, _ := s.load(ctx)
	if len(list) != maxSessions {
		t.Errorf("found %d sessions, wanted %d", len(list), maxSessions)
	}
	m.conflicts = 2
	if err := s.Remove(ctx, list[0].Hash); err != nil {
		t.Errorf("with two conflicts: %v", err)
	}
	m.conflicts = 100
	if err := s.Add(ctx, Session{}, testNow); !errors.Is(err, store.ErrBusy) {
		t.Errorf("with conflicts for ever: found %v, wanted ErrBusy", err)
	}
	m.conflicts = 0
	m.values[sessionsKey] = store.Value{Data: []byte("{damaged"), Version: m.values[sessionsKey].Version}
	if got, err := s.Find(ctx, list[1].Hash); got != nil || err != nil {
		t.Errorf("damaged: found %v, %v", got, err)
	}
	if err := s.Add(ctx, Session{Hash: [32]byte{9}, Expires: testNow.Add(time.Hour)}, testNow); err != nil {
		t.Errorf("damaged sessions keep everybody out: %v", err)
	}
}

func TestFormTokens(t *testing.T) {
	f := newFixture(t, false, nil)
	c := f.client(t)
	for name, form := range map[string]string{"none": "", "made up": "AAAA", "of another form": c.verifyField()} {
		if w := c.post("/sign-in", url.Values{"form": {form}, "token": {testToken}}); w.Code != http.StatusForbidden || c.cookies[sessionCookie] != "" {
			t.Errorf("sign-in with a field %s: found %d", name, w.Code)
		}
	}
	other := f.client(t)
	if w := c.upload(other.verifyField(), [3]string{"evidence", "x", "y"}); w.Code != http.StatusForbidden || f.judged != 0 {
		t.Errorf("the form with another visitor's field: found %d, judged %d", w.Code, f.judged)
	}
	// In the address it does not count.
	if w := c.do("POST", "/sign-in?form="+field(c.get("/sign-in").Body.String(), "/sign-in")+"&token="+testToken, "application/x-www-form-urlencoded", nil); w.Code != http.StatusForbidden {
		t.Errorf("sign-in by the address: found %d", w.Code)
	}
	// A page of another site.
	r := httptest.NewRequest("POST", "https://steward.test/sign-in", strings.NewReader(url.Values{"form": {field(c.get("/sign-in").Body.String(), "/sign-in")}, "token": {testToken}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.AddCookie(&http.Cookie{Name: visitCookie, Value: c.cookies[visitCookie]})
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("a form of another site: found %d", w.Code)
	}
	checkHeaders(t, "cross-site", w.Header())
}

func TestSignInIsLimited(t *testing.T) {
	f := newFixture(t, false, nil)
	c := f.client(t)
	var codes []int
	for range 9 {
		codes = append(codes, c.signIn("guess", "").Code)
	}
	if codes[7] != http.StatusForbidden || codes[8] != http.StatusTooManyRequests {
		t.Errorf("found %v", codes)
	}
	if w := c.signIn(testToken, ""); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("the right token over the limit: found %d", w.Code)
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

func TestLimiter(t *testing.T) {
	now := testNow
	l := newLimiter(3, time.Minute, func() time.Time { return now })
	for i := range 3 {
		if _, ok := l.take("a"); !ok {
			t.Fatalf("try %d of 3 was refused", i+1)
		}
	}
	if wait, ok := l.take("a"); ok || wait != time.Minute {
		t.Errorf("the fourth: found %v, %v, wanted a minute's wait", wait, ok)
	}
	if _, ok := l.take("b"); !ok {
		t.Error("another client was refused")
	}
	now = now.Add(time.Minute)
	if _, ok := l.take("a"); !ok {
		t.Error("a minute later: refused")
	}
	now = now.Add(-24 * time.Hour)
	if _, ok := l.take("a"); !ok {
		t.Error("a clock that steps back locks a client out")
	}
	for i := range maxClients * 2 {
		l.take(strconv.Itoa(i))
	}
	if len(l.clients) > maxClients+1 {
		t.Errorf("found %d clients remembered, at most %d", len(l.clients), maxClients)
	}
	if _, ok := l.take("yet another"); ok {
		t.Error("clients over the bound are not held to one allowance")
	}
	now = now.Add(24 * time.Hour)
	if _, ok := l.take("yet another"); !ok {
		t.Error("those long gone were not forgotten")
	}
}

func TestClientAddress(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1:77": "192.0.2.1", "[2001:db8:1:2:3::9]:1": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:5": "192.0.2.1", "": "unknown", "[fe80::1%eth0]:1": "fe80::/64"} {
		if got := clientAddress(&http.Request{RemoteAddr: in}); got != want {
			t.Errorf("%q: found %q, wanted %q", in, got, want)
		}
	}
}

// nextPage is where a page's link to the next one leads; "": it is the last.
func nextPage(page string) string {
	m := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func TestDecisionsPage(t *testing.T) {
	f := newFixture(t, false, nil)
	a := f.admin(t)
	seqs := func(page string) (out []int) {
		for _, m := range regexp.MustCompile(`href="/decisions/(\d+)"`).FindAllStringSubmatch(page, -1) {
			n, _ := strconv.Atoi(m[1])
			out = append(out, n)
		}
		return out
	}
	var all []int
	for path := "/decisions"; path != ""; {
		page := a.get(path).Body.String()
		all = append(all, seqs(page)...)
		path = nextPage(page)
		if len(all) > 1000 {
			t.Fatal("the pages do not end")
		}
	}
	if len(all) != 137 || all[0] != 137 || all[136] != 1 {
		t.Errorf("paging: found %d decisions, first %d", len(all), all[0])
	}
	page := a.get("/decisions?outcome=refused&from=2026-11-10&to=2026-11-15").Body.String()
	got := seqs(page)
	for _, n := range got {
		d := f.details[n-1]
		if d.Outcome != verdict.Refused || d.At.Before(time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)) || !d.At.Before(time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("the filter lets decision %d through: %v %v", n, d.Outcome, d.At)
		}
	}
	if len(got) == 0 || !strings.Contains(page, `<option value="refused" selected>`) {
		t.Errorf("found %d decisions, or the form forgets what was asked", len(got))
	}
	for _, q := range []string{"outcome=x", "tee=x", "workload=x", "workload=sha256:zz", "instance=%00", "from=yesterday", "to=2026-13-01", "simulated=maybe", "before=-1", "before=x", "before=99999999999999999999"} {
		if w := a.get("/decisions?" + q); w.Code != http.StatusBadRequest {
			t.Errorf("%s: found %d, wanted 400", q, w.Code)
		}
	}
	for _, p := range []string{"/decisions/0", "/decisions/9999", "/decisions/x", "/decisions/-1", "/workloads/x", "/workloads/" + digestOf(99), "/workloads/" + digestOf(0) + "?version=9"} {
		if w := a.get(p); w.Code != http.StatusNotFound {
			t.Errorf("%s: found %d, wanted 404", p, w.Code)
		}
	}
}

func TestWorkloadPage(t *testing.T) {
	f := newFixture(t, false, nil)
	page := f.admin(t).get("/workloads/" + digestOf(0)).Body.String()
	for _, want := range []string{"api-key", "db-password", "not before it is confirmed", "under the newest policy", "SIMULATED", "allow_simulated = true"} {
		if !strings.Contains(page, want) {
			t.Errorf("does not show %q", want)
		}
	}
	for _, never := range []string{"sealed-bytes", fmt.Sprintf("%x", "sealed-bytes"), "key-id-of-sealing"} {
		if strings.Contains(page, never) {
			t.Errorf("shows %q", never)
		}
	}
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

// TestLinksOfTheChain: every code that exists has a place of its own in the drawing.
func TestLinksOfTheChain(t *testing.T) {
	placed := map[verdict.Code]int{}
	for _, l := range chainLinks {
		for _, c := range l.codes {
			placed[c]++
			if _, known := verdict.Lookup(c); !known {
				t.Errorf("no code %s exists", c)
			}
		}
	}
	for _, i := range verdict.Codes() {
		if placed[i.Code] != 1 {
			t.Errorf("the code %s stands in %d links, wanted one", i.Code, placed[i.Code])
		}
	}
	for _, c := range []struct {
		checks []verdict.Check
		want   string
	}{
		{[]verdict.Check{verdict.Pass(verdict.Chain, ""), verdict.Fail(verdict.EndorsementKey, "", "")}, "failed"},
		{[]verdict.Check{verdict.Skip(verdict.Chain, "", ""), verdict.Pass(verdict.EndorsementKey, "")}, "not-made"},
		{[]verdict.Check{{Code: verdict.Chain, Status: verdict.NotMade, Informal: true}, verdict.Pass(verdict.EndorsementKey, "")}, "part"},
		{[]verdict.Check{{Code: verdict.Nonce, Status: verdict.NotMade, Informal: true}}, "unseen"},
		{[]verdict.Check{{Code: verdict.Nonce, Status: verdict.NotMade, Waived: "why"}, verdict.Skip(verdict.Age, "", "")}, "not-made"},
		{[]verdict.Check{{Code: verdict.Chain, Status: "odd"}}, "failed"},
		{[]verdict.Check{verdict.Pass(verdict.Chain, "")}, "passed"},
	} {
		got := chain(c.checks, nil)
		if len(got) != 1 || got[0].Status() != c.want {
			t.Errorf("%v: found %v", c.checks, got)
		}
	}
}

func TestPlots(t *testing.T) {
	to := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	from := to.Add(-30 * 24 * time.Hour)
	day := 24 * time.Hour
	got := plots([]store.Count{
		{Start: from, TEE: "snp", Outcome: verdict.Admitted, N: 1}, {Start: from.Add(day), TEE: "snp", Outcome: verdict.Admitted, N: 9999},
		{Start: from.Add(day), TEE: "snp", Outcome: verdict.Refused, N: 5}, {Start: from.Add(day), TEE: "snp", Outcome: verdict.NotGenuine, N: 6},
		{Start: to, TEE: "snp", Outcome: verdict.Admitted, N: 7}, {Start: from.Add(-day), TEE: "tdx", Outcome: verdict.Admitted, N: 7},
	}, from, to, store.Day)
	if len(got) != 1 || got[0].Admitted != 10000 || got[0].Refused != 11 || len(got[0].Bars) != 30 {
		t.Fatalf("found %+v", got)
	}
	p := got[0]
	for i, b := range p.Bars {
		if b.Y(p.Base) < plotTop-2 || p.Base+b.Down > plotBottom+2 || b.X < plotLeft || b.X+b.Width > plotWidth {
			t.Errorf("bar %d is outside: %+v", i, b)
		}
	}
	if p.Bars[0].Up < 1 || p.Bars[1].Down < 1 || p.Bars[2].Up != 0 {
		t.Errorf("a bar of one cannot be seen, or one of none can: %+v", p.Bars[:3])
	}
}

func TestForm(t *testing.T) {
	f := newFixture(t, false, nil)
	v := good(t)
	c := f.client(t)
	w := c.upload(c.verifyField(), [3]string{"evidence", "\u202e<b data-evil>" + strings.Repeat("y", 300), string(v.Evidence)}, [3]string{"collateral", "c.bundle", "nothing of use"})
	page := w.Body.String()
	checkHeaders(t, "verdict", w.Header())
	lint(t, "verdict", page)
	// Without the vendor data that it needs.
	if w.Code != http.StatusOK || f.judged != 1 || !strings.Contains(page, "was not judged") || !strings.Contains(page, verdict.Digest(v.Evidence)) {
		t.Errorf("found %d, judged %d times", w.Code, f.judged)
	}
	if !strings.Contains(page, "not used") {
		t.Error("does not say that the vendor data was of no use")
	}
	if len(f.values) != 0 || f.reads != 0 {
		t.Errorf("the form read or wrote the store: %d values, %d reads", len(f.values), f.reads)
	}
	big := strings.Repeat("x", envelope.MaxSize+1)
	for name, c2 := range map[string]struct {
		parts [][3]string
		code  int
	}{
		"empty":        {[][3]string{{"evidence", "e", ""}}, 400},
		"none":         {nil, 400},
		"two":          {[][3]string{{"evidence", "e", "x"}, {"evidence", "e", "x"}}, 400},
		"other field":  {[][3]string{{"policy", "e", "x"}}, 400},
		"large":        {[][3]string{{"evidence", "e", big}}, 413},
		"large in all": {[][3]string{{"evidence", "e", big[:envelope.MaxSize]}, {"collateral", "e", big[:envelope.MaxSize]}}, 413},
	} {
		c := f.client(t)
		c.address = "203.0.113." + strconv.Itoa(len(name)) + ":1"
		before := f.judged
		w := c.upload(c.verifyField(), c2.parts...)
		if w.Code != c2.code || f.judged != before {
			t.Errorf("%s: found %d, wanted %d; judged %v", name, w.Code, c2.code, f.judged != before)
		}
		lint(t, name, w.Body.String())
	}
	many := make([][3]string, 30)
	for i := range many {
		many[i] = [3]string{"collateral", "c", "x"}
	}
	d := f.client(t)
	d.address = "203.0.113.200:1"
	if w := d.upload(d.verifyField(), many...); w.Code != http.StatusBadRequest {
		t.Errorf("30 files: found %d", w.Code)
	}
	if w := d.upload("-", [3]string{"evidence", "e", "x"}); w.Code != http.StatusForbidden {
		t.Errorf("no field: found %d", w.Code)
	}
	if w := d.do("POST", "/verify", "multipart/form-data; boundary=x", strings.NewReader("--x\r\nbroken")); w.Code != http.StatusBadRequest {
		t.Errorf("a broken body: found %d", w.Code)
	}
	if w := d.do("POST", "/verify", "text/plain", strings.NewReader("x")); w.Code != http.StatusBadRequest {
		t.Errorf("no form at all: found %d", w.Code)
	}
	for range 12 {
		w = d.upload(d.verifyField(), [3]string{"evidence", "e", "x"})
	}
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("over the quota: found %d", w.Code)
	}
}

func TestSimulatedIsLoud(t *testing.T) {
	v := good(t)
	roots := append([]pki.Hash{}, v.Roots...)
	f := newFixture(t, false, func(o *Options) {
		o.Verify = func(_ context.Context, s Submission) *verdict.Verdict {
			var verifier attest.Verifier
			return verifier.Verify(s.Evidence, attest.Options{At: v.At, Collateral: v.Collateral, PlatformOnly: true, SimulatedRoots: roots})
		}
	})
	c := f.client(t)
	page := c.upload(c.verifyField(), [3]string{"evidence", "e", string(v.Evidence)}).Body.String()
	if !strings.Contains(page, "SIMULATED.") || !strings.Contains(page, "No hardware stands behind") || !strings.Contains(page, `id="link-root"`) {
		t.Error("the verdict does not say that it is simulated, or draws no chain")
	}
	a := f.admin(t)
	for _, p := range []string{"/", "/decisions?simulated=yes", "/decisions/4", "/certificates"} {
		if !strings.Contains(a.get(p).Body.String(), "SIMULATED") {
			t.Errorf("%s: does not say what is simulated", p)
		}
	}
	if strings.Contains(a.get("/decisions?simulated=no").Body.String(), "SIMULATED") {
		t.Error("what is not simulated is called so")
	}
}

// TestPublishedEvidence: a report that real hardware signed, at its time.
func TestPublishedEvidence(t *testing.T) {
	dir := os.Getenv("DONJON_EVIDENCE")
	if dir == "" {
		dir = "../../../shared/evidence"
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("no published evidence here (see docs/testing.md): %v", err)
		}
		return string(b)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := newFixture(t, false, func(o *Options) {
		o.Verify = func(_ context.Context, s Submission) *verdict.Verdict {
			var verifier attest.Verifier
			return verifier.Verify(s.Evidence, attest.Options{At: at, Collateral: s.Collateral, PlatformOnly: true})
		}
	})
	c := f.client(t)
	page := c.upload(c.verifyField(), [3]string{"evidence", "turin.bin", read("snp/turin-v5.report.bin")}, [3]string{"collateral", "vcek.pem", read("snp/turin-v5.vcek.pem")}).Body.String()
	lint(t, "turin", page)
	for _, want := range []string{"ARK-Turin", "Turin", `<code>signature</code>`, "2026-03-01T12:00:00Z"} {
		if !strings.Contains(page, want) {
			t.Errorf("does not show %q", want)
		}
	}
	if strings.Contains(page, "SIMULATED") {
		t.Error("real evidence is called simulated")
	}
	wrong := c.upload(c.verifyField(), [3]string{"evidence", "milan.bin", read("snp/milan-v2.report.bin")}, [3]string{"collateral", "vcek.der", read("snp/milan-v2.vcek-wrong-signer.der")}).Body.String()
	if !strings.Contains(wrong, "not genuine") || !strings.Contains(wrong, "none of it may be believed") {
		t.Error("evidence with another signer's certificate is not called so")
	}
}
