package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

// Who signed in and out stands in the audit log, and who could not.
func TestSignInsAreLogged(t *testing.T) {
	f := newFixture(t, false, nil)
	c := f.admin(t)
	if w := c.post("/sign-out", url.Values{"form": {field(c.get("/").Body.String(), "/sign-out")}}); w.Code != http.StatusSeeOther {
		t.Fatalf("signing out: found %d", w.Code)
	}
	thief := f.client(t)
	thief.address = "198.51.100.7:1"
	if w := thief.signIn("guess", ""); w.Code != http.StatusForbidden {
		t.Fatalf("found %d", w.Code)
	}
	got := f.appended
	if len(got) != 3 || got[0].Kind != audit.SignIn || got[0].Who != f.tokens[0].ID || got[0].Text == "" ||
		got[1].Kind != audit.SignOut || got[1].Who != f.tokens[0].ID ||
		got[2].Kind != audit.SignInRefused || got[2].Who != "198.51.100.7" || got[2].Version != 1 || got[2].Text != "token" {
		t.Errorf("found %+v", got)
	}
	for _, r := range got {
		if strings.Contains(fmt.Sprint(r), testToken) || strings.Contains(fmt.Sprint(r), "guess") {
			t.Errorf("a token stands in the log: %+v", r)
		}
	}
}

// Nobody is signed in whom the log does not know.
func TestNoSessionWithoutARecord(t *testing.T) {
	f := newFixture(t, false, nil)
	f.appendErr = errors.New("disk full")
	c := f.client(t)
	if w := c.signIn(testToken, ""); w.Code < 500 || c.cookies[sessionCookie] != "" {
		t.Errorf("found %d, a session %v", w.Code, c.cookies[sessionCookie] != "")
	}
}

// A flood of refused sign-ins, from any number of clients, does not fill the log, and
// the log says how many there were.
func TestFloodOfSignInsDoesNotFillTheLog(t *testing.T) {
	f := newFixture(t, false, nil)
	const n = 500
	for i := range n {
		c := f.client(t)
		c.address = fmt.Sprintf("198.51.%d.%d:1", i/250, i%250+1)
		c.signIn("guess", "")
	}
	if len(f.appended) != 20 {
		t.Fatalf("%d refused sign-ins made %d records, wanted 20", n, len(f.appended))
	}
	f.now = f.now.Add(time.Minute)
	f.client(t).signIn("guess", "")
	total := uint64(0)
	for _, r := range f.appended {
		total += r.Version
	}
	if len(f.appended) != 21 || total != n+1 {
		t.Errorf("found %d records of %d sign-ins, wanted 21 of %d", len(f.appended), total, n+1)
	}
}
