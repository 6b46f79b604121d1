package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
)

// failing is the first check that decided, as the caller sees it.
func failing(p *protocol.Problem) verdict.Code {
	if p == nil || len(p.Checks) == 0 {
		return ""
	}
	return p.Checks[0].Code
}

// Each of these changes one thing of a request that is admitted otherwise, and each
// is refused for its own reason. None of them gets anything.
func TestEnrolmentRefusals(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	other := newWorkload("[env]\nA = \"1\"\n")
	foreign, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	copyOf := func(b []byte) []byte { return bytes.Clone(b) }
	for name, c := range map[string]struct {
		change func(*keep)
		code   string
		check  verdict.Code // "": none is shown
	}{
		"own runtime, allowed host data":    {func(k *keep) { k.measured = [48]byte{1} }, "refused", verdict.RuntimePinned}, // T1
		"debug":                             {func(k *keep) { k.policy = silicon.DefaultPolicy | 1<<19 }, "refused", verdict.Debug},
		"another machine's simulated root":  {func(k *keep) { k.silicon = foreign }, "not-genuine", verdict.TrustedRoot},
		"another connection's exporter":     {func(k *keep) { k.claims = func(c *evidence.Claims) { c.TLSExporter[0] ^= 1 } }, "binding", verdict.ChannelBinding},
		"no exporter":                       {func(k *keep) { k.claims = func(c *evidence.Claims) { c.TLSExporter = nil } }, "binding", verdict.ChannelBinding},
		"another Steward's key":             {func(k *keep) { k.claims = func(c *evidence.Claims) { c.StewardKey[0] ^= 1 } }, "binding", verdict.ChannelBinding}, // T4
		"no Steward's key":                  {func(k *keep) { k.claims = func(c *evidence.Claims) { c.StewardKey, c.SealingKey = nil, nil } }, "binding", verdict.ChannelBinding},
		"another sealing key in the claims": {func(k *keep) { k.claims = func(c *evidence.Claims) { c.SealingKey[0] ^= 1 } }, "binding", verdict.KeyBinding},
		"another sealing key in the body": {func(k *keep) {
			k.body = func(b *protocol.EnrolRequest) { b.SealingKey = copyOf(b.SealingKey); b.SealingKey[0] ^= 1 }
		}, "binding", verdict.KeyBinding},
		"another key": {func(k *keep) { k.claims = func(c *evidence.Claims) { c.PubkeyHash[0] ^= 1 } }, "binding", verdict.KeyBinding},
		"another purpose": {func(k *keep) {
			k.claims = func(c *evidence.Claims) { c.Purpose, c.StewardKey, c.SealingKey = evidence.PurposeConnect, nil, nil }
		}, "binding", verdict.Purpose}, // T3
		"claims about another workload": {func(k *keep) {
			k.claims = func(c *evidence.Claims) { c.WorkloadDigest[0] ^= 1 }
		}, "binding", verdict.HostData}, // T23
		"host data of another workload":   {func(k *keep) { k.host = other.digest }, "binding", verdict.HostData},
		"manifest of an unknown workload": {func(k *keep) { k.body = func(b *protocol.EnrolRequest) { b.Manifest = other.manifest } }, "workload-unknown", verdict.Workload},
		"unknown workload":                {func(k *keep) { k.work = other }, "workload-unknown", verdict.Workload},
		"manifest that does not parse": {func(k *keep) {
			k.body = func(b *protocol.EnrolRequest) { b.Manifest = append(copyOf(b.Manifest), ' ') }
		}, "workload-unknown", verdict.Workload},
		"configuration of another":     {func(k *keep) { k.body = func(b *protocol.EnrolRequest) { b.Config = other.config } }, "binding", verdict.HostData},
		"no configuration":             {func(k *keep) { k.body = func(b *protocol.EnrolRequest) { b.Config = nil } }, "binding", verdict.HostData},
		"a nonce of its own":           {func(k *keep) { k.claims = func(c *evidence.Claims) { c.Nonce = make([]byte, 60) } }, "challenge-unknown", ""},
		"a short nonce":                {func(k *keep) { k.claims = func(c *evidence.Claims) { c.Nonce = c.Nonce[:59] } }, "challenge-unknown", ""},
		"a challenge with another end": {func(k *keep) { k.claims = func(c *evidence.Claims) { c.Nonce = copyOf(c.Nonce); c.Nonce[11] ^= 1 } }, "challenge-unknown", ""},
		"no nonce":                     {func(k *keep) { k.claims = func(c *evidence.Claims) { c.Nonce = nil } }, "challenge-unknown", ""},
		"no evidence":                  {func(k *keep) { k.request = func(c *x509.CertificateRequest) { c.ExtraExtensions = nil } }, "malformed", ""},
		"two extensions with evidence": {func(k *keep) {
			k.request = func(c *x509.CertificateRequest) { c.ExtraExtensions = append(c.ExtraExtensions, c.ExtraExtensions[0]) }
		}, "malformed", ""},
		"KVM evidence": {func(k *keep) {
			k.request = func(c *x509.CertificateRequest) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 1, 1}}}
			}
		}, "malformed", ""},
		"KVM evidence beside": {func(k *keep) {
			k.request = func(c *x509.CertificateRequest) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 1, 1}})
			}
		}, "malformed", ""},
		"bytes behind the request": {func(k *keep) { k.body = func(b *protocol.EnrolRequest) { b.Request = append(copyOf(b.Request), 0) } }, "malformed", ""},
		"a flipped signature": {func(k *keep) {
			k.body = func(b *protocol.EnrolRequest) { b.Request = copyOf(b.Request); b.Request[len(b.Request)-1] ^= 1 }
		}, "not-genuine", verdict.SelfSignature},
		"a short sealing key": {func(k *keep) { k.body = func(b *protocol.EnrolRequest) { b.SealingKey = b.SealingKey[:31] } }, "malformed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := s.keep(w)
			c.change(k)
			session, out, p := k.enrol()
			if p == nil {
				t.Fatalf("admitted: %+v", out)
			}
			if p.Code != c.code || c.check != "" && failing(p) != c.check {
				t.Errorf("found %s by %s, wanted %s by %s: %+v", p.Code, failing(p), c.code, c.check, p)
			}
			if p.Instance == "" || p.Title == "" || !strings.HasSuffix(p.Type, "#"+p.Code) {
				t.Errorf("the problem is not whole: %+v", p)
			}
			_ = session
		})
	}
	// The Keep as it should be is still admitted: nothing above used up more than its
	// own challenge.
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("refused at last: %+v", p)
	}
	if n := s.released(); n != 1 {
		t.Errorf("secrets released %d times, wanted once", n)
	}
}

