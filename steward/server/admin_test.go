package server

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// A token does what its scopes say and nothing else.
func TestTokenScopes(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	var tokens = map[store.Scope]string{}
	for _, scope := range AllScopes() {
		var v TokenView
		if code := s.admin("POST", "/v1/admin/tokens", TokenCreate{Name: "of " + string(scope), Scopes: []store.Scope{scope}}, &v); code != 201 || v.Token == "" {
			t.Fatalf("status %d", code)
		}
		tokens[scope] = v.Token
	}
	for _, c := range []struct {
		method, path string
		body         any
		scope        store.Scope
	}{
		{"GET", "/v1/admin/workloads", nil, store.ScopeRead},
		{"GET", "/v1/admin/decisions", nil, store.ScopeRead},
		{"GET", "/v1/admin/secrets", nil, store.ScopeRead},
		{"PUT", "/v1/admin/policies/" + w.subject(), PolicyPut{Policy: s.policyFor(w, s.platforms())}, store.ScopePolicy},
		{"PUT", "/v1/admin/secrets/" + w.subject() + "/x", []byte("v"), store.ScopeSecret},
		{"GET", "/v1/admin/audit/head", nil, store.ScopeAudit},
		{"GET", "/v1/admin/audit/export", nil, store.ScopeAudit},
		{"GET", "/v1/admin/backup", nil, store.ScopeAdmin},
		{"GET", "/v1/admin/tokens", nil, store.ScopeAdmin},
		{"POST", "/v1/admin/tokens", TokenCreate{Name: "more", Scopes: AllScopes()}, store.ScopeAdmin},
	} {
		for scope, token := range tokens {
			var b []byte
			code := s.adminAs(token, c.method, c.path, c.body, &b)
			if ok := code < 300; ok != (scope == c.scope) {
				t.Errorf("%s %s with the scope %s: status %d, wanted its scope to be %s alone", c.method, c.path, scope, code, c.scope)
			}
		}
		for name, token := range map[string]string{"no token": "", "another": "donjon-steward-" + strings.Repeat("0", 64), "a prefix": s.token[:40], "SQL": "' OR '1'='1"} {
			var b []byte
			if code := s.adminAs(token, c.method, c.path, c.body, &b); code != http.StatusUnauthorized {
				t.Errorf("%s %s with %s: status %d, wanted 401", c.method, c.path, name, code)
			}
		}
	}
	var list []TokenView
	s.admin("GET", "/v1/admin/tokens", nil, &list)
	for _, v := range list {
		if v.Name == "of read" {
			if code := s.admin("DELETE", "/v1/admin/tokens/"+v.ID, nil, nil); code != 204 {
				t.Fatalf("revoking: status %d", code)
			}
		}
	}
	var b []byte
	if code := s.adminAs(tokens[store.ScopeRead], "GET", "/v1/admin/workloads", nil, &b); code != http.StatusForbidden {
		t.Errorf("a revoked token: status %d, wanted 403", code)
	}
}

// No route gives a secret's value back, and no log has one.
func TestSecretsAreNotReturned(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Fatal(p)
	}
	for _, path := range []string{"/v1/admin/secrets", "/v1/admin/secrets?workload=" + w.subject(), "/v1/admin/workloads", "/v1/admin/decisions", "/v1/admin/decisions/6",
		"/v1/admin/policies/" + w.subject(), "/v1/admin/audit/export", "/v1/admin/backup", "/v1/admin/certificates", "/metrics"} {
		var b []byte
		s.admin("GET", path, nil, &b)
		if bytes.Contains(b, []byte("s3cret")) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(theSecret)))) {
			t.Errorf("%s gives the secret", path)
		}
	}
	if code := s.admin("GET", "/v1/admin/secrets/"+w.subject()+"/db-password", nil, nil); code != 404 && code != 405 {
		t.Errorf("reading a secret: status %d", code)
	}
	if strings.Contains(s.log.String(), "s3cret") {
		t.Error("the log has the secret")
	}
}

