package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	attest "github.com/donjon-tee/donjon/attest/snp"
)

func still() [48]byte { return [48]byte{1} }

// The endorsement agrees with the reports, and says what it is.
func TestEndorsementAgrees(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.Guest(Launch{}, still).Report([64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := attest.ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		der    []byte
		agrees bool
	}{{s.vcek, true}, {other.vcek, false}} {
		cert, err := x509.ParseCertificate(c.der)
		if err != nil {
			t.Fatal(err)
		}
		e, err := attest.ParseEndorsement(cert)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Agrees(r); (err == nil) != c.agrees {
			t.Errorf("found %v, wanted agreement %v", err, c.agrees)
		}
	}
	for _, der := range [][]byte{s.ark, s.ask, s.vcek} {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(cert.Subject.CommonName, "SIMULATED") || cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
			t.Errorf("found the subject %s signed with %s", cert.Subject, cert.SignatureAlgorithm)
		}
	}
}

func TestReadMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "silicon")
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found %v, wanted fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("reading made a folder")
	}
	made, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(dir)
	if err != nil || again.RootFingerprint() != made.RootFingerprint() {
		t.Errorf("found %v, %v", again, err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *StateError
	if _, err := Read(dir); !errors.As(err, &damaged) || damaged.Hint() == "" {
		t.Errorf("found %v, wanted a StateError", err)
	}
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the processor's file has mode %v, %v", info.Mode(), err)
	}
}

// keyRequest is a MSG_KEY_REQ for the VCEK root that mixes the fields.
func keyRequest(fields uint64) []byte {
	b := make([]byte, 32)
	binary.LittleEndian.PutUint64(b[8:], fields)
	return b
}

func TestKeyRequestRefused(t *testing.T) { // T7
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := s.Guest(Launch{}, still)
	if _, err := g.DeriveKey(keyRequest(0x3f)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at    int
		value byte
	}{
		"root key 1": {0, 1}, "reserved": {4, 1}, "an unknown field": {8, 0x40}, "field 63": {15, 0x80},
		"VMPL 1": {16, 1}, "a guest SVN over the launch's": {20, 1}, "a TCB over the processor's": {31, 0xff},
	} {
		b := keyRequest(0)
		b[c.at] = c.value
		if _, err := g.DeriveKey(b); err == nil {
			t.Errorf("%s: a key was given", name)
		}
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := g.DeriveKey(make([]byte, n)); err == nil {
			t.Errorf("a request of %d bytes: a key was given", n)
		}
	}
}

func TestKeysOfTwoMachines(t *testing.T) {
	var keys [][]byte
	for range 2 {
		s, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.Guest(Launch{}, still).DeriveKey(keyRequest(1 | 1<<3))
		if err != nil || len(k) != 32 {
			t.Fatalf("found %d bytes, %v", len(k), err)
		}
		keys = append(keys, k)
	}
	if bytes.Equal(keys[0], keys[1]) {
		t.Error("two machines derive one key")
	}
}

func FuzzDeriveKey(f *testing.F) {
	s, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	g := s.Guest(Launch{}, still)
	f.Add(keyRequest(1 | 1<<3))
	f.Add(keyRequest(1 << 40))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := g.DeriveKey(b); err == nil && (len(b) != 32 || len(k) != 32) {
			t.Errorf("%d bytes of request, %d of key", len(b), len(k))
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parse(b); err == nil && (s.key == nil || len(s.secret) != 32) {
			t.Error("an unusable processor is accepted")
		}
	})
}