// released counts decisions that gave a secret away, as the log has it.
func (s *steward) released() int {
	s.t.Helper()
	n := 0
	list, err := s.store.Decisions(context.Background(), store.DecisionFilter{Limit: store.MaxPage})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, row := range list {
		d, err := s.store.Decision(context.Background(), row.Seq)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(d.Record.Secrets) > 0 {
			n++
		}
	}
	return n
}

func TestReplayOfARequest(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	session := s.keep(w).connect()
	defer session.close()
	body := session.enrolment()
	var out protocol.EnrolResponse
	if _, p := session.post(protocol.PathEnrol, body, &out); p != nil {
		t.Fatalf("refused: %v", p)
	}
	if _, p := session.post(protocol.PathEnrol, body, &out); p == nil || p.Code != "challenge-used" {
		t.Errorf("the same again: found %+v, wanted challenge-used", p)
	}
	// A recorder replays it over a connection of his own: it is bound to the other.
	thief := s.keep(w).connect()
	defer thief.close()
	if _, p := thief.post(protocol.PathEnrol, body, &out); p == nil || p.Code == "" {
		t.Errorf("over another connection: admitted")
	}
	// New evidence for a used challenge.
	if _, p := session.post(protocol.PathEnrol, session.enrolment(), &out); p == nil || p.Code != "challenge-used" {
		t.Errorf("new evidence for a used challenge: found %+v, wanted challenge-used", p)
	}
	// The log has the one decision: a used challenge does not fill it.
	if rows, err := s.store.Decisions(context.Background(), store.DecisionFilter{}); err != nil || len(rows) != 1 {
		t.Errorf("%d decisions, wanted 1: %v", len(rows), err)
	}
	if n := s.released(); n != 1 {
		t.Errorf("secrets released %d times, wanted once", n)
	}
}

// A request recorded before it arrived is of no use on another connection.
func TestRelayedRequest(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	victim, thief := s.keep(w).connect(), s.keep(w).connect()
	defer victim.close()
	defer thief.close()
	var out protocol.EnrolResponse
	if _, p := thief.post(protocol.PathEnrol, victim.enrolment(), &out); p == nil || p.Code != "binding" || failing(p) != verdict.ChannelBinding {
		t.Errorf("relayed: found %+v, wanted binding by channel-binding", p)
	}
	if n := s.released(); n != 0 {
		t.Errorf("secrets released %d times", n)
	}
}

