package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// Evidence as Donjon's warden makes it, on simulated silicon.

// A made is evidence in parts, each of which a test may change before it is
// encoded.
type made struct {
	silicon *silicon.Silicon
	other   *silicon.Silicon // another machine's
	claims  evidence.Claims
	host    [32]byte
	// edit changes the finished evidence; guest is the one it came from.
	edit func(e *evidence.Evidence, guest *silicon.Guest)
}

func (m made) encode(t *testing.T) []byte {
	t.Helper()
	claims, err := m.claims.Encode()
	if err != nil {
		t.Fatal(err)
	}
	g := m.silicon.Guest(silicon.Launch{HostData: m.host}, func() [48]byte { return [48]byte{9} })
	raw, err := g.Report(evidence.ReportData(claims))
	if err != nil {
		t.Fatal(err)
	}
	e := evidence.Evidence{Report: raw, Certs: g.Certs(), Claims: claims}
	if m.edit != nil {
		m.edit(&e, g)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newMade(t *testing.T) made {
	t.Helper()
	m := made{host: [32]byte{7}, claims: evidence.Claims{WorkloadDigest: [32]byte{7}, Nonce: []byte("12345678"), Purpose: evidence.PurposeFile}}
	var err error
	if m.silicon, err = silicon.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if m.other, err = silicon.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return m
}

// certsWith is the table of s with the entry of one kind taken from other.
func certsWith(t *testing.T, s, other *silicon.Silicon, kind snp.GUID) []byte {
	t.Helper()
	table := func(s *silicon.Silicon) []snp.CertEntry {
		rows, err := snp.ParseCertTable(s.Guest(silicon.Launch{}, nil).Certs())
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	rows, foreign := table(s), table(other)
	for i := range rows {
		if rows[i].GUID == kind {
			rows[i] = foreign[i]
		}
	}
	return snp.EncodeCertTable(rows)
}

// keepWanted is what a verifier of a Keep knows.
type keepWanted struct {
	root  string // fingerprint of a simulated root; "": none is named
	nonce []byte
	at    time.Time
}

func (w keepWanted) verify(t *testing.T, b []byte) *verdict.Verdict {
	t.Helper()
	p := policy.Default()
	p.AllowSimulated = true
	o := Options{At: w.at, Nonce: w.nonce, Policy: p}
	if h, err := hex.DecodeString(w.root); err == nil && len(h) == 32 {
		o.SimulatedRoots = []pki.Hash{pki.Hash(h)}
	}
	var v Verifier
	return v.Verify(b, o)
}

// failedChecks lists the codes of what failed, once each; where nothing did, those that
// keep it from being admitted beside what no policy names here, with a dash.
func failedChecks(v *verdict.Verdict) string {
	var failed, open []string
	for _, c := range v.Checks {
		switch {
		case c.Status == verdict.Failed && !strings.Contains(" "+strings.Join(failed, " ")+" ", " "+string(c.Code)+" "):
			failed = append(failed, string(c.Code))
		case c.Code == verdict.CertificateValidity && c.Status == verdict.NotMade:
			open = append(open, "-"+string(c.Code))
		}
	}
	if failed != nil {
		return strings.Join(failed, " ")
	}
	return strings.Join(open, " ")
}

// Each check fails on its own vector, and exactly those fail that should.
func TestT03T23KeepEvidence(t *testing.T) {
	base := newMade(t)
	other := base.other
	for name, c := range map[string]struct {
		change func(*made, *keepWanted)
		want   string
	}{
		"genuine":     {func(*made, *keepWanted) {}, ""},
		"other root":  {func(_ *made, w *keepWanted) { w.root = other.RootFingerprint() }, "trusted-root"},
		"no root":     {func(_ *made, w *keepWanted) { w.root = "" }, "trusted-root"},
		"other nonce": {func(_ *made, w *keepWanted) { w.nonce = []byte("87654321") }, "nonce"},
		"prefix of the nonce": {func(m *made, w *keepWanted) {
			m.claims.Nonce = []byte("123456789")
		}, "nonce"},
		"no nonce":        {func(m *made, _ *keepWanted) { m.claims.Nonce = nil }, "nonce"},
		"other host data": {func(m *made, _ *keepWanted) { m.host[31] = 1 }, "host-data"}, // T23
		"expired":         {func(_ *made, w *keepWanted) { w.at = w.at.AddDate(40, 0, 0) }, "-certificate-validity"},
		"not yet valid":   {func(_ *made, w *keepWanted) { w.at = w.at.AddDate(-1, 0, 0) }, "-certificate-validity"},
		"other purpose":   {func(m *made, _ *keepWanted) { m.claims.Purpose = evidence.PurposeEnrol }, "purpose"}, // T03
		"other claims": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) {
				c := m.claims
				c.Instance[0] ^= 1
				e.Claims, _ = c.Encode()
			}
		}, "report-data"},
		"report data not padded with zeros": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, g *silicon.Guest) {
				d := evidence.ReportData(e.Claims)
				d[63] = 1
				e.Report, _ = g.Report(d)
			}
		}, "report-data"},
		"flipped signature": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[snp.SignedSize] ^= 1 }
		}, "signature"},
		"flipped measurement": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[0x90] ^= 1 }
		}, "signature"},
		"reported TCB raised": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[0x180]++ }
		}, "key-to-report signature tcb-order"},
		"other machine's VCEK": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = certsWith(t, m.silicon, m.other, snp.GUIDVCEK) }
		}, "chain key-to-report signature"},
		"other machine's ASK": {func(m *made, _ *keepWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = certsWith(t, m.silicon, m.other, snp.GUIDASK) }
		}, "chain"},
		"the right root beside another's chain": {func(m *made, w *keepWanted) {
			w.root = m.other.RootFingerprint()
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = certsWith(t, m.silicon, m.other, snp.GUIDARK) }
		}, "chain"},
	} {
		m, w := base, keepWanted{root: base.silicon.RootFingerprint(), nonce: []byte("12345678"), at: time.Now()}
		c.change(&m, &w)
		out := w.verify(t, m.encode(t))
		if got := failedChecks(out); got != c.want {
			t.Errorf("%s: failed %q, wanted %q\n%s", name, got, c.want, out.Text(nil))
		}
		if outcome := map[bool]verdict.Outcome{true: verdict.CannotTell, false: verdict.NotGenuine}[c.want == "" || c.want[0] == '-']; out.Outcome != outcome && c.want != "" {
			t.Errorf("%s: %s, wanted %s", name, out.Outcome, outcome)
		}
	}
}

