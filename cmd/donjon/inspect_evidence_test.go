//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/snp"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

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

func failedChecks(checks []check) string {
	var out []string
	for _, c := range checks {
		if c.Status == checkFailed {
			out = append(out, c.Code)
		}
	}
	return strings.Join(out, " ")
}

// Each check fails on its own vector, and exactly those fail that should.
func TestEvidenceChecks(t *testing.T) {
	base := newMade(t)
	other := base.other
	for name, c := range map[string]struct {
		change func(*made, *evidenceWanted)
		want   string
	}{
		"genuine":     {func(*made, *evidenceWanted) {}, ""},
		"other root":  {func(_ *made, w *evidenceWanted) { w.root = other.RootFingerprint() }, "simulated-root"},
		"no root":     {func(_ *made, w *evidenceWanted) { w.root = "" }, "simulated-root"},
		"other nonce": {func(_ *made, w *evidenceWanted) { w.nonce = []byte("87654321") }, "nonce"},
		"prefix of the nonce": {func(m *made, w *evidenceWanted) {
			m.claims.Nonce = []byte("123456789")
		}, "nonce"},
		"no nonce":        {func(m *made, _ *evidenceWanted) { m.claims.Nonce = nil }, "nonce"},
		"other host data": {func(m *made, _ *evidenceWanted) { m.host[31] = 1 }, "host-data"}, // T23
		"expired":         {func(_ *made, w *evidenceWanted) { w.at = w.at.AddDate(40, 0, 0) }, "chain"},
		"not yet valid":   {func(_ *made, w *evidenceWanted) { w.at = w.at.AddDate(-1, 0, 0) }, "chain"},
		"other claims": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) {
				c := m.claims
				c.Instance[0] ^= 1
				e.Claims, _ = c.Encode()
			}
		}, "report-data"},
		"report data not padded with zeros": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, g *silicon.Guest) {
				d := evidence.ReportData(e.Claims)
				d[63] = 1
				e.Report, _ = g.Report(d)
			}
		}, "report-data"},
		"flipped signature": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[snp.SignedSize] ^= 1 }
		}, "report-signature"},
		"flipped measurement": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[0x90] ^= 1 }
		}, "report-signature"},
		"reported TCB raised": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[0x180]++ }
		}, "vcek-report report-signature"},
		"other machine's VCEK": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = certsWith(t, m.silicon, m.other, snp.GUIDVCEK) }
		}, "chain vcek-report report-signature"},
		"other machine's ASK": {func(m *made, _ *evidenceWanted) {
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = certsWith(t, m.silicon, m.other, snp.GUIDASK) }
		}, "chain"},
		"the right root beside another's chain": {func(m *made, w *evidenceWanted) {
			w.root = m.other.RootFingerprint()
			m.edit = func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = certsWith(t, m.silicon, m.other, snp.GUIDARK) }
		}, "chain"},
	} {
		m, w := base, evidenceWanted{root: base.silicon.RootFingerprint(), nonce: []byte("12345678"), at: time.Now()}
		c.change(&m, &w)
		if got := failedChecks(checkEvidence(m.encode(t), w)); got != c.want {
			t.Errorf("%s: failed %q, wanted %q", name, got, c.want)
		}
	}
}

func TestEvidenceMalformed(t *testing.T) { // T26
	m := newMade(t)
	good := m.encode(t)
	vectors := map[string][]byte{"nothing": nil, "text": []byte("hello"), "short": good[:len(good)-1], "long": append(bytes.Clone(good), 0)}
	for name, edit := range map[string]func(*evidence.Evidence, *silicon.Guest){
		"report of version 1": func(e *evidence.Evidence, _ *silicon.Guest) { e.Report[0] = 1 },
		"report too short":    func(e *evidence.Evidence, _ *silicon.Guest) { e.Report = e.Report[1:] },
		"no claims":           func(e *evidence.Evidence, _ *silicon.Guest) { e.Claims = nil },
		"claims with more":    func(e *evidence.Evidence, _ *silicon.Guest) { e.Claims = append(e.Claims, 0) },
		"no certificates":     func(e *evidence.Evidence, _ *silicon.Guest) { e.Certs = snp.EncodeCertTable(nil) },
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
	for name, b := range vectors {
		checks := checkEvidence(b, evidenceWanted{at: time.Now()})
		if len(checks) != 1 || failedChecks(checks) != "form" {
			t.Errorf("%s: found %v, wanted the failed check form alone", name, checks)
		}
		a, _, _ := evidenceApp(t)
		wantStatus(t, name, inspectEvidence(a, b, evidenceOptions{}), statusNotGenuine)
	}
}

func evidenceApp(t *testing.T) (a *app, stdout *bytes.Buffer, state string) {
	t.Helper()
	stdout, state = &bytes.Buffer{}, t.TempDir()
	env := map[string]string{"XDG_STATE_HOME": state, "HOME": state}
	return &app{stdout: stdout, stderr: &bytes.Buffer{}, getenv: func(k string) string { return env[k] }}, stdout, state
}

func wantStatus(t *testing.T, name string, err error, want int) {
	t.Helper()
	got, f := statusDone, (*failure)(nil)
	if errors.As(err, &f) {
		got = f.status
	} else if err != nil {
		got = -1
	}
	if got != want {
		t.Errorf("%s: found status %d (%v), wanted %d", name, got, err, want)
	}
}

func TestInspectEvidence(t *testing.T) {
	m := newMade(t)
	data := m.encode(t)
	a, stdout, state := evidenceApp(t)

	wantStatus(t, "a machine without a root", inspectEvidence(a, data, evidenceOptions{}), statusNotGenuine)
	if _, err := os.Stat(filepath.Join(state, "donjon")); err == nil {
		t.Error("looking at evidence made a simulated root")
	}
	file := filepath.Join(t.TempDir(), "root.der")
	if err := os.WriteFile(file, m.silicon.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    evidenceOptions
		want int
	}{
		"fingerprint":       {evidenceOptions{root: m.silicon.RootFingerprint()}, statusDone},
		"upper case":        {evidenceOptions{root: strings.ToUpper(m.silicon.RootFingerprint())}, statusDone},
		"certificate":       {evidenceOptions{root: file}, statusDone},
		"other fingerprint": {evidenceOptions{root: m.other.RootFingerprint()}, statusNotGenuine},
		"missing file":      {evidenceOptions{root: file + "x"}, statusNotFound},
		"nonce":             {evidenceOptions{root: file, nonce: "3132333435363738"}, statusDone},
		"other nonce":       {evidenceOptions{root: file, nonce: "3132333435363739"}, statusNotGenuine},
		"short nonce":       {evidenceOptions{root: file, nonce: "31"}, statusUsage},
	} {
		wantStatus(t, name, inspectEvidence(a, data, c.o), c.want)
	}

	stdout.Reset()
	wantStatus(t, "words", inspectEvidence(a, data, evidenceOptions{root: file}), statusDone)
	for _, want := range []string{"SIMULATED: chains to root " + m.silicon.RootFingerprint(), "appraisal: not made", "purpose          file", "runtime-pinned: not made"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the words lack %q:\n%s", want, stdout)
		}
	}
	stdout.Reset()
	wantStatus(t, "json", inspectEvidence(a, data, evidenceOptions{asJSON: true}), statusNotGenuine)
	var r evidenceResult
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.RootKind != "unknown" || r.Appraisal != "not made" || failedChecks(r.Checks) != "simulated-root" || r.Report.HostData != r.Claims.WorkloadDigest {
		t.Errorf("found %+v", r)
	}
}