func TestTwoRequestsRaceForAChallenge(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	const racers = 8
	for round := range 5 {
		first := s.keep(w).connect()
		body := first.enrolment()
		// The exporter binds it to one connection, so that the race is decided by the
		// handler alone: it is called as the connection would call it, many times at once.
		var wg sync.WaitGroup
		codes := make([]string, racers)
		for i := range racers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				r := s.server.enrol.Enrol(context.Background(), body, peerOf(first))
				codes[i] = "admitted"
				if r.Problem != nil {
					codes[i] = r.Problem.Code
				}
			}()
		}
		wg.Wait()
		first.close()
		won := 0
		for _, c := range codes {
			if c == "admitted" {
				won++
			} else if c != "challenge-used" {
				t.Errorf("round %d: found %s, wanted challenge-used", round, c)
			}
		}
		if won != 1 {
			t.Errorf("round %d: %d admitted, wanted 1: %v", round, won, codes)
		}
	}
}

func TestClockSteps(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	for name, c := range map[string]struct {
		step time.Duration
		code string
	}{
		"forward past the challenge's end": {6 * time.Minute, "challenge-expired"},
		"back by ten minutes":              {-10 * time.Minute, "challenge-unknown"},
		"back by a year":                   {-365 * 24 * time.Hour, "challenge-unknown"},
	} {
		session := s.keep(w).connect()
		body := session.enrolment()
		s.step(c.step)
		var out protocol.EnrolResponse
		_, p := session.post(protocol.PathEnrol, body, &out)
		s.step(-c.step)
		session.close()
		if p == nil || p.Code != c.code {
			t.Errorf("%s: found %+v, wanted %s", name, p, c.code)
		}
	}
	// A used challenge stays used when the clock steps back after it was forgotten.
	session := s.keep(w).connect()
	defer session.close()
	body := session.enrolment()
	var out protocol.EnrolResponse
	if _, p := session.post(protocol.PathEnrol, body, &out); p != nil {
		t.Fatal(p)
	}
	s.step(3 * time.Hour)
	if _, err := s.store.Purge(context.Background(), s.now(), 1000); err != nil {
		t.Fatal(err)
	}
	s.step(-3 * time.Hour)
	if _, p := session.post(protocol.PathEnrol, body, &out); p == nil || p.Code != "challenge-used" {
		t.Errorf("after a purge and a step back: found %+v, wanted challenge-used", p)
	}
}

func TestSimulatedNeedsToBeAllowed(t *testing.T) { // T8
	s := newSteward(t, func(o *Options) { o.AllowSimulated = false })
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	_, _, p := s.keep(w).enrol()
	if p == nil || p.Code != "refused" || failing(p) != verdict.SimulatedRoot {
		t.Fatalf("found %+v, wanted refused by simulated-root", p)
	}
	for _, c := range p.Checks {
		if c.Code == verdict.SimulatedRoot && !strings.Contains(c.Hint, "without --allow-simulated") {
			t.Errorf("found the hint %q: the policy does allow it", c.Hint)
		}
	}
	strict := strings.Replace(s.policyFor(w, s.platforms()), "allow_simulated = true", "allow_simulated = false", 1)
	if code := s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: strict}, nil); code != 200 {
		t.Fatalf("the stricter policy: status %d", code)
	}
	_, _, p = s.keep(w).enrol()
	if p == nil || failing(p) != verdict.SimulatedRoot {
		t.Fatalf("found %+v, wanted refused by simulated-root", p)
	}
	for _, c := range p.Checks {
		if c.Code == verdict.SimulatedRoot && !(strings.Contains(c.Hint, "neither does the policy") && strings.Contains(c.Hint, "without --allow-simulated")) {
			t.Errorf("found the hint %q: both stand in the way", c.Hint)
		}
	}
}

// The log says nothing of evidence that nobody looked at.
func TestLogOfWhatWasNotJudged(t *testing.T) {
	s := newSteward(t)
	if _, _, p := s.keep(newWorkload(secretConfig)).enrol(); p == nil || p.Code != "workload-unknown" {
		t.Fatalf("found %+v, wanted workload-unknown", p)
	}
	if said := s.log.String(); !strings.Contains(said, `"code":"workload-unknown"`) || strings.Contains(said, `"simulated"`) {
		t.Errorf("found the log %s, wanted it without whether the evidence is simulated", said)
	}
}

