package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

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