func TestRequestsOutOfForm(t *testing.T) {
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, "")
	deep := strings.Repeat("[", 100000) + strings.Repeat("]", 100000)
	for name, c := range map[string]struct {
		path, kind, body string
		status           int
	}{
		"no JSON":          {protocol.PathEnrol, "application/json", "hello", 400},
		"nothing":          {protocol.PathEnrol, "application/json", "", 400},
		"empty":            {protocol.PathEnrol, "application/json", "{}", 400},
		"an unknown key":   {protocol.PathEnrol, "application/json", `{"colour":1}`, 400},
		"a key twice":      {protocol.PathEnrol, "application/json", `{"request":"","request":""}`, 400},
		"two values":       {protocol.PathEnrol, "application/json", "{}{}", 400},
		"another type":     {protocol.PathEnrol, "text/plain", "{}", 415},
		"deeply nested":    {protocol.PathEnrol, "application/json", deep, 400},
		"nested in a key":  {protocol.PathEnrol, "application/json", `{"request":` + deep + `}`, 400},
		"oversized":        {protocol.PathEnrol, "application/json", `{"request":"` + strings.Repeat("A", protocol.MaxRequest) + `"}`, 413},
		"a large question": {protocol.PathChallenge, "application/json", "{" + strings.Repeat(" ", 2000) + "}", 413},
		"no such route":    {"/v1/nothing", "application/json", "{}", 404},
		"SQL":              {protocol.PathEnrol, "application/json", `{"request":"'; DROP TABLE decisions; --"}`, 400},
	} {
		code, b, h := s.postRaw("POST", c.path, c.kind, []byte(c.body))
		var p protocol.Problem
		if err := json.Unmarshal(b, &p); code != c.status || err != nil || p.Status != code || h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d %q, wanted %d and a problem: %.200s", name, code, h.Get("Content-Type"), c.status, b)
		}
	}
	// Texts that a careless query would take for its own.
	for _, text := range []string{`'; DROP TABLE policies; --`, `" OR 1=1 --`, "\\x00", "%25' UNION SELECT * FROM tokens --"} {
		for _, path := range []string{"/v1/admin/decisions?workload=", "/v1/admin/decisions?instance=", "/v1/admin/decisions?tee=", "/v1/admin/certificates?workload=", "/v1/admin/workloads?after=", "/v1/admin/secrets?after_name="} {
			var b []byte
			if code := s.admin("GET", path+strings.ReplaceAll(strings.ReplaceAll(text, " ", "%20"), "\"", "%22"), nil, &b); code >= 500 {
				t.Errorf("%s with %q: status %d", path, text, code)
			}
		}
		var b []byte
		if code := s.admin("PUT", "/v1/admin/workloads/"+w.subject(), WorkloadPut{Name: text, Manifest: w.manifest}, &b); code != 200 {
			t.Errorf("the name %q: status %d", text, code)
		}
	}
	var list []WorkloadView
	if s.admin("GET", "/v1/admin/workloads", nil, &list); len(list) != 1 || list[0].Policy != 1 {
		t.Errorf("afterwards: %+v", list)
	}
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("afterwards: %+v", p)
	}
}

// A client that sends what is refused is soon told to wait, and the others are not.
func TestBadRequestsAreLimited(t *testing.T) {
	s := newSteward(t, func(o *Options) { o.Limits = Limits{Rate: 50, Burst: 100, RefusedCost: 20} })
	refused, limited := 0, 0
	for range 60 {
		code, _, h := s.postRaw("POST", protocol.PathEnrol, "application/json", []byte("{}"))
		switch code {
		case 400:
			refused++
		case http.StatusTooManyRequests:
			limited++
			if h.Get("Retry-After") == "" {
				t.Fatal("no Retry-After")
			}
		default:
			t.Fatalf("status %d", code)
		}
	}
	if refused > 30 || limited < 30 {
		t.Errorf("%d judged and %d told to wait, wanted most told to wait", refused, limited)
	}
	if n, err := s.store.Decisions(context.Background(), store.DecisionFilter{}); err != nil || len(n) != 0 {
		t.Errorf("%d decisions recorded of requests without a challenge", len(n))
	}
	s.step(time.Minute)
	if code, _, _ := s.postRaw("POST", protocol.PathChallenge, "application/json", []byte("{}")); code != 200 {
		t.Errorf("a minute later: status %d", code)
	}
}

