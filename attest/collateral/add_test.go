package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/published"
)

func counts(s *Set) [5]int {
	return [5]int{len(s.Certificates), len(s.Lists), len(s.TCBInfos), len(s.QEIdentities), len(s.Ignored)}
}

func add(t testing.TB, b []byte) *Set {
	t.Helper()
	s := &Set{}
	if err := s.Add("file", b); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRealFiles(t *testing.T) {
	one, crl, tcb, qe, none := [5]int{1}, [5]int{0, 1}, [5]int{0, 0, 1}, [5]int{0, 0, 0, 1}, [5]int{0, 0, 0, 0, 1}
	all := [5]int{3, 2, 1, 1} // PCK CA, TCB signing, root
	want := map[string][5]int{
		"sgx/icx.pck-platform-crl.der": crl, "sgx/icx.qeidentity.json": qe, "sgx/icx.tcbinfo.json": tcb, "sgx/intel-root.der": one,
		"sgx/quote-v3.collateral.json": all, "tdx/quote-v4.collateral.json": all, "tdx/quote-v5-unsupported-level.collateral.json": all,
		"sgx/quote-v3.bin": none, "sgx/quote-v3-icx.hex": none, "sgx/quote-v3-certtype3.bin": none,
		"tdx/granite.pck-platform-crl.der": crl, "tdx/granite.qeidentity.json": qe, "tdx/granite.tcbinfo.json": tcb,
		"tdx/live.pck-platform-crl.der": crl, "tdx/live.qeidentity.json": qe, "tdx/live.root-ca-crl.der": crl, "tdx/live.tcbinfo.json": tcb,
		"tdx/quote-v4-granite-outofdate.bin": none, "tdx/quote-v4-live.bin": none, "tdx/quote-v4-live.ccel.bin": none, "tdx/quote-v4.bin": none,
		"tdx/quote-v5-unsupported-level.bin": none,
		"snp/milan-v2.vcek.der":              one, "snp/milan-v2.vcek-wrong-signer.der": one, "snp/milan-v2.vcek-wrong-tcb.der": one,
		"snp/milan-v3-vlek.vlek.der": one, "snp/turin-v5.vcek.pem": one, "snp/genoa-revoked-ask.pkipath": {2},
		"snp/milan-v2.report.bin": none, "snp/milan-v3-vlek.report.bin": none, "snp/turin-v5.report.bin": none,
		"steward/milan.csr.der": none, "steward/icelake-xeon.csr.der": none, "tpm/quote.json": none, "nitro/prod.cose": none,
	}
	for _, p := range []string{"milan", "genoa", "turin"} {
		for _, k := range []string{"ark", "ask", "asvk"} {
			want["snp/roots/"+p+"-"+k+".der"] = one
		}
	}
	whole := &Set{}
	for name, w := range want {
		b := published.Read(t, name)
		if got := counts(add(t, b)); got != w {
			t.Errorf("%s: found %v, wanted %v (certificates, lists, TCB infos, QE identities, ignored): %v", name, got, w, add(t, b).Ignored)
		}
		for _, as := range []string{hex.EncodeToString(b) + "\n", base64.StdEncoding.EncodeToString(b)} {
			if got := counts(add(t, []byte(as))); got != w {
				t.Errorf("%s as text: found %v, wanted %v", name, got, w)
			}
		}
		if err := whole.Add(name, b); err != nil {
			t.Fatal(err)
		}
	}
	if got, w := counts(whole), [5]int{19, 8, 6, 6, 15}; got != w {
		t.Errorf("all of them: found %v, wanted %v", got, w)
	}
}

// The signed bytes are those of the file.
func TestBytesAreKept(t *testing.T) {
	raw := published.Read(t, "tdx/live.tcbinfo.json")
	d := add(t, raw).TCBInfos[0]
	if !bytes.HasPrefix(raw, append([]byte(`{"tcbInfo":`), d.Body...)) {
		t.Error("the TCB info's body is not the file's, byte for byte")
	}
	var fields map[string]string
	if err := json.Unmarshal(published.Read(t, "tdx/quote-v4.collateral.json"), &fields); err != nil {
		t.Fatal(err)
	}
	s := add(t, published.Read(t, "tdx/quote-v4.collateral.json"))
	if string(s.TCBInfos[0].Body) != fields["tcb_info"] || string(s.QEIdentities[0].Body) != fields["qe_identity"] {
		t.Error("a body is not the field's text, byte for byte")
	}
	if hex.EncodeToString(s.TCBInfos[0].Signature) != fields["tcb_info_signature"] {
		t.Error("the signature is not the field's")
	}
}

func TestShapes(t *testing.T) {
	der := published.Read(t, "sgx/intel-root.der")
	crl := published.Read(t, "tdx/live.root-ca-crl.der")
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	list := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	sig := strings.Repeat("ab", 64)
	q := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	seq := func(parts ...[]byte) []byte {
		in := bytes.Join(parts, nil)
		return append([]byte{0x30, 0x82, byte(len(in) >> 8), byte(len(in))}, in...)
	}
	tcb, qe := `{"fmspc":"00606a000000", "tcbLevels":[]}`, `{"mrsigner":"00","miscselect":"00"}`
	for _, c := range []struct {
		name, in string
		want     [5]int
		why      string
	}{
		{"PEM, mixed", "subject: x\n" + chain + list + chain, [5]int{1, 1}, ""},
		{"PEM beside a key", chain + key, [5]int{1, 0, 0, 0, 1}, "PRIVATE KEY"},
		{"PEM cut short", chain + chain[:100], [5]int{1, 0, 0, 0, 1}, "malformed"},
		{"PEM of nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", [5]int{0, 0, 0, 0, 1}, "DER"},
		{"PEM percent-encoded", strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B").Replace(chain), [5]int{1}, ""},
		{"DER, one after the other", string(der) + string(crl), [5]int{1, 1}, ""},
		{"DER, sequence", string(seq(crl, crl)), [5]int{0, 1}, ""},
		{"DER, sequence of pairs", string(seq(seq([]byte("\x0c\x01u"), crl))), [5]int{0, 1}, ""},
		{"DER, too deep", string(seq(seq(seq(crl)))), [5]int{0, 0, 0, 0, 1}, "no certificate"},
		{"DER, bytes after", string(der) + "\n", [5]int{0, 0, 0, 0, 1}, "bytes follow"},
		{"DER, something beside", string(der) + "\x30\x00", [5]int{0, 0, 0, 0, 1}, "beside"},
		{"wrapped TCB info", `{"tcbInfo":` + tcb + `,"signature":"` + sig + `"}`, [5]int{0, 0, 1}, ""},
		{"server's answer", `{"tcbInfo":` + tcb + `,"signature":"` + sig + `","TCB-Info-Issuer-Chain":` + q(chain) + `}`, [5]int{1, 0, 1}, ""},
		{"camel case", `{"tcbInfo":` + q(tcb) + `,"tcbInfoSignature":"` + sig + `","qeIdentity":` + q(qe) + `,"qeIdentitySignature":"` + sig + `","rootCaCrl":"` + base64.StdEncoding.EncodeToString(crl) + `"}`, [5]int{0, 1, 1, 1}, ""},
		{"answer as text", `{"tcb_info":` + q(`{"tcbInfo":`+tcb+`,"signature":"`+sig+`"}`) + `}`, [5]int{0, 0, 1}, ""},
		{"nested", `{"collateral":{"pck_crl":` + q(list) + `,"tcb_info":` + tcb + `,"tcb_info_signature":"` + sig + `"},"quote":"00"}`, [5]int{0, 1, 1}, ""},
		{"no signature", tcb, [5]int{0, 0, 0, 0, 1}, "without its signature"},
		{"no signature in field", `{"tcb_info":` + q(tcb) + `}`, [5]int{0, 0, 0, 0, 1}, "no signature"},
		{"short signature", `{"tcbInfo":` + tcb + `,"signature":"` + sig[2:] + `"}`, [5]int{0, 0, 0, 0, 1}, "64 bytes"},
		{"two signatures", `{"tcb_info":` + q(`{"tcbInfo":`+tcb+`,"signature":"`+sig+`"}`) + `,"tcb_info_signature":"00"}`, [5]int{0, 0, 0, 0, 1}, "two signatures"},
		{"duplicate key", `{"tcbInfo":` + tcb + `,"tcbInfo":` + tcb + `,"signature":"` + sig + `"}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"duplicate key within", `{"tcbInfo":{"fmspc":"00","fmspc":"11","tcbLevels":[]},"signature":"` + sig + `"}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"duplicate by escape", `{"tcbInfo":{"fmspc":"00","\u0066mspc":"11"},"signature":"` + sig + `"}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"duplicate by spelling", `{"pck_crl":` + q(list) + `,"pckCrl":` + q(list) + `}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"duplicate in text", `{"tcb_info":` + q(`{"fmspc":"0","fmspc":"1"}`) + `,"tcb_info_signature":"` + sig + `"}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"swapped", `{"qe_identity":` + q(tcb) + `,"qe_identity_signature":"` + sig + `"}`, [5]int{0, 0, 0, 0, 1}, "no QE identity"},
		{"JSON, bytes after", `{"tcbInfo":` + tcb + `,"signature":"` + sig + `"}x`, [5]int{0, 0, 0, 0, 1}, "follows"},
		{"JSON cut short", `{"tcbInfo":` + tcb, [5]int{0, 0, 0, 0, 1}, "ends early"},
		{"JSON too deep", `{"tcbInfo":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, [5]int{0, 0, 0, 0, 1}, "deeper"},
		{"one bad field", `{"pck_crl":"zz","root_ca_crl":` + q(list) + `}`, [5]int{0, 1, 0, 0, 1}, "pckcrl"},
		{"null field", `{"pck_crl":null,"root_ca_crl":` + q(list) + `}`, [5]int{0, 1}, ""},
		{"JSON in a certificate's field", `{"pck_crl":` + q(`{"root_ca_crl":`+q(list)+`}`) + `}`, [5]int{0, 0, 0, 0, 1}, "malformed"},
		{"hexadecimal of JSON in a certificate's field", `{"pck_crl":"` + hex.EncodeToString([]byte(`{"root_ca_crl":`+q(list)+`}`)) + `"}`, [5]int{0, 0, 0, 0, 1}, "pckcrl"},
		{"PEM that reads as base64url", "-----BEGIN CERTIFICATE-----\nMAAA\nAA\n-----END CERTIFICATE-----\n", [5]int{0, 0, 0, 0, 1}, "PEM"},
		{"nested twice", `{"collateral":{"collateral":{"pck_crl":` + q(list) + `}}}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"nested and beside", `{"collateral":{"pck_crl":` + q(list) + `},"pck_crl":` + q(list) + `}`, [5]int{0, 0, 0, 0, 1}, "twice"},
		{"base64 in a field", `{"pck_crl":"` + base64.StdEncoding.EncodeToString([]byte(list)) + `"}`, [5]int{0, 1}, ""},
		{"short, like base64", "junk", [5]int{0, 0, 0, 0, 1}, "no certificate"},
		{"unknown object", `{"quote":"00"}`, [5]int{0, 0, 0, 0, 1}, "no field"},
		{"hexadecimal of hexadecimal of text", hex.EncodeToString([]byte(hex.EncodeToString([]byte(hex.EncodeToString(der))))), [5]int{0, 0, 0, 0, 1}, "text"},
		{"empty", "", [5]int{0, 0, 0, 0, 1}, "empty"},
		{"an HTML page", "<html><body>503</body></html>", [5]int{0, 0, 0, 0, 1}, "text"},
	} {
		s := add(t, []byte(c.in))
		if got := counts(s); got != c.want {
			t.Errorf("%s: found %v, wanted %v: %v", c.name, got, c.want, s.Ignored)
		} else if c.why != "" && !strings.Contains(s.Ignored[0].Why, c.why) {
			t.Errorf("%s: found %q, wanted it to say %q", c.name, s.Ignored[0].Why, c.why)
		}
	}
}

func TestLimits(t *testing.T) {
	s := add(t, published.Read(t, "sgx/intel-root.der"))
	before := counts(s)
	if err := s.Add("big", make([]byte, MaxFile+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("a file over the limit: %v", err)
	}
	var docs strings.Builder
	for i := range MaxDocuments + 1 {
		docs.Reset()
		docs.WriteString(`{"tcbInfo":{"fmspc":"` + hex.EncodeToString([]byte{byte(i)}) + `","tcbLevels":[]},"signature":"` + strings.Repeat("ab", 64) + `"}`)
		err := s.Add("doc", []byte(docs.String()))
		if over := i == MaxDocuments; over != errors.Is(err, ErrLimit) {
			t.Errorf("document %d: %v", i, err)
		}
	}
	if len(s.TCBInfos) != MaxDocuments {
		t.Errorf("found %d, wanted %d", len(s.TCBInfos), MaxDocuments)
	}
	s = add(t, published.Read(t, "sgx/intel-root.der"))
	for range MaxIgnored {
		if err := s.Add("", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add("", nil); !errors.Is(err, ErrLimit) || len(s.Ignored) != MaxIgnored {
		t.Errorf("ignored without end: %v", err)
	}
	if before != [5]int{1} {
		t.Error(before)
	}
	// Many elements that are nothing cost no more than the bound.
	if got := add(t, bytes.Repeat([]byte{0x30, 0}, 1<<20)); len(got.Ignored) != 1 {
		t.Errorf("found %v", counts(got))
	}
}

func FuzzAdd(f *testing.F) {
	for _, s := range []string{"", "{}", "0", `{"tcbInfo":{"fmspc":"0"},"signature":"` + strings.Repeat("ab", 64) + `"}`, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", `{"collateral":{"pck_crl":"3000"}}`, "\x30\x02\x30\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Set{}
		if err := s.Add("f", b); err != nil && !errors.Is(err, ErrLimit) {
			t.Fatal(err)
		}
		if err := s.Add("f", b); err != nil && !errors.Is(err, ErrLimit) {
			t.Fatal(err)
		}
		// Twice the same adds nothing but what was ignored.
		once := &Set{}
		_ = once.Add("f", b)
		if a, c := counts(s), counts(once); !slices.Equal(a[:4], c[:4]) {
			t.Fatalf("once %v, twice %v", c, a)
		}
		for _, c := range s.Certificates {
			if _, err := x509.ParseCertificate(c.Raw); err != nil {
				t.Fatal(err)
			}
		}
	})
}
