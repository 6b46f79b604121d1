package platform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]version{
		"6.12.1-amd64": {6, 12}, "6.18": {6, 18}, "10.1.0": {10, 1}, "7.2.22(Debian)": {7, 2}, "6.1+": {6, 1},
	} {
		if v, ok := parseVersion(s); !ok || v != want {
			t.Errorf("%q: found %v %v, wanted %v", s, v, ok, want)
		}
	}
	for _, s := range []string{"", "6", "6.", ".6", "a.b", "6.x", "-1.2", "9999999.1"} {
		if v, ok := parseVersion(s); ok {
			t.Errorf("%q: found %v, wanted none", s, v)
		}
	}
	if !(version{6, 9}).less(version{6, 11}) || !(version{5, 99}).less(version{6, 0}) || (version{6, 11}).less(version{6, 11}) {
		t.Error("versions are not ordered as numbers")
	}
}

func TestParsePVR(t *testing.T) {
	if v, ok := parsePVR("2.3 (pvr 004e 1203)"); !ok || v != 0x004e1203 {
		t.Errorf("found %#x %v", v, ok)
	}
	for _, s := range []string{"", "2.3", "2.3 (pvr 004e)", "2.3 (pvr 004e 120g)", "(pvr 04e 1203)", "(pvr 004e 1203 1)"} {
		if _, ok := parsePVR(s); ok {
			t.Errorf("%q is no PVR", s)
		}
	}
	for pvr, want := range map[uint32]bool{0x004e1203: true, 0x004e0203: true, 0x004e1204: true, 0x004e1202: false, 0x00801203: false} {
		if pefProcessor(pvr) != want {
			t.Errorf("%#x: found %v", pvr, !want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"6.12.1", "QEMU emulator version 7.2.22 (Debian)", "2.3 (pvr 004e 1203)", "List:\n  a\n b\n",
		`{"mapping":{"filename":"/x"},"features":["amd-sev-snp"]}`, `{"mapping":{"executable":{"filename":"/y"}},"features":["amd-sev-snp"]}`, `{"features":3}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, ok := parseVersion(s); ok && (v.major < 0 || v.minor < 0 || v.major > 999999 || v.minor > 999999) {
			t.Errorf("%q: found %v", s, v)
		}
		if text, _, ok := parseQEMUVersion(s); ok && !strings.Contains(s, text) {
			t.Errorf("%q: found %q, which is not in it", s, text)
		}
		if _, ok := parsePVR(s); ok && !strings.Contains(s, "(pvr ") {
			t.Errorf("%q is no PVR", s)
		}
		for _, o := range parseObjects(s) {
			if !strings.Contains(s, o) {
				t.Errorf("%q: found %q, which is not in it", s, o)
			}
		}
		if file, ok := parseDescriptor([]byte(s), "amd-sev-snp"); ok && file == "" {
			t.Errorf("%q: a firmware without a file", s)
		}
	})
}

// crl makes a revocation list that is due on the given day of 2026.
func crl(t testing.TB, month time.Month) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign}
	b, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		NextUpdate: time.Date(2026, month, 1, 0, 0, 0, 0, time.UTC),
	}, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEarliestUpdate(t *testing.T) {
	march, may := crl(t, time.March), crl(t, time.May)
	raw := func(b []byte) asn1.RawValue { return asn1.RawValue{FullBytes: b} }
	type pair struct {
		URL string `asn1:"utf8"`
		CRL asn1.RawValue
	}
	want := time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	for name, b := range map[string][]byte{
		"one list":             march,
		"one after the other":  append(append([]byte{}, may...), march...),
		"a sequence of lists":  der(t, []asn1.RawValue{raw(may), raw(march)}),
		"a sequence of pairs":  der(t, []pair{{"https://a", raw(may)}, {"https://b", raw(march)}}),
		"a sequence with text": der(t, []asn1.RawValue{raw(der(t, "x")), raw(march)}),
	} {
		if got, err := earliestUpdate(b); err != nil || !got.Equal(want) {
			t.Errorf("%s: found %v, %v", name, got, err)
		}
	}
	deep := march
	for range 4 {
		deep = der(t, []asn1.RawValue{raw(deep)})
	}
	var many []byte
	for range maxCRLs + 1 {
		many = append(many, march...)
	}
	for name, b := range map[string][]byte{
		"nothing": {}, "text": []byte("hello"), "cut": march[:len(march)-1], "too deep": deep, "too many": many,
		"bytes behind": append(append([]byte{}, march...), 0xff),
	} {
		if got, err := earliestUpdate(b); err == nil {
			t.Errorf("%s: found %v, wanted an error", name, got)
		}
	}
}

func TestCRLCache(t *testing.T) {
	for _, tt := range []struct {
		month  time.Month
		now    time.Time
		status Status
		found  string
	}{
		{time.March, time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC), Passed, "next update due 2026-03-01"},
		{time.March, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Failed, "expired on 2026-03-01"},
	} {
		m := milan()
		m.files["/var/cache/amd-sev/crls.der"] = string(crl(t, tt.month))
		h := m.host("snp")
		h.Now = func() time.Time { return tt.now }
		r := Probe(t.Context(), h)
		if c := check(t, r, "snp-crl-cache"); c.Status != tt.status || c.Found != tt.found || c.Required {
			t.Errorf("found %+v, wanted %s %q", c, tt.status, tt.found)
		}
		// Enarx takes an expired list for an absent TEE.
		if !r.Backends[0].Ready {
			t.Error("the state of the cache decides whether SNP is ready")
		}
	}
}

func FuzzEarliestUpdate(f *testing.F) {
	f.Add(crl(f, time.March))
	f.Add([]byte{0x30, 0x00})
	f.Add([]byte{0x30, 0x03, 0x0c, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if when, err := earliestUpdate(b); err == nil && when.IsZero() {
			t.Error("no time and no error")
		}
	})
}

func TestSGXSections(t *testing.T) {
	// A hypervisor that answers every sub-leaf with a section must not be asked
	// for ever.
	h := &Host{Arch: "amd64", CPUID: func(leaf, _ uint32) Regs {
		if leaf == 0 {
			return Regs{EAX: 0x20}
		}
		return Regs{EAX: 1, ECX: 0x1001}
	}}
	c, ok := (&prober{h: h}).sgxCaps()
	if !ok || c.EPC != maxEPCSections*0x1000 {
		t.Errorf("found %d bytes in sections, wanted %d", c.EPC, maxEPCSections*0x1000)
	}
}

func TestSignature(t *testing.T) {
	for eax, want := range map[uint32][3]uint32{
		0x00a00f11: {0x19, 1, 1},    // Milan
		0x00a10f11: {0x19, 0x11, 1}, // Genoa
		0x00b00f21: {0x1a, 2, 1},    // Turin
		0x000c06f2: {6, 0xcf, 2},    // Emerald Rapids
	} {
		h := &Host{CPUID: func(leaf, _ uint32) Regs {
			if leaf == 0 {
				return Regs{EAX: 1}
			}
			return Regs{EAX: eax}
		}}
		family, model, stepping, ok := (&prober{h: h}).signature()
		if got := [3]uint32{family, model, stepping}; !ok || got != want {
			t.Errorf("%#x: found %x, wanted %x", eax, got, want)
		}
	}
}
