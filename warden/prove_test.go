//go:build linux

package warden

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// A processor is a provider of reports that a test can make lie.
type processor struct {
	guest *silicon.Guest
	asked atomic.Int32
	edit  func(n int, data [64]byte, raw []byte) []byte // n counts from 1
}

func (p *processor) report(data [64]byte) ([]byte, []byte, error) {
	n := int(p.asked.Add(1))
	raw, err := p.guest.Report(data)
	if err == nil && p.edit != nil {
		raw = p.edit(n, data, raw)
	}
	return raw, p.guest.Certs(), err
}

func newProcessor(t testing.TB, workload [32]byte) *processor {
	t.Helper()
	s, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &processor{guest: s.Guest(silicon.Launch{HostData: workload}, func() [48]byte { return [48]byte{7} })}
}

var digest = [32]byte{1, 2, 3}

// T2: whatever answers the self-check with something else than this Keep's own
// report gets no identity made.
func TestT02SelfCheck(t *testing.T) {
	p := newProcessor(t, digest)
	var old []byte
	for _, c := range []struct {
		name    string
		edit    func(b []byte) []byte
		refused bool // the Keep is not what it should be; else something went wrong
		text    string
	}{
		{"the truth", func(b []byte) []byte { return b }, false, ""},
		{"nothing", func([]byte) []byte { return nil }, false, "0 bytes"},
		{"too much", func(b []byte) []byte { return append(b, 0) }, false, "1185 bytes"},
		{"noise", func(b []byte) []byte { return make([]byte, len(b)) }, false, "report"},
		{"a recorded report", func([]byte) []byte { return old }, false, "replayed or made up"},
		{"another workload", set(0xc0, 9), true, "another workload"},
		{"the last byte of another workload", set(0xdf, 9), true, "another workload"},
		{"VMPL 1", set(0x30, 1), true, "VMPL 1"},
		{"debugging", set(0x0a, 0x0b), true, "debugging"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.edit = func(_ int, _ [64]byte, b []byte) []byte {
				if old == nil {
					old = append([]byte{}, b...)
				}
				return c.edit(b)
			}
			_, err := newIdentity(p, digest, time.Now)
			switch {
			case c.text == "":
				if err != nil {
					t.Error(err)
				}
			case err == nil || !strings.Contains(err.Error(), c.text):
				t.Errorf("found %v, wanted %q", err, c.text)
			case errors.As(err, new(*refusedError)) != c.refused:
				t.Errorf("found %#v, wanted a refusal: %v", err, c.refused)
			}
		})
	}
}

func set(at int, v byte) func([]byte) []byte {
	return func(b []byte) []byte { b[at] = v; return b }
}

// T2: each later report is held against the first; evidence is never made of one
// that another processor, launch or moment gave.
func TestT02ReportsThatSwitch(t *testing.T) {
	p := newProcessor(t, digest)
	var first []byte
	for name, c := range map[string]struct {
		edit func(b []byte) []byte
		text string
	}{
		"the truth":           {func(b []byte) []byte { return b }, ""},
		"a newer TCB":         {func(b []byte) []byte { b[0x38]++; return b }, ""},
		"the first again":     {func([]byte) []byte { return first }, "not over the bytes asked for"},
		"another version":     {func(b []byte) []byte { binary.LittleEndian.PutUint32(b, 3); return b }, "version"},
		"another workload":    {set(0xc0, 9), "host data"},
		"another measurement": {set(0x90, 9), "measurement"},
		"another policy":      {set(0x08, 1), "policy"},
		"another VMPL":        {set(0x30, 2), "VMPL"},
		"another guest SVN":   {set(0x04, 2), "guest SVN"},
		"another chip":        {func(b []byte) []byte { b[0x1a0] ^= 1; return b }, "chip id"},
		"another guest":       {func(b []byte) []byte { b[0x140] ^= 1; return b }, "report id"},
		"cut":                 {func(b []byte) []byte { return b[:1183] }, "1183 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			p.asked.Store(0)
			p.edit = func(n int, _ [64]byte, b []byte) []byte {
				if n == 1 {
					first = append([]byte{}, b...)
					return b
				}
				return c.edit(b)
			}
			id, err := newIdentity(p, digest, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			_, err = id.evidence(evidence.PurposeFile, nil)
			if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Errorf("evidence: found %v, wanted %q", err, c.text)
			}
			if _, cerr := id.tlsCertificate(); (cerr == nil) != (c.text == "") {
				t.Errorf("certificate: found %v", cerr)
			}
		})
	}
}

// T3: a caller of evidence chooses nonce and purpose and nothing else; what is not
// a purpose gets no report at all.
func TestT03ClaimsAreTheWardens(t *testing.T) {
	p := newProcessor(t, digest)
	id, err := newIdentity(p, digest, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("0123456789abcdef")
	ev, err := id.evidence(evidence.PurposeFile, nonce)
	if err != nil {
		t.Fatal(err)
	}
	c, err := evidence.ParseClaims(ev.Claims)
	if err != nil {
		t.Fatal(err)
	}
	if c.PubkeyHash != sha256.Sum256(id.key.spki) || c.WorkloadDigest != digest || c.Purpose != evidence.PurposeFile || string(c.Nonce) != string(nonce) {
		t.Errorf("found %+v", c)
	}
	before := p.asked.Load()
	for _, bad := range []struct {
		purpose string
		nonce   []byte
	}{{"", nil}, {"anything", nil}, {"file\x00", nil}, {evidence.PurposeFile, []byte("short")}, {evidence.PurposeFile, make([]byte, 65)}} {
		if _, err := id.evidence(bad.purpose, bad.nonce); err == nil {
			t.Errorf("%q with a nonce of %d bytes is attested", bad.purpose, len(bad.nonce))
		}
	}
	if p.asked.Load() != before {
		t.Error("a report was made for claims that are none")
	}
	cert, err := id.tlsCertificate()
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := cert.PrivateKey.(*ecdsa.PrivateKey); !ok || !k.Equal(id.key.private) {
		t.Error("the certificate is of another key than the claims")
	}
}