// Whoever sends a byte now and then is cut off, and others are answered meanwhile.
func TestSlowClients(t *testing.T) {
	s := newSteward(t, func(o *Options) { o.Limits = Limits{ClientConnections: 8} })
	var open []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte{22})
		open = append(open, c)
	}
	time.Sleep(100 * time.Millisecond)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Error("a ninth connection of one client was not closed")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("a ninth connection of one client was kept")
	}
	for _, c := range append(open, c) {
		_ = c.Close()
	}
	time.Sleep(100 * time.Millisecond)
	if code, _, _ := s.postRaw("POST", protocol.PathChallenge, "application/json", []byte("{}")); code != 200 {
		t.Errorf("afterwards: status %d", code)
	}
}

func TestPublicVerify(t *testing.T) { // T29
	s := newSteward(t)
	report := published(t, "nitro/prod.cose")
	code, b, _ := s.postRaw("POST", "/v1/verify", "application/octet-stream", report)
	var v verdict.Verdict
	if err := json.Unmarshal(b, &v); code != 200 || err != nil || v.Claims == nil {
		t.Fatalf("status %d, %v: %.200s", code, err, b)
	}
	for range 20 {
		code, _, _ = s.postRaw("POST", "/v1/verify", "application/octet-stream", []byte("x"))
	}
	if code != http.StatusTooManyRequests {
		t.Errorf("20 more: status %d, wanted 429", code)
	}
	if code, _, _ := s.postRaw("POST", protocol.PathChallenge, "application/json", []byte("{}")); code != 200 {
		t.Errorf("enrolment beside: status %d: it has a quota of its own", code)
	}
}

// An answer that there is none says what there is none of.
func TestMissing(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	other := newWorkload("[env]\nA = \"1\"\n").subject()
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/v1/admin/policies/" + other, "no policy of " + other},
		{"DELETE", "/v1/admin/workloads/" + other, "no policy of " + other},
		{"GET", "/v1/admin/policies/" + w.subject() + "?version=9", "no version 9 of a policy of " + w.subject()},
		{"DELETE", "/v1/admin/secrets/" + w.subject() + "/gone", "no secret gone of " + w.subject()},
		{"GET", "/v1/admin/decisions/99", "none with the number 99"},
		{"DELETE", "/v1/admin/tokens/00", "no token 00"},
	} {
		var p protocol.Problem
		if code := s.admin(c.method, c.path, nil, &p); code != http.StatusNotFound || !strings.Contains(p.Detail, c.want) {
			t.Errorf("%s %s: status %d, %q, wanted 404 and %q", c.method, c.path, code, p.Detail, c.want)
		}
	}
}