func TestT26EvidenceMalformed(t *testing.T) {
	m := newMade(t)
	good := m.encode(t)
	vectors := map[string][]byte{"nothing": nil, "text": []byte("hello"), "short": good[:len(good)-1], "long": append(bytes.Clone(good), 0)}
	for name, edit := range map[string]func(*evidence.Evidence, *silicon.Guest){
		"report of version 1": func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[0] = 1 },
		"report too short":    func(e *evidence.Evidence, _ *silicon.Guest) { e.Report = e.Report[1:] },
		"no claims":           func(e *evidence.Evidence, _ *silicon.Guest) { e.Claims = nil },
		"claims with more":    func(e *evidence.Evidence, _ *silicon.Guest) { e.Claims = append(e.Claims, 0) },
		"a certificate of no form": func(e *evidence.Evidence, _ *silicon.Guest) {
			e.Certs = snp.EncodeCertTable([]snp.CertEntry{{GUID: snp.GUIDVCEK, Data: []byte("x")}})
		},
		"an entry of unknown kind": func(e *evidence.Evidence, _ *silicon.Guest) {
			rows, _ := snp.ParseCertTable(e.Certs)
			rows[1].GUID[0] ^= 1
			e.Certs = snp.EncodeCertTable(rows)
		},
	} {
		m.edit = edit
		vectors[name] = m.encode(t)
	}
	w := keepWanted{root: m.silicon.RootFingerprint(), at: time.Now()}
	for name, b := range vectors {
		if out := w.verify(t, b); out.Outcome != verdict.NotGenuine || !strings.Contains(failedChecks(out), "form") && name != "an entry of unknown kind" {
			t.Errorf("%s: found %s by %s, wanted the failed check form", name, out.Outcome, failedChecks(out))
		}
	}
}

// T03: a bare report out of a Keep's evidence is not the Keep's word.
func TestT03BareReportOfAKeep(t *testing.T) {
	m := newMade(t)
	b := m.encode(t)
	root := m.silicon.RootFingerprint()
	h, err := hex.DecodeString(root)
	if err != nil {
		t.Fatal(err)
	}
	var v Verifier
	o := Options{At: time.Now(), SimulatedRoots: []pki.Hash{pki.Hash(h)}}
	text, err := Fit(&v, b, o, policy.Draft{})
	if err != nil {
		t.Fatal(err)
	}
	if o.Policy, err = policy.Parse(text); err != nil {
		t.Fatal(err)
	}
	if out := v.Verify(b, o); out.Outcome != verdict.Admitted {
		t.Fatalf("the evidence itself: %s\n%s", out.Outcome, out.Text(nil))
	}
	e, err := evidence.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	o.Purpose = evidence.PurposeEnrol
	if out := v.Verify(b, o); out.Outcome != verdict.NotGenuine || failedChecks(out) != "purpose" {
		t.Errorf("evidence for a file, as for an enrolment: %s by %s, wanted not genuine by purpose", out.Outcome, failedChecks(out))
	}
	o.AsStated = true // what is not stated is not taken as any
	if out := v.Verify(b, o); out.Outcome != verdict.Admitted {
		t.Errorf("evidence for a file, as it states: %s\n%s", out.Outcome, out.Text(nil))
	}
	if out := v.Verify(append(bytes.Clone(e.Report), e.Certs...), o); out.Outcome != verdict.NotGenuine || failedChecks(out) != "purpose" {
		t.Errorf("the bare report: %s by %s, wanted not genuine by purpose", out.Outcome, failedChecks(out))
	}
}

