package snp

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

func TestRealEndorsements(t *testing.T) {
	for _, c := range []struct {
		report, key string
		agrees      bool
	}{
		{"milan-v2.report.bin", "milan-v2.vcek.der", true},
		{"milan-v2.report.bin", "milan-v2.vcek-wrong-tcb.der", false},
		{"milan-v3-vlek.report.bin", "milan-v3-vlek.vlek.der", true},
		{"turin-v5.report.bin", "turin-v5.vcek.pem", true},
		{"turin-v5.report.bin", "milan-v2.vcek.der", false},
		{"milan-v2.report.bin", "milan-v3-vlek.vlek.der", false},
	} {
		r, err := ParseReport(evidence(t, c.report))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(evidence(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseEndorsement(cert)
		if err != nil {
			t.Errorf("%s: %v", c.key, err)
			continue
		}
		if err := e.Agrees(r); (err == nil) != c.agrees {
			t.Errorf("%s with %s: %v, wanted agreement %v (%+v)", c.report, c.key, err, c.agrees, e)
		}
	}
}

// extensions gives a well-formed set of AMD's extensions, changed by the test.
func extensions(change func(map[string][]byte)) []pkix.Extension {
	num := func(n int) []byte { b, _ := asn1.Marshal(n); return b }
	name, _ := asn1.MarshalWithParams("Milan-B0", "ia5")
	m := map[string][]byte{"1": num(0), "2": name, "3.1": num(10), "3.2": num(0), "3.3": num(25), "3.8": num(220), "4": make([]byte, 64)}
	change(m)
	var out []pkix.Extension
	for k, v := range m {
		id := append(asn1.ObjectIdentifier{}, kdsArc...)
		id = append(id, int(k[0]-'0'))
		if len(k) == 3 {
			id = append(id, int(k[2]-'0'))
		}
		out = append(out, pkix.Extension{Id: id, Value: v})
	}
	return out
}

func TestEndorsementForm(t *testing.T) {
	good := extensions(func(map[string][]byte) {})
	e, err := ParseEndorsement(&x509.Certificate{Extensions: good})
	if err != nil || e.TCB() != TCB(10|25<<48|220<<56) {
		t.Fatalf("found %+v, %v", e, err)
	}
	for name, change := range map[string]func(map[string][]byte){
		"no level":           func(m map[string][]byte) { delete(m, "3.8") },
		"level 256":          func(m map[string][]byte) { m["3.8"] = []byte{2, 2, 1, 0} },
		"negative level":     func(m map[string][]byte) { m["3.8"] = []byte{2, 1, 0xff} },
		"level with more":    func(m map[string][]byte) { m["3.8"] = []byte{2, 1, 1, 0} },
		"reserved level":     func(m map[string][]byte) { m["3.5"] = []byte{2, 1, 1} },
		"structure 2":        func(m map[string][]byte) { m["1"] = []byte{2, 1, 2} },
		"short hardware id":  func(m map[string][]byte) { m["4"] = make([]byte, 63) },
		"no chip":            func(m map[string][]byte) { delete(m, "4") },
		"chip and provider":  func(m map[string][]byte) { m["5"] = []byte{0x16, 1, 'x'} },
		"unknown extension":  func(m map[string][]byte) { m["7"] = []byte{2, 1, 1} },
		"product in UTF-8":   func(m map[string][]byte) { m["2"] = []byte("\x0c\x08Milan-B0") },
		"empty product":      func(m map[string][]byte) { m["2"] = []byte{0x16, 0} },
		"product with a nul": func(m map[string][]byte) { m["2"] = []byte("\x16\x06Milan\x00") },
		"product of no kind": func(m map[string][]byte) { m["2"] = []byte{2, 1, 1} },
	} {
		if _, err := ParseEndorsement(&x509.Certificate{Extensions: extensions(change)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseEndorsement(&x509.Certificate{Extensions: append(good, good[0])}); err == nil {
		t.Error("an extension that stands twice: accepted")
	}
}

func TestEndorsementAgrees(t *testing.T) {
	e, err := ParseEndorsement(&x509.Certificate{Extensions: extensions(func(map[string][]byte) {})})
	if err != nil {
		t.Fatal(err)
	}
	base := Report{ReportedTCB: e.TCB()}
	if err := e.Agrees(base); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Report){
		"TCB":         func(r *Report) { r.ReportedTCB++ },
		"chip id":     func(r *Report) { r.ChipID[63] = 1 },
		"signing key": func(r *Report) { r.KeyInfo = 1 << 2 },
	} {
		r := base
		change(&r)
		if e.Agrees(r) == nil {
			t.Errorf("another %s: agrees", name)
		}
	}
}