func TestWidenedPolicyReleasesNoSecret(t *testing.T) { // T8
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	wide := strings.Replace(s.policyFor(w, s.platforms()), "[snp]", "[snp]\nallow_debug = true", 1)
	var v PolicyView
	if code := s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: wide}, &v); code != 200 || len(v.Unconfirmed) != 1 {
		t.Fatalf("writing the policy: status %d, %+v", code, v)
	}
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "secret-unconfirmed" {
		t.Errorf("found %+v, wanted secret-unconfirmed", p)
	}
	if code := s.admin("POST", "/v1/admin/secrets/"+w.subject()+"/db-password/confirm", SecretConfirm{1, strings.Repeat("00", 32)}, nil); code != http.StatusConflict {
		t.Errorf("confirming under another policy: status %d", code)
	}
	if code := s.admin("POST", "/v1/admin/secrets/"+w.subject()+"/db-password/confirm", SecretConfirm{1, v.Digest}, nil); code != 204 {
		t.Fatalf("confirming: status %d", code)
	}
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("confirmed: %+v", p)
	}
}

func TestPlatformsAreNamedWhereSecretsAre(t *testing.T) { // T11
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, "")
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "cannot-tell" || failing(p) != verdict.Platforms {
		t.Errorf("no platforms: found %+v, wanted cannot-tell by platforms", p)
	}
	s.allow(w, "platforms = [\"simulated:"+strings.Repeat("ab", 32)+"\"]\n")
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "refused" || failing(p) != verdict.Platforms {
		t.Errorf("another machine: found %+v, wanted refused by platforms", p)
	}
	s.allow(w, "platforms = [\"any\"]\n")
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("any: %+v", p)
	}
	s.allow(w, "platforms = []\n")
	if _, _, p := s.keep(w).enrol(); p == nil || failing(p) != verdict.Platforms {
		t.Errorf("an empty list: found %+v, wanted refused by platforms", p)
	}
}

func TestInstances(t *testing.T) { // T11
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, "max_instances = 2\n")
	one := s.keep(w)
	one.instance = [16]byte{1}
	for range 3 { // renewals of one Keep take one place
		if _, _, p := one.enrol(); p != nil {
			t.Fatal(p)
		}
	}
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Fatal(p)
	}
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "instances" {
		t.Errorf("the third: found %+v, wanted instances", p)
	}
	s.step(25 * time.Hour)
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("after the certificates' end: %+v", p)
	}
}

func TestOwnNamesAreNotGranted(t *testing.T) { // T4
	s := newSteward(t)
	w := newWorkload("")
	for i, n := range []string{"localhost", "LOCALHOST.", "Steward.Example", "*.example", "127.0.0.1", "0x7f000001", "2130706433", "127.1", "[::1]", "::1", "a..b", "-a.b", "ex_ample.org", "münchen.example"} {
		p := s.policyFor(w, "dns = [\""+n+"\"]\n")
		if code := s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: p}, nil); code != http.StatusUnprocessableEntity {
			t.Errorf("dns = %q: status %d, wanted 422", n, code)
		}
		// Written past the interface it is refused at the enrolment.
		w := newWorkload(fmt.Sprintf("[env]\nN = \"%d\"\n", i))
		err := s.store.PutPolicy(context.Background(), store.Policy{Workload: w.subject(), Version: 1, Text: []byte(s.policyFor(w, "dns = [\""+n+"\"]\n"))}, store.Actor{Who: "test", At: s.now()})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, p := s.keep(w).enrol(); p == nil {
			t.Errorf("dns = %q in the store: admitted", n)
		}
	}
}

