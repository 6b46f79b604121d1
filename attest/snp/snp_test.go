package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/donjon-tee/donjon/attest/published"
)

func evidence(t testing.TB, name string) []byte {
	t.Helper()
	b := published.Read(t, "snp/"+name)
	if p, _ := pem.Decode(b); p != nil {
		return p.Bytes
	}
	return b
}

func TestRealReports(t *testing.T) {
	for _, c := range []struct {
		report, key string
		version     uint32
		vmpl        uint32
		genuine     bool
	}{
		{"milan-v2.report.bin", "milan-v2.vcek.der", 2, 0, true},
		{"milan-v2.report.bin", "milan-v2.vcek-wrong-signer.der", 2, 0, false},
		{"milan-v3-vlek.report.bin", "milan-v3-vlek.vlek.der", 3, 1, true},
		{"turin-v5.report.bin", "turin-v5.vcek.pem", 5, 0, true},
	} {
		raw := evidence(t, c.report)
		r, err := ParseReport(raw)
		if err != nil {
			t.Errorf("%s: %v", c.report, err)
			continue
		}
		if r.Version != c.version || r.VMPL != c.vmpl {
			t.Errorf("%s: found version %d VMPL %d, wanted %d and %d", c.report, r.Version, r.VMPL, c.version, c.vmpl)
		}
		cert, err := x509.ParseCertificate(evidence(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(raw, cert.PublicKey.(*ecdsa.PublicKey)); (err == nil) != c.genuine && c.genuine {
			t.Errorf("%s under %s: %v, wanted genuine %v", c.report, c.key, err, c.genuine)
		}
		for _, at := range []int{0x50, 0x90, 0xc0, 0x2a0, 0x2a0 + 72} {
			bad := bytes.Clone(raw)
			bad[at] ^= 1
			if Verify(bad, cert.PublicKey.(*ecdsa.PublicKey)) == nil {
				t.Errorf("%s: a flipped bit at %#x still verifies", c.report, at)
			}
		}
		for n := range raw {
			if _, err := ParseReport(raw[:n]); err == nil {
				t.Fatalf("%s: %d bytes parse", c.report, n)
			}
		}
	}
}

func TestCertTable(t *testing.T) {
	in := []CertEntry{{GUIDVCEK, []byte("vcek")}, {GUIDASK, []byte("ask")}, {GUIDARK, nil}}
	b := EncodeCertTable(in)
	out, err := ParseCertTable(b)
	if err != nil || len(out) != 3 {
		t.Fatalf("found %v, %v", out, err)
	}
	for i := range in {
		if in[i].GUID != out[i].GUID || !bytes.Equal(in[i].Data, out[i].Data) {
			t.Errorf("entry %d: found %v, wanted %v", i, out[i], in[i])
		}
	}
	if !bytes.Equal(b[:4], []byte{0x8d, 0x75, 0xda, 0x63}) {
		t.Errorf("the VCEK's GUID begins with %x on the wire", b[:4])
	}
	twice := EncodeCertTable([]CertEntry{{GUIDVCEK, nil}, {GUIDVCEK, nil}})
	for name, bad := range map[string][]byte{"no end": b[:24], "short": b[:len(b)-1], "twice": twice, "empty": nil} {
		if _, err := ParseCertTable(bad); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, ReportSize))
	f.Add(EncodeCertTable([]CertEntry{{GUIDVCEK, []byte("x")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseReport(b)
		_, _ = ParseCertTable(b)
	})
}
