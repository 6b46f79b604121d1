package web

import (
	"bytes"
	"context"
	"html"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/verdict"
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
