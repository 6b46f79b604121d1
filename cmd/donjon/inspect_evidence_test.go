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

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/snp"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// makeEvidence is evidence as the warden makes it, on simulated silicon.
func makeEvidence(t *testing.T, s *silicon.Silicon) []byte {
	t.Helper()
	claims, err := evidence.Claims{WorkloadDigest: [32]byte{7}, Nonce: []byte("12345678"), Purpose: evidence.PurposeFile}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	g := s.Guest(silicon.Launch{HostData: [32]byte{7}}, func() [48]byte { return [48]byte{9} })
	raw, err := g.Report(evidence.ReportData(claims))
	if err != nil {
		t.Fatal(err)
	}
	b, err := evidence.Evidence{Report: raw, Certs: g.Certs(), Claims: claims}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
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
	s, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := makeEvidence(t, s)
	a, stdout, state := evidenceApp(t)

	wantStatus(t, "a machine without a root", inspectFile(a, "evidence", data, evidenceOptions{}), statusNotGenuine)
	if _, err := os.Stat(filepath.Join(state, "donjon")); err == nil {
		t.Error("looking at evidence made a simulated root")
	}
	file := filepath.Join(t.TempDir(), "root.der")
	if err := os.WriteFile(file, s.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    evidenceOptions
		want int
	}{
		"fingerprint":       {evidenceOptions{root: s.RootFingerprint()}, statusDone},
		"upper case":        {evidenceOptions{root: strings.ToUpper(s.RootFingerprint())}, statusDone},
		"certificate":       {evidenceOptions{root: file}, statusDone},
		"other fingerprint": {evidenceOptions{root: strings.Repeat("5e", 32)}, statusNotGenuine},
		"missing file":      {evidenceOptions{root: file + "x"}, statusNotFound},
		"nonce":             {evidenceOptions{root: file, nonce: "3132333435363738"}, statusDone},
		"other nonce":       {evidenceOptions{root: file, nonce: "3132333435363739"}, statusNotGenuine},
		"short nonce":       {evidenceOptions{root: file, nonce: "31"}, statusUsage},
	} {
		wantStatus(t, name, inspectFile(a, "evidence", data, c.o), c.want)
	}

	stdout.Reset()
	wantStatus(t, "words", inspectFile(a, "evidence", data, evidenceOptions{root: file}), statusDone)
	for _, want := range []string{"SIMULATED: chains to root " + s.RootFingerprint(), "appraisal: not made", "purpose          file", "MEASUREMENT"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the words lack %q:\n%s", want, stdout)
		}
	}
	stdout.Reset()
	wantStatus(t, "json", inspectFile(a, "evidence", data, evidenceOptions{asJSON: true}), statusNotGenuine)
	var r inspection
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.RootKind != "unknown" || r.Appraisal != "not made" || r.Checks == nil || r.Report["host_data"] != r.Claims.Keep.WorkloadDigest.String() {
		t.Errorf("found %+v", r)
	}
}

// What only happens to read as a certificate table of nothing known is not called one.
func TestInspectCallsNothingATable(t *testing.T) {
	real := snp.EncodeCertTable([]snp.CertEntry{{GUID: snp.GUIDVCEK, Data: []byte("x")}})
	odd := snp.EncodeCertTable([]snp.CertEntry{{GUID: snp.GUID{1}, Data: []byte("x")}})
	for name, c := range map[string]struct {
		b    []byte
		want int
	}{"a table": {real, statusDone}, "unknown entries alone": {odd, statusNotGenuine}, "zeros": {make([]byte, 96), statusNotGenuine}} {
		a, _, _ := evidenceApp(t)
		wantStatus(t, name, inspectFile(a, name, c.b, evidenceOptions{}), c.want)
	}
}