// T17: evidence got by HTTP shows no connection: it is genuine, it is never admitted,
// and no policy is written from it or can waive what is missing.
func TestT17HTTPEvidenceIsNotAdmitted(t *testing.T) {
	m := newMade(t)
	root, err := hex.DecodeString(m.silicon.RootFingerprint())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{At: time.Now(), Nonce: m.claims.Nonce, SimulatedRoots: []pki.Hash{pki.Hash(root)}}
	text, err := Fit(&Verifier{}, m.encode(t), o, policy.Draft{})
	if err != nil {
		t.Fatal(err)
	}
	if o.Policy, err = policy.Parse(text); err != nil {
		t.Fatal(err)
	}
	m.claims.Purpose = evidence.PurposeHTTP
	b := m.encode(t)
	for _, purpose := range []string{"", evidence.PurposeHTTP} {
		o.Purpose = purpose
		for _, o.PlatformOnly = range []bool{false, true} {
			v := new(Verifier).Verify(b, o)
			if d := v.Deciding(); v.Outcome != verdict.CannotTell || len(d) != 1 || d[0].Code != verdict.ChannelBinding {
				t.Errorf("for %q: %s", purpose, v.Text(nil))
			}
		}
	}
	o.PlatformOnly = false
	for _, purpose := range []string{evidence.PurposeFile, evidence.PurposeConnect, evidence.PurposeEnrol} {
		o.Purpose = purpose
		if v := new(Verifier).Verify(b, o); v.Outcome != verdict.NotGenuine {
			t.Errorf("for %q: %s", purpose, v.Text(nil))
		}
	}
	o.Purpose = ""
	if text, err := Fit(&Verifier{}, b, o, policy.Draft{}); err == nil {
		t.Errorf("a policy was written: %s", text)
	}
	if _, err := policy.Parse(append(text, "[[waive]]\ncheck = \"channel-binding\"\nreason = \"x\"\n"...)); err == nil {
		t.Error("a policy waives channel-binding")
	}
}

// Evidence of a connection counts on that connection, by a whole exporter value and key,
// and nowhere else.
func TestT17ConnectEvidenceNeedsItsConnection(t *testing.T) {
	m := newMade(t)
	root, err := hex.DecodeString(m.silicon.RootFingerprint())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{At: time.Now(), Nonce: m.claims.Nonce, SimulatedRoots: []pki.Hash{pki.Hash(root)}}
	text, err := Fit(&Verifier{}, m.encode(t), o, policy.Draft{})
	if err != nil {
		t.Fatal(err)
	}
	if o.Policy, err = policy.Parse(text); err != nil {
		t.Fatal(err)
	}
	spki := []byte("a key")
	m.claims.Purpose, m.claims.PubkeyHash = evidence.PurposeConnect, sha256.Sum256(spki)
	o.Purpose = evidence.PurposeConnect
	value := bytes.Repeat([]byte{5}, 32)
	for name, x := range map[string]struct {
		claimed []byte
		channel *Channel
		want    verdict.Outcome
	}{
		"its own":                    {value, &Channel{Exporter: value, SPKI: spki}, verdict.Admitted},
		"no connection":              {value, nil, verdict.CannotTell},
		"no value at either end":     {nil, &Channel{SPKI: spki}, verdict.NotGenuine},
		"a short one at either end":  {value[:16], &Channel{Exporter: value[:16], SPKI: spki}, verdict.NotGenuine},
		"no value in the claims":     {nil, &Channel{Exporter: value, SPKI: spki}, verdict.NotGenuine},
		"no value of the connection": {value, &Channel{SPKI: spki}, verdict.NotGenuine},
		"no key of the connection":   {value, &Channel{Exporter: value}, verdict.NotGenuine},
	} {
		m.claims.TLSExporter, o.Channel = x.claimed, x.channel
		v := new(Verifier).Verify(m.encode(t), o)
		d := v.Deciding()
		if v.Outcome != x.want || x.want != verdict.Admitted && (len(d) != 1 || d[0].Code != verdict.ChannelBinding) {
			t.Errorf("%s: found %s", name, v.Text(nil))
		}
	}
}