func TestPolicyTestAndDiff(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	session := s.keep(w).connect()
	request := session.enrolment().Request
	session.close()
	var v verdict.Verdict
	ask := PolicyTest{Evidence: base64.StdEncoding.EncodeToString(request)}
	if code := s.admin("POST", "/v1/admin/policies/"+w.subject()+"/test", ask, &v); code != 200 || v.Outcome != verdict.Admitted {
		t.Errorf("by the policy in force: status %d, %s: %v", code, v.Outcome, v.Deciding())
	}
	ask.Policy = strings.Replace(s.policyFor(w, s.platforms()), "0909", "0a0a", 1)
	if code := s.admin("POST", "/v1/admin/policies/"+w.subject()+"/test", ask, &v); code != 200 || v.Outcome != verdict.Refused {
		t.Errorf("by another: status %d, %s", code, v.Outcome)
	}
	var d PolicyDiff
	if code := s.admin("POST", "/v1/admin/policies/"+w.subject()+"/diff", PolicyPut{Policy: ask.Policy}, &d); code != 200 || d.From != 1 || len(d.Word) == 0 {
		t.Errorf("diff: status %d, %+v", code, d)
	}
	for _, c := range v.Checks {
		if c.Code == verdict.Nonce && (c.Status != verdict.NotMade || c.Waived != "" || !c.Informal) {
			t.Errorf("the nonce of a test: found %+v, wanted it not made, and waived by no policy: this one demands it", c)
		}
	}
	// What is granted is part of what changes, and shown in words too.
	var g PolicyDiff
	narrow := s.policyFor(w, "max_instances = 2\ndns = [\"app.example.org\"]\n")
	if code := s.admin("POST", "/v1/admin/policies/"+w.subject()+"/diff", PolicyPut{Policy: narrow}, &g); code != 200 {
		t.Errorf("diff: status %d", code)
	}
	for _, want := range []string{"+ no secret is released", "- secrets are released on simulated:", "+ granted: to 2 Keeps at once", "+ granted: the DNS name app.example.org"} {
		if !slices.ContainsFunc(g.Word, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("the words of the diff: found %q, wanted a line %q", g.Word, want)
		}
	}
	plus, minus := 0, 0
	for _, l := range d.Text {
		switch l[0] {
		case '+':
			plus++
		case '-':
			minus++
		}
	}
	if plus != 1 || minus != 1 {
		t.Errorf("diff: %d lines more and %d less, wanted 1 and 1: %q", plus, minus, d.Text)
	}
	if n, _ := s.store.Decisions(context.Background(), store.DecisionFilter{}); len(n) != 0 {
		t.Error("a test was recorded as a decision")
	}
	stale := uint64(0)
	if code := s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: ask.Policy, Seen: &stale}, nil); code != http.StatusConflict {
		t.Errorf("writing over what was not seen: status %d", code)
	}
	other := newWorkload("[env]\nA = \"1\"\n")
	if code := s.admin("PUT", "/v1/admin/policies/"+other.subject(), PolicyPut{Policy: ask.Policy}, nil); code != http.StatusUnprocessableEntity {
		t.Errorf("another workload's policy: status %d", code)
	}
}

// A backup that comes back grants nothing until somebody has looked at it, and what
// was used before it was made stays used.
func TestRestoredBackup(t *testing.T) { // T15
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	session := s.keep(w).connect()
	defer session.close()
	body := session.enrolment()
	var out protocol.EnrolResponse
	var backup []byte
	if code := s.admin("GET", "/v1/admin/backup", nil, &backup); code != 200 {
		t.Fatalf("backup: status %d", code)
	}
	if _, p := session.post(protocol.PathEnrol, body, &out); p != nil { // after the backup
		t.Fatal(p)
	}
	s.stop()
	fresh, err := store.OpenSQLite(context.Background(), t.TempDir()+"/steward.db", store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if _, err := fresh.Restore(context.Background(), bytes.NewReader(backup), store.Actor{Who: "test", At: s.now()}); err != nil {
		t.Fatal(err)
	}
	if err := s.auth.NewChallengeKey(true); err != nil {
		t.Fatal(err)
	}
	s.store = fresh
	s.start()
	if r := s.server.enrol.Enrol(context.Background(), body, peerOf(session)); r.Problem == nil || r.Problem.Code != "challenge-unknown" {
		t.Errorf("the request that was answered: found %+v, wanted challenge-unknown", r.Problem)
	}
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "suspended" {
		t.Errorf("before the confirmation: found %+v, wanted suspended", p)
	}
	if code, _, _ := s.postRaw("GET", "/readyz", "", nil); code != http.StatusServiceUnavailable {
		t.Errorf("readyz: status %d", code)
	}
	var e EpochView
	s.admin("GET", "/v1/admin/epoch", nil, &e)
	// The token may have been taken back after the backup was made: it reads, and no
	// more, and confirms nothing.
	confirm := fmt.Sprintf("/v1/admin/epoch/%d/confirm", e.Number)
	for _, x := range []struct{ method, path string }{{"POST", confirm}, {"GET", "/v1/admin/tokens"}, {"GET", "/v1/admin/backup"}, {"DELETE", "/v1/admin/secrets/" + w.subject() + "/db-password"}} {
		if code := s.admin(x.method, x.path, nil, nil); code != http.StatusForbidden {
			t.Errorf("%s %s with a token of the backup: status %d", x.method, x.path, code)
		}
	}
	rec, r := httptest.NewRecorder(), httptest.NewRequest("POST", confirm, nil)
	if s.server.Handler().ServeHTTP(rec, r.WithContext(AsLocal(r.Context(), "owner"))); rec.Code != 204 {
		t.Fatalf("confirming: status %d", rec.Code)
	}
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("confirmed: %+v", p)
	}
}