// A workload's certificate does not make a Steward: its intermediate has no marker,
// and it cannot certify.
func TestAWorkloadIsNoSteward(t *testing.T) { // T4
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, "dns = [\"app.example\"]\n")
	_, out, p := s.keep(w).enrol()
	if p != nil {
		t.Fatal(p)
	}
	for i, der := range out.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range c.Extensions {
			if x.Id.Equal(protocol.MarkerOID) {
				t.Errorf("certificate %d has the marker of the Steward's own", i)
			}
		}
		if i == 0 && c.IsCA || i == 1 && (!c.IsCA || !c.MaxPathLenZero) {
			t.Errorf("certificate %d: CA %v, path length 0 %v", i, c.IsCA, c.MaxPathLenZero)
		}
	}
	session := s.keep(w).connect()
	defer session.close()
	chain := session.state.VerifiedChains[0]
	found := false
	for _, x := range chain[1].Extensions {
		found = found || x.Id.Equal(protocol.MarkerOID)
	}
	if !found {
		t.Error("the Steward's own issuer has no marker")
	}
	// What the names in a request ask for is not looked at.
	k := s.keep(w)
	k.request = func(c *x509.CertificateRequest) {
		c.DNSNames, c.Subject = []string{"steward.example"}, pkix.Name{CommonName: "steward.example"}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: protocol.MarkerOID, Value: []byte{5, 0}})
	}
	if _, out, p = k.enrol(); p != nil {
		t.Fatal(p)
	}
	c, err := x509.ParseCertificate(out.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(c.DNSNames) != 1 || c.DNSNames[0] != "app.example" || c.Subject.String() != "" {
		t.Errorf("asked-for names: found %v and %q", c.DNSNames, c.Subject)
	}
	for _, x := range c.Extensions {
		if x.Id.Equal(protocol.MarkerOID) {
			t.Error("an asked-for marker is in the certificate")
		}
	}
}

// The records say what happened: each refusal once, and nothing can be changed.
func TestRefusalsAreRecorded(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	k := s.keep(w)
	k.measured = [48]byte{1}
	_, _, p := k.enrol()
	if p == nil || p.AuditHead == "" {
		t.Fatalf("found %+v, wanted a refusal with the audit head", p)
	}
	var rows []DecisionView
	s.admin("GET", "/v1/admin/decisions", nil, &rows)
	if len(rows) != 1 || rows[0].Outcome != verdict.Refused || rows[0].Code != "refused" || rows[0].Request != p.Instance {
		t.Errorf("found %+v, wanted the refusal of request %s", rows, p.Instance)
	}
	for _, c := range p.Checks {
		if c.Code == verdict.RuntimePinned && strings.Contains(c.Wanted, "0909") {
			t.Error("the caller sees the launch digests that the policy names")
		}
	}
}

func TestSecretMissing(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	if code := s.admin("DELETE", "/v1/admin/secrets/"+w.subject()+"/db-password", nil, nil); code != 204 {
		t.Fatalf("deleting: status %d", code)
	}
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "secret-missing" {
		t.Errorf("found %+v, wanted secret-missing", p)
	}
}

func TestRemovedWorkload(t *testing.T) {
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, "")
	if code := s.admin("DELETE", "/v1/admin/workloads/"+w.subject(), nil, nil); code != 200 {
		t.Fatalf("removing: status %d", code)
	}
	if _, _, p := s.keep(w).enrol(); p == nil || p.Code != "workload-unknown" {
		t.Errorf("found %+v, wanted workload-unknown", p)
	}
	var list []WorkloadView
	if s.admin("GET", "/v1/admin/workloads", nil, &list); len(list) != 1 || !list[0].Removed {
		t.Errorf("the list: %+v", list)
	}
}

func TestRotationKeepsBothRootsGood(t *testing.T) {
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, "")
	before := s.roots()
	if err := s.auth.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := s.server.identity.renew(); err != nil {
		t.Fatal(err)
	}
	after := x509.NewCertPool()
	after.AddCert(s.auth.Roots()[1])
	session, out, p := s.keep(w).enrol()
	if p != nil {
		t.Fatal(p)
	}
	check := func(what string, list []*x509.Certificate, usage x509.ExtKeyUsage) {
		between := x509.NewCertPool()
		for _, c := range list[1:] {
			between.AddCert(c)
		}
		for name, roots := range map[string]*x509.CertPool{"before": before, "after": after} {
			if _, err := list[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("%s under the root %s: %v", what, name, err)
			}
		}
	}
	var chain []*x509.Certificate
	for _, der := range out.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	check("the workload", chain, x509.ExtKeyUsageClientAuth)
	check("the server", session.state.PeerCertificates, x509.ExtKeyUsageServerAuth)
	if err := s.auth.Retire(); err != nil || len(s.auth.Roots()) != 1 {
		t.Errorf("retiring: %v, %d roots", err, len(s.auth.Roots()))
	}
	if err := s.server.identity.renew(); err != nil {
		t.Fatal(err)
	}
	if _, _, p := s.keep(w).enrol(); p != nil {
		t.Errorf("under the new root alone: %+v", p)
	}
}
