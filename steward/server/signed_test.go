package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/workload/signature"
)

// A signer of a test.
type signer struct {
	t   testing.TB
	key ed25519.PrivateKey
	id  signature.KeyID
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := signature.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, key, pub.ID()}
}

func (k *signer) sign(w testWorkload, name string, version uint64) []byte {
	k.t.Helper()
	e, err := signature.Sign(k.key, w.digest, name, version)
	if err != nil {
		k.t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

func (k *signer) subject(name string) string { return enrol.SignerSubject(k.id, name) }

// signedPolicy admits what a signer signs as name, from a version on.
func (s *steward) signedPolicy(k *signer, name string, least uint64, grant string) string {
	lines := strings.Split(s.policyFor(newWorkload(""), grant), "\n")
	return strings.Join(append(lines[:1:1], lines[2:]...), "\n") + fmt.Sprintf("[steward.signed]\nsigner = %q\nname = %q\nmin_version = %d\n", k.id, name, least)
}

func path(route, subject string) string { return "/v1/admin/" + route + "/" + url.PathEscape(subject) }

// allowSigner writes a signer's policy, and sets its secret.
func (s *steward) allowSigner(k *signer, name string, least uint64, grant string) {
	s.t.Helper()
	var b []byte
	if code := s.admin("PUT", path("workloads", k.subject(name)), WorkloadPut{Policy: s.signedPolicy(k, name, least, grant)}, &b); code != 200 {
		s.t.Fatalf("allowing: status %d: %s", code, b)
	}
	if code := s.admin("PUT", path("secrets", k.subject(name))+"/db-password", []byte(theSecret), nil); code != 200 {
		s.t.Fatalf("setting the secret: status %d", code)
	}
}

// signed is a keep whose host gives signatures.
func (s *steward) signed(w testWorkload, list ...[]byte) *keep {
	k := s.keep(w)
	k.body = func(b *protocol.EnrolRequest) { b.Signatures = list }
	return k
}

// numbered are workloads that differ.
func numbered(n int) testWorkload { return newWorkload(fmt.Sprintf("# %d\n%s", n, secretConfig)) }

func TestSignedWorkload(t *testing.T) {
	s, k := newSteward(t), newSigner(t)
	s.allowSigner(k, "acme.db", 2, s.platforms()+"dns = [\"db.example\"]\n")
	for n, version := range []uint64{2, 2, 5} { // also two builds of one version
		w := numbered(n)
		session, out, p := s.signed(w, k.sign(w, "acme.db", version)).enrol()
		if p != nil {
			t.Fatalf("version %d: %v", version, p)
		}
		if got, err := session.secrets(out); err != nil || string(got["db-password"]) != theSecret {
			t.Errorf("version %d: found the secrets %q, %v", version, got, err)
		}
		leaf, err := x509.ParseCertificate(out.Certificates[0])
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("spiffe://%s/signer/%s/acme.db", s.auth.TrustDomain(), k.id); len(leaf.URIs) != 1 || leaf.URIs[0].String() != want || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "db.example" {
			t.Errorf("found the names %v, %v, wanted %s", leaf.URIs, leaf.DNSNames, want)
		}
		rows, err := s.store.Decisions(context.Background(), store.DecisionFilter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.store.Decision(context.Background(), rows[0].Seq)
		if err != nil {
			t.Fatal(err)
		}
		r := d.Record
		if r.Workload != w.subject() || r.Signer != k.id.String() || r.SignedName != "acme.db" || r.SignedVersion != version || r.PolicyVersion != 1 || len(r.Secrets) != 1 {
			t.Errorf("the record: %+v", r)
		}
		var view struct {
			Signed SignatureView `json:"signed"`
		}
		if s.admin("GET", fmt.Sprintf("/v1/admin/decisions/%d", d.Seq), nil, &view); view.Signed != (SignatureView{k.id.String(), "acme.db", version}) {
			t.Errorf("the decision: %+v", view)
		}
	}
	if err := store.Agree(context.Background(), s.store); err != nil {
		t.Error(err)
	}
}

// Each of these is refused for its own reason, and gets nothing; none of them hinders
// the one that is admitted.
func TestT12SignedRefusals(t *testing.T) {
	s, k, stranger := newSteward(t), newSigner(t), newSigner(t)
	s.allowSigner(k, "acme.db", 3, s.platforms())
	w, other := numbered(1), numbered(2)
	good := func() []byte { return k.sign(w, "acme.db", 4) }
	// Version 4 is the highest admitted.
	if _, _, p := s.signed(other, k.sign(other, "acme.db", 4)).enrol(); p != nil {
		t.Fatal(p)
	}
	removed := numbered(3)
	s.allow(removed, s.platforms())
	if code := s.admin("DELETE", path("workloads", removed.subject()), nil, nil); code != 200 {
		t.Fatalf("removing: status %d", code)
	}
	many := make([][]byte, protocol.MaxSignatures+1)
	for i := range many {
		many[i] = good()
	}
	plain := func(list ...[]byte) *keep { return s.signed(w, list...) }
	for name, c := range map[string]struct {
		keep  *keep
		code  string
		check verdict.Code
	}{
		"none":                                 {plain(), "workload-unknown", verdict.Workload},
		"of another key":                       {plain(stranger.sign(w, "acme.db", 4)), "workload-unknown", verdict.Workload},
		"of another name":                      {plain(k.sign(w, "acme.dc", 4)), "workload-unknown", verdict.Workload},
		"of another workload":                  {plain(k.sign(other, "acme.db", 4)), "signature-invalid", verdict.WorkloadSignature},
		"under the minimum":                    {plain(k.sign(w, "acme.db", 2)), "version-low", verdict.WorkloadVersion},
		"under the highest admitted":           {plain(k.sign(w, "acme.db", 3)), "version-low", verdict.WorkloadVersion},
		"a byte behind":                        {plain(append(good(), '\n')), "signature-invalid", verdict.WorkloadSignature},
		"a byte changed in the signature":      {plain(flipped(good())), "signature-invalid", verdict.WorkloadSignature},
		"another payload type":                 {plain(bytes.Replace(good(), []byte("in-toto+json"), []byte("in-toto+jsom"), 1)), "signature-invalid", verdict.WorkloadSignature},
		"two, both bad":                        {plain(k.sign(other, "acme.db", 4), k.sign(w, "acme.db", 2)), "version-low", verdict.WorkloadVersion},
		"two, one unknown, one of another":     {plain(stranger.sign(w, "acme.db", 4), k.sign(other, "acme.db", 4)), "workload-unknown", verdict.Workload},
		"empty":                                {plain([]byte{}), "malformed", ""},
		"over the bound":                       {plain(append(good(), bytes.Repeat([]byte(" "), protocol.MaxSignature)...)), "malformed", ""},
		"nine":                                 {plain(many...), "malformed", ""},
		"a workload that was removed":          {s.signed(removed, k.sign(removed, "acme.db", 4)), "workload-unknown", verdict.Workload},
		"evidence of another workload":         {with(plain(good()), func(k *keep) { k.host = other.digest }), "binding", verdict.HostData},
		"another runtime":                      {with(plain(good()), func(k *keep) { k.measured = [48]byte{1} }), "refused", verdict.RuntimePinned},
		"another manifest than the evidence's": {with(plain(k.sign(other, "acme.db", 4)), func(x *keep) { x.body = both(x.body, func(b *protocol.EnrolRequest) { b.Manifest = other.manifest }) }), "binding", verdict.HostData},
	} {
		t.Run(name, func(t *testing.T) {
			_, out, p := c.keep.enrol()
			if p == nil {
				t.Fatalf("admitted: %+v", out)
			}
			if p.Code != c.code || failing(p) != c.check {
				t.Errorf("found %s by %q, wanted %s by %q: %+v", p.Code, failing(p), c.code, c.check, p)
			}
		})
	}
	if v, err := s.store.SignedVersion(context.Background(), k.id.String(), "acme.db"); err != nil || v != 4 {
		t.Errorf("the highest version: %d, %v: refusals count", v, err)
	}
	if n := s.released(); n != 1 {
		t.Errorf("secrets released %d times, wanted once", n)
	}
	// A good one among bad ones is found: the host may as well have left them out.
	if _, _, p := plain([]byte("x"), k.sign(other, "acme.db", 9), stranger.sign(w, "acme.db", 9), k.sign(w, "acme.db", 1), good()).enrol(); p != nil {
		t.Errorf("among others: %v", p)
	}
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "workload-unknown" {
		t.Errorf("without a signature after one was admitted: %+v", p)
	}
}

func with(k *keep, change func(*keep)) *keep { change(k); return k }

func both(a, b func(*protocol.EnrolRequest)) func(*protocol.EnrolRequest) {
	return func(r *protocol.EnrolRequest) { a(r); b(r) }
}

// flipped changes a byte of the signature, not of the form.
func flipped(b []byte) []byte {
	at := bytes.Index(b, []byte(`"sig":"`)) + 20
	if b[at]++; b[at] == '{' || b[at] == ':' || b[at] == '[' || b[at] == ',' || b[at] == '0' {
		b[at] = 'A'
	}
	return b
}

// Whatever order two versions come in at once, none is admitted behind a higher one.
func TestT12VersionsRace(t *testing.T) {
	s, k := newSteward(t), newSigner(t)
	s.allowSigner(k, "acme.db", 1, s.platforms())
	for round := range 4 {
		low, high := numbered(2*round), numbered(2*round+1)
		keeps := []*keep{s.signed(low, k.sign(low, "acme.db", uint64(2*round+1))), s.signed(high, k.sign(high, "acme.db", uint64(2*round+2)))}
		results := make([]enrol.Result, len(keeps))
		var wg sync.WaitGroup
		for i, kp := range keeps {
			session := kp.connect()
			defer session.close()
			body, peer := session.enrolment(), peerOf(session)
			wg.Add(1)
			go func() {
				defer wg.Done()
				results[i] = s.server.enrol.Enrol(context.Background(), body, peer)
			}()
		}
		wg.Wait()
		if p := results[1].Problem; p != nil {
			t.Errorf("round %d: the higher one: %v", round, p)
		}
		if p := results[0].Problem; p != nil && p.Code != "version-low" || p == nil && results[0].Receipt.Seq > results[1].Receipt.Seq {
			t.Errorf("round %d: the lower one: %+v at %d, the higher at %d", round, p, results[0].Receipt.Seq, results[1].Receipt.Seq)
		}
	}
}

// A higher version is admitted between the reading and the writing of a lower one.
func TestT12RaisedMeanwhile(t *testing.T) {
	m := &meddler{}
	s, k := newSteward(t, func(o *Options) { m.Store = o.Store; o.Store = m }), newSigner(t)
	s.allowSigner(k, "acme.db", 1, s.platforms())
	low, high := numbered(1), numbered(2)
	m.act = func() {
		d := store.Decision{At: s.now(), Epoch: 1, Signer: &store.SignerMark{Signer: k.id.String(), Name: "acme.db", Version: 2}}
		d.Record.Kind, d.Record.Workload, d.Record.Outcome = "decision", high.subject(), verdict.Admitted
		if _, err := m.Store.Decide(context.Background(), d); err != nil {
			t.Error(err)
		}
	}
	_, _, p := s.signed(low, k.sign(low, "acme.db", 1)).enrol()
	if p == nil || p.Code != "version-low" || failing(p) != verdict.WorkloadVersion {
		t.Fatalf("found %+v", p)
	}
	rows, err := s.store.Decisions(context.Background(), store.DecisionFilter{Limit: 1})
	if err != nil || rows[0].Outcome != verdict.Refused || rows[0].Code != "version-low" {
		t.Errorf("the decision: %+v, %v", rows, err)
	}
	if n := s.released(); n != 0 {
		t.Errorf("secrets released %d times", n)
	}
}

func TestSignerChangedWhileJudged(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(s *steward, k *signer, w testWorkload)
		want string // code; "": admitted
	}{
		"nothing": {func(*steward, *signer, testWorkload) {}, ""},
		"the signer removed": {func(s *steward, k *signer, _ testWorkload) {
			s.admin("DELETE", path("workloads", k.subject("app")), nil, nil)
		}, "workload-unknown"},
		"the minimum raised": {func(s *steward, k *signer, _ testWorkload) {
			s.admin("PUT", path("policies", k.subject("app")), PolicyPut{Policy: s.signedPolicy(k, "app", 2, s.platforms())}, nil)
		}, "version-low"},
		"the policy widened": {func(s *steward, k *signer, _ testWorkload) {
			s.admin("PUT", path("policies", k.subject("app")), PolicyPut{Policy: s.signedPolicy(k, "app", 1, "platforms = [\"any\"]\n")}, nil)
		}, "secret-unconfirmed"},
		"the secret deleted": {func(s *steward, k *signer, _ testWorkload) {
			s.admin("DELETE", path("secrets", k.subject("app"))+"/db-password", nil, nil)
		}, "secret-missing"},
		"the workload removed by its digest": {func(s *steward, _ *signer, w testWorkload) {
			s.allow(w, s.platforms())
			s.admin("DELETE", path("workloads", w.subject()), nil, nil)
		}, "workload-unknown"},
		"a policy of the digest's own, without its secret": {func(s *steward, _ *signer, w testWorkload) {
			s.admin("PUT", path("workloads", w.subject()), WorkloadPut{Policy: s.policyFor(w, s.platforms())}, nil)
		}, "secret-missing"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &meddler{}
			s, k := newSteward(t, func(o *Options) { m.Store = o.Store; o.Store = m }), newSigner(t)
			s.allowSigner(k, "app", 1, s.platforms())
			w := numbered(1)
			m.act = func() { c.act(s, k, w) }
			_, _, p := s.signed(w, k.sign(w, "app", 1)).enrol()
			switch {
			case c.want == "" && p != nil:
				t.Error(p)
			case c.want != "" && (p == nil || p.Code != c.want):
				t.Errorf("found %+v, wanted %s", p, c.want)
			case c.want != "":
				s.recordsRefusal()
			}
		})
	}
}

// max_instances counts a signer's Keeps over all its versions.
func TestSignerInstances(t *testing.T) {
	s, k := newSteward(t), newSigner(t)
	s.allowSigner(k, "app", 1, s.platforms()+"max_instances = 2\n")
	for n, want := range []string{"", "", "instances"} {
		w := numbered(n)
		if _, _, p := s.signed(w, k.sign(w, "app", uint64(n+1))).enrol(); p == nil && want != "" || p != nil && p.Code != want {
			t.Errorf("Keep %d: found %+v, wanted %q", n, p, want)
		}
	}
	if v, err := s.store.SignedVersion(context.Background(), k.id.String(), "app"); err != nil || v != 2 {
		t.Errorf("the highest version: %d, %v: the refused one counts", v, err)
	}
	var leases []map[string]any
	if s.admin("GET", path("workloads", k.subject("app"))+"/leases", nil, &leases); len(leases) != 2 {
		t.Errorf("found the leases %v", leases)
	}
}

// Policies and secrets of a signer's workload, as administrators write them.
func TestSignerRoutes(t *testing.T) {
	s, k, other := newSteward(t), newSigner(t), newSigner(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	s.allowSigner(k, "app", 7, s.platforms())
	digest := s.policyFor(w, s.platforms())
	good := s.signedPolicy(k, "app", 1, s.platforms())
	for name, c := range map[string]struct {
		subject, policy string
		code            int
	}{
		"another signer's policy":          {k.subject("app"), s.signedPolicy(other, "app", 1, ""), 422},
		"another name's":                   {k.subject("app"), s.signedPolicy(k, "apq", 1, ""), 422},
		"a digest's":                       {k.subject("app"), digest, 422},
		"a signer's for a digest":          {w.subject(), good, 422},
		"with workloads":                   {k.subject("app"), strings.Replace(good, "version = 1\n", "version = 1\nworkloads = [\""+w.subject()[7:]+"\"]\n", 1), 422},
		"without a minimum":                {k.subject("app"), strings.Replace(good, "min_version = 1\n", "", 1), 422},
		"with the minimum 0":               {k.subject("app"), strings.Replace(good, "min_version = 1\n", "min_version = 0\n", 1), 422},
		"with a negative minimum":          {k.subject("app"), strings.Replace(good, "min_version = 1\n", "min_version = -1\n", 1), 422},
		"with an unknown key":              {k.subject("app"), good + "max_version = 2\n", 422},
		"with a name that is none":         {k.subject("app"), strings.Replace(good, `name = "app"`, `name = "App"`, 1), 422},
		"with a signer that is none":       {k.subject("app"), strings.Replace(good, k.id.String(), "aa", 1), 422},
		"for a subject without a name":     {"signer:" + k.id.String(), good, 400},
		"for a subject in capitals":        {"signer:" + strings.ToUpper(k.id.String()) + "/app", good, 400},
		"for a subject with more":          {k.subject("app") + "/x", good, 400},
		"for a subject that is no subject": {"key:" + k.id.String() + "/app", good, 400},
	} {
		for _, route := range []string{"policies", "workloads"} {
			var b []byte
			body := any(PolicyPut{Policy: c.policy})
			if route == "workloads" {
				body = WorkloadPut{Policy: c.policy}
			}
			if code := s.admin("PUT", path(route, c.subject), body, &b); code != c.code {
				t.Errorf("%s, %s: status %d, wanted %d: %s", name, route, code, c.code, b)
			}
		}
	}
	for name, body := range map[string]WorkloadPut{"a manifest": {Policy: good, Manifest: w.manifest}, "another name": {Policy: good, Name: "x"}, "no policy": {}} {
		if code := s.admin("PUT", path("workloads", k.subject("app")), body, nil); code != 400 {
			t.Errorf("%s: status %d", name, code)
		}
	}
	var list []WorkloadView
	s.admin("GET", "/v1/admin/workloads", nil, &list)
	if len(list) != 2 || list[0].Digest != w.subject() || list[0].Subject != w.subject() || list[1].Subject != k.subject("app") || list[1].Digest != "" || *list[1].Signed != (SignedView{k.id.String(), 7, 0}) {
		t.Errorf("found %+v", list)
	}
	// A page at a time comes to the same.
	var pages []WorkloadView
	for after := ""; ; {
		var page []WorkloadView
		s.admin("GET", "/v1/admin/workloads?limit=1&after="+url.QueryEscape(after), nil, &page)
		if len(page) == 0 {
			break
		}
		pages, after = append(pages, page...), page[len(page)-1].Subject
	}
	if len(pages) != 2 || pages[1].Subject != k.subject("app") {
		t.Errorf("page by page: %+v", pages)
	}
	var secrets []SecretView
	s.admin("GET", "/v1/admin/secrets?workload="+url.QueryEscape(k.subject("app")), nil, &secrets)
	if len(secrets) != 1 || secrets[0].Workload != k.subject("app") || secrets[0].Releasable == nil || !*secrets[0].Releasable {
		t.Errorf("found the secrets %+v", secrets)
	}
	var d PolicyDiff
	s.admin("POST", path("policies", k.subject("app"))+"/diff", PolicyPut{Policy: good}, &d)
	if words := strings.Join(d.Word, "\n"); !strings.Contains(words, "version 7 or higher") || !strings.Contains(words, "version 1 or higher") {
		t.Errorf("found the words %q", words)
	}
}

// A policy that somebody wrote into the database under another's subject admits
// nothing.
func TestMisplacedPolicy(t *testing.T) {
	s, k, other := newSteward(t), newSigner(t), newSigner(t)
	w := numbered(1)
	by := store.Actor{Who: "test", At: s.now()}
	for subject, text := range map[string]string{k.subject("a"): s.signedPolicy(other, "a", 1, s.platforms()), k.subject("b"): s.policyFor(w, s.platforms()), numbered(2).subject(): s.signedPolicy(k, "c", 1, s.platforms())} {
		if err := s.store.PutPolicy(context.Background(), store.Policy{Workload: subject, Version: 1, Text: []byte(text)}, by); err != nil {
			t.Fatal(err)
		}
	}
	for name, kp := range map[string]*keep{"another signer's": s.signed(w, k.sign(w, "a", 1)), "a digest's": s.signed(w, k.sign(w, "b", 1)), "a signer's for a digest": s.keep(numbered(2))} {
		if _, _, p := kp.enrol(); p == nil || p.Code != "internal" {
			t.Errorf("%s: found %+v", name, p)
		}
	}
}

func TestDrySigned(t *testing.T) {
	s, k, other := newSteward(t), newSigner(t), newSigner(t)
	s.allowSigner(k, "app", 2, s.platforms())
	w := newWorkload("") // declares no secret
	session := s.keep(w).connect()
	defer session.close()
	evidence := base64.StdEncoding.EncodeToString(session.enrolment().Request)
	high := numbered(9)
	if _, _, p := s.signed(high, k.sign(high, "app", 5)).enrol(); p != nil {
		t.Fatal(p)
	}
	for name, c := range map[string]struct {
		list  [][]byte
		want  verdict.Outcome
		check verdict.Code // that decides
	}{
		"good":                       {[][]byte{k.sign(w, "app", 5)}, verdict.Admitted, ""},
		"good beside a low one":      {[][]byte{k.sign(w, "app", 5), k.sign(w, "app", 1)}, verdict.Admitted, ""},
		"good beside others":         {[][]byte{[]byte("x"), other.sign(w, "app", 5), k.sign(high, "app", 6), k.sign(w, "app", 6)}, verdict.Admitted, ""},
		"none":                       {nil, verdict.CannotTell, verdict.WorkloadSignature},
		"of another workload":        {[][]byte{k.sign(high, "app", 5)}, verdict.Refused, verdict.WorkloadSignature},
		"of another key":             {[][]byte{other.sign(w, "app", 5)}, verdict.Refused, verdict.WorkloadSignature},
		"of another name":            {[][]byte{k.sign(w, "apq", 5)}, verdict.Refused, verdict.WorkloadSignature},
		"under the minimum":          {[][]byte{k.sign(w, "app", 1)}, verdict.Refused, verdict.WorkloadVersion},
		"under the highest admitted": {[][]byte{k.sign(w, "app", 4)}, verdict.Refused, verdict.WorkloadVersion},
		"flipped":                    {[][]byte{flipped(k.sign(w, "app", 5))}, verdict.Refused, verdict.WorkloadSignature},
	} {
		var v verdict.Verdict
		if code := s.admin("POST", path("policies", k.subject("app"))+"/test", PolicyTest{Evidence: evidence, Signatures: c.list}, &v); code != 200 {
			t.Fatalf("%s: status %d", name, code)
		}
		found := c.check == ""
		for _, x := range v.Deciding() {
			found = found || x.Code == c.check
		}
		if v.Outcome != c.want || !found {
			t.Errorf("%s: found %s by %+v, wanted %s by %s", name, v.Outcome, v.Deciding(), c.want, c.check)
		}
	}
	if code := s.admin("POST", path("policies", k.subject("app"))+"/test", PolicyTest{Evidence: evidence, Signatures: make([][]byte, 9)}, nil); code != 400 {
		t.Errorf("nine signatures: status %d", code)
	}
	// A digest's policy does not look at them.
	s.allow(w, s.platforms())
	var v verdict.Verdict
	s.admin("POST", path("policies", w.subject())+"/test", PolicyTest{Evidence: evidence, Signatures: [][]byte{[]byte("x")}}, &v)
	if v.Outcome != verdict.Admitted {
		t.Errorf("a digest's policy: %+v", v.Deciding())
	}
	if rows, err := s.store.Decisions(context.Background(), store.DecisionFilter{}); err != nil || len(rows) != 1 {
		t.Errorf("%d decisions, %v: a trial is recorded", len(rows), err)
	}
}
