package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"

	attest "github.com/donjon-tee/donjon/attest/snp"
)

func TestReportVerifies(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint32{3, 5} {
		g := s.Guest(Launch{HostData: [32]byte{7}, Version: version}, func() [48]byte { return [48]byte{9} })
		raw, err := g.Report([64]byte{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		r, err := attest.ParseReport(raw)
		if err != nil {
			t.Fatal(err)
		}
		if r.Version != version || r.HostData != [32]byte{7} || r.ReportData != [64]byte{1, 2, 3} || r.Measurement != [48]byte{9} {
			t.Errorf("the report does not say what was asked: %+v", r)
		}
		rows, err := attest.ParseCertTable(g.Certs())
		if err != nil || len(rows) != 3 {
			t.Fatalf("certificates: %v, %v", rows, err)
		}
		var certs []*x509.Certificate
		for _, row := range rows {
			c, err := x509.ParseCertificate(row.Data)
			if err != nil {
				t.Fatal(err)
			}
			certs = append(certs, c)
		}
		if err := certs[0].CheckSignatureFrom(certs[1]); err != nil {
			t.Error(err)
		}
		if err := certs[1].CheckSignatureFrom(certs[2]); err != nil {
			t.Error(err)
		}
		if err := attest.Verify(raw, certs[0].PublicKey.(*ecdsa.PublicKey)); err != nil {
			t.Error(err)
		}
	}
}

func TestDerivedKeysDiffer(t *testing.T) { // T7
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	req := make([]byte, 32)
	req[8] = 1 | 1<<3
	key := func(l Launch, m byte) string {
		k, err := s.Guest(l, func() [48]byte { return [48]byte{m} }).DeriveKey(req)
		if err != nil {
			t.Fatal(err)
		}
		return string(k)
	}
	base := key(Launch{}, 1)
	if key(Launch{}, 1) != base {
		t.Error("the same guest has two keys")
	}
	if key(Launch{Policy: DefaultPolicy | 1<<19}, 1) == base {
		t.Error("a guest launched with debugging has the same key")
	}
	if key(Launch{}, 2) == base {
		t.Error("another program has the same key")
	}
}

func TestOpenAtOnceAndDamaged(t *testing.T) {
	dir := t.TempDir()
	prints := make([]string, 4)
	var wg sync.WaitGroup
	for i := range prints {
		wg.Go(func() {
			s, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			prints[i] = s.RootFingerprint()
		})
	}
	wg.Wait()
	for _, p := range prints {
		if p != prints[0] {
			t.Fatalf("two roots: %v", prints)
		}
	}
	path := filepath.Join(dir, stateFile)
	b, _ := os.ReadFile(path)
	for _, n := range []int{0, 10, len(b) / 2, len(b) - 30} {
		if err := os.WriteFile(path, bytes.Clone(b[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%d of %d bytes open", n, len(b))
		}
	}
}