func TestAuditExportVerifies(t *testing.T) {
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, "")
	_, out, p := s.keep(w).enrol()
	if p != nil || out == nil {
		t.Fatal(p)
	}
	var export []byte
	if code := s.admin("GET", "/v1/admin/audit/export", nil, &export); code != 200 {
		t.Fatalf("status %d", code)
	}
	r, err := audit.Verify(bytes.NewReader(export), audit.Options{Keys: []crypto.PublicKey{AuditKey(s.auth)}})
	if err != nil || r.Records < 4 || r.Unsigned != 0 {
		t.Errorf("found %+v, %v", r, err)
	}
	export[len(export)/2] ^= 1
	if _, err := audit.Verify(bytes.NewReader(export), audit.Options{Keys: []crypto.PublicKey{AuditKey(s.auth)}}); err == nil {
		t.Error("a changed export verifies")
	}
}

func TestDatabaseGone(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	session := s.keep(w).connect()
	defer session.close()
	body := session.enrolment()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	var out protocol.EnrolResponse
	if code, p := session.post(protocol.PathEnrol, body, &out); p == nil || code < 500 || out.Sealed != nil {
		t.Errorf("found status %d, %+v", code, p)
	}
	if code, _, _ := s.postRaw("GET", "/readyz", "", nil); code != http.StatusServiceUnavailable {
		t.Errorf("readyz: status %d", code)
	}
	if code, _, _ := s.postRaw("GET", "/healthz", "", nil); code != 200 {
		t.Errorf("healthz: status %d", code)
	}
}

// Every route for administrators, and whatever is added under their path.
func TestAuthOnEachAdminRoute(t *testing.T) {
	s := newSteward(t, func(o *Options) { o.Limits.Rate, o.Limits.Burst = 1e6, 1e6 })
	tokens := map[store.Scope]string{}
	for _, scope := range AllScopes() {
		var v TokenView
		if code := s.admin("POST", "/v1/admin/tokens", TokenCreate{Name: string(scope), Scopes: []store.Scope{scope}}, &v); code != 201 {
			t.Fatalf("status %d", code)
		}
		tokens[scope] = v.Token
	}
	ask := func(method, path, token string) int {
		rec, r := httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader("{}"))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		s.server.Handler().ServeHTTP(rec, r)
		return rec.Code
	}
	table := s.server.adminTable()
	if len(table) < 25 {
		t.Fatalf("found %d routes", len(table))
	}
	for _, x := range table {
		method, path, _ := strings.Cut(x.route, " ")
		path = strings.NewReplacer("{digest}", strings.Repeat("0", 64), "{name}", "n", "{instance}", "i", "{seq}", "1", "{number}", "1", "{id}", "i").Replace(path)
		if strings.Contains(path, "{") {
			t.Fatalf("%s: a part that this test does not know", x.route)
		}
		for _, token := range []string{"", "x", " " + tokens[x.scope], tokens[x.scope] + "0", strings.ToUpper(tokens[x.scope])} {
			if code := ask(method, path, token); code != http.StatusUnauthorized {
				t.Errorf("%s with the token %q: status %d, wanted 401", x.route, token, code)
			}
		}
		for scope, token := range tokens {
			if code := ask(method, path, token); (code == http.StatusForbidden) != (scope != x.scope) || code == http.StatusUnauthorized {
				t.Errorf("%s, which wants %s, with the scope %s: status %d", x.route, x.scope, scope, code)
			}
		}
	}
	for _, path := range []string{"/v1/admin", "/v1/admin/", "/v1/admin/nothing", "/v1/Admin/tokens"} {
		if code := ask("GET", path, ""); code != http.StatusNotFound {
			t.Errorf("%s: status %d, wanted 404", path, code)
		}
	}
}
