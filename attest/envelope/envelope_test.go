package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/published"
)

func TestPublishedForms(t *testing.T) {
	for _, c := range []struct {
		file string
		kind Kind
		form string
	}{
		{"snp/milan-v2.report.bin", SNP, "SEV-SNP report"},
		{"snp/milan-v3-vlek.report.bin", SNP, "SEV-SNP report"},
		{"snp/turin-v5.report.bin", SNP, "SEV-SNP report"},
		{"sgx/quote-v3.bin", DCAP, "DCAP quote"},
		{"sgx/quote-v3-icx.hex", DCAP, "hexadecimal, DCAP quote"},
		{"sgx/quote-v3-certtype3.bin", DCAP, "DCAP quote"},
		{"tdx/quote-v4.bin", DCAP, "DCAP quote"},
		{"tdx/quote-v4-live.bin", DCAP, "DCAP quote"},
		{"tdx/quote-v5-unsupported-level.bin", DCAP, "DCAP quote"},
		{"nitro/prod.cose", Nitro, "COSE_Sign1"},
		{"nitro/debug.cose", Nitro, "COSE_Sign1"},
		{"steward/milan.csr.der", SNP, "PKCS#10 request, Enarx SNP evidence"},
		{"steward/icelake-xeon.csr.der", DCAP, "PKCS#10 request, Enarx SGX evidence, DCAP quote"},
		{"ratls/gramine.pem", DCAP, "PEM, X.509 certificate, tagged evidence, DCAP quote"},
		{"ratls/rats-tls.pem", DCAP, "PEM, X.509 certificate, tagged evidence, DCAP quote"},
		{"tpm/quote.json", TPM, ""},
		{"tpm/azure-snp-vtpm.json", TPM, ""},
	} {
		b := published.Read(t, c.file)
		e, err := Open(b)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		if e.Kind != c.kind || c.form != "" && e.Form != c.form {
			t.Errorf("%s: found %s, %q, wanted %s, %q", c.file, e.Kind, e.Form, c.kind, c.form)
		}
		if strings.HasPrefix(c.file, "steward/") && (len(e.Stapled.Lists) < 2 || e.Binds.Direct == DirectNone || e.Binds.Signature != nil) {
			t.Errorf("%s: found %d lists, binding %q, signature %v", c.file, len(e.Stapled.Lists), e.Binds.Direct, e.Binds.Signature)
		}
		if strings.HasPrefix(c.file, "ratls/") && (e.Binds.Claims == nil || e.Binds.Signature != nil) {
			t.Errorf("%s: claims %x, signature %v", c.file, e.Binds.Claims, e.Binds.Signature)
		}
	}
}

// The same evidence in every text encoding is the same evidence.
func TestTextEncodings(t *testing.T) {
	raw := sampleReport()
	wrap := func(s string, n int) string {
		var b strings.Builder
		for len(s) > n {
			b.WriteString(s[:n] + "\r\n")
			s = s[n:]
		}
		return b.String() + s + "\n"
	}
	for name, b := range map[string]string{
		"hex": hex.EncodeToString(raw), "HEX in lines": wrap(strings.ToUpper(hex.EncodeToString(raw)), 64), "0x": "0x" + hex.EncodeToString(raw),
		"base64": base64.StdEncoding.EncodeToString(raw), "base64 in lines": wrap(base64.StdEncoding.EncodeToString(raw), 76),
		"base64url": base64.RawURLEncoding.EncodeToString(raw), "binary": string(raw),
	} {
		e, err := Open([]byte(b))
		if err != nil || !bytes.Equal(e.Evidence, raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sampleReport() []byte {
	b := make([]byte, 1184)
	b[0], b[0x0a], b[0x34] = 2, 2, 1
	for i := 0x50; i < 0x90; i++ {
		b[i] = byte(i * 7) // so that base64 needs both alphabets
	}
	b[0x51], b[0x52], b[0x53] = 0xff, 0xfb, 0xef
	return b
}

func TestCMW(t *testing.T) {
	report := sampleReport()
	enc := func(v any) []byte {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	js := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b64 := base64.RawURLEncoding.EncodeToString
	rec := []any{evidence.ReportType, report, 4}
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"CBOR record":                   {enc(rec), true},
		"CBOR record without indicator": {enc(rec[:2]), true},
		"CBOR record by number":         {enc([]any{60, report}), true},
		"CBOR tagged record":            {enc(cbor.Tag{Number: 1668546817 + 60, Content: report}), true},
		"CBOR collection":               {enc(map[string]any{"a": rec}), true},
		"CBOR collection by number":     {enc(map[int]any{1: rec}), true},
		"JSON record":                   {js([]any{evidence.ReportType, b64(report), 4}), true},
		"JSON collection":               {js(map[string]any{"a": []any{evidence.ReportType, b64(report), 4}}), true},
		"two pieces of evidence":        {enc(map[string]any{"a": rec, "b": rec}), false},
		"no evidence":                   {enc(map[string]any{"a": []any{evidence.ClaimsType, report, 4}}), false},
		"empty collection":              {enc(map[string]any{}), false},
		"only a type":                   {enc(map[string]any{"__cmwc_t": "tag:x"}), false},
		"indicator 0":                   {enc([]any{evidence.ReportType, report, 0}), false},
		"indicator 32":                  {enc([]any{evidence.ReportType, report, 32}), false},
		"one part":                      {enc([]any{evidence.ReportType}), false},
		"text for bytes":                {enc([]any{evidence.ReportType, string(report[:8]) + "x"}), false},
		"trailing byte":                 {append(enc(rec), 0), false},
		"indefinite length":             {append([]byte{0x9f, 0x61, 'a', 0x41, 0}, 0xff), false},
		"duplicate label":               {append(append([]byte{0xa2, 0x61, 'a'}, enc(rec)...), append([]byte{0x61, 'a'}, enc(rec)...)...), false},
		"JSON duplicate label":          {[]byte(`{"a":["x","` + b64(report) + `"],"a":["x","` + b64(report) + `"]}`), false},
		"JSON padded base64":            {js([]any{"x", base64.StdEncoding.EncodeToString(append(report, 0))}), false},
		"JSON trailing":                 {append(js([]any{evidence.ReportType, b64(report)}), []byte(" {}")...), false},
		"says a report, holds a quote":  {enc([]any{evidence.ReportType, append([]byte{4, 0, 2, 0}, make([]byte, 700)...), 4}), false},
		"another tag":                   {enc(cbor.Tag{Number: 18000, Content: report}), false},
		"tag 60000 without claims":      {enc(cbor.Tag{Number: 60000, Content: [][]byte{report}}), false},
		"tag 60000":                     {enc(cbor.Tag{Number: 60000, Content: [][]byte{report, []byte("claims")}}), true},
		"tag 60001":                     {enc(cbor.Tag{Number: 60001, Content: [][]byte{report, report}}), false},
		"evidence within evidence":      {enc(cbor.Tag{Number: 60000, Content: [][]byte{enc(cbor.Tag{Number: 60000, Content: [][]byte{report, {1}}}), {2}}}), false},
		"deeply nested":                 {bytes.Repeat([]byte{0x81}, 4000), false},
		"many records":                  {enc(manyRecords(report)), false},
		"claims twice":                  {enc(map[string]any{"a": rec, "b": []any{evidence.ClaimsType, []byte{1}, 4}, "c": []any{evidence.ClaimsType, []byte{2}, 4}}), false},
	} {
		e, err := Open(c.b)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, wanted ok %v", name, err, c.ok)
		}
		if err == nil && !bytes.Equal(e.Evidence, report) {
			t.Errorf("%s: other evidence than was put in", name)
		}
		var form *FormError
		if err != nil && !errors.As(err, &form) {
			t.Errorf("%s: %T is no FormError", name, err)
		}
	}
}

func manyRecords(report []byte) map[string]any {
	m := map[string]any{}
	for i := range 40 {
		m[strings.Repeat("a", i+1)] = []any{"x", report, 2}
	}
	return m
}

func TestRefusedForms(t *testing.T) {
	sev := make([]byte, 208)
	sev[0x34], sev[0x35] = 0x02, 0x10
	for name, c := range map[string]struct {
		b    []byte
		says string
	}{
		"nothing":         {nil, "no bytes"},
		"space":           {[]byte(" \n\t"), "no bytes"},
		"words":           {[]byte("hello, this is no evidence!"), "no evidence"},
		"SEV report":      {sev, "SEV and SEV-ES without SNP"},
		"HCL report":      {append([]byte("HCLA"), make([]byte, 2000)...), "bare HCL report"},
		"too large":       {make([]byte, MaxSize+1), "at most"},
		"PEM key":         {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "PRIVATE KEY"},
		"damaged PEM":     {[]byte("-----BEGIN CERTIFICATE-----\n"), "no evidence"},
		"PEM and more":    {append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "more"...), "follows"},
		"DER of no kind":  {[]byte{0x30, 0x82, 0, 1, 0}, "DER"},
		"JSON of no kind": {[]byte(`{"hello": 1}`), "no evidence"},
		"report and more": {append(sampleReport(), 1, 2, 3), "certificate table"},
		"short report":    {sampleReport()[:1183], ""},
		"unknown binary":  {[]byte{0xff, 0xfe, 0, 1, 2, 3, 0xff, 0xff}, "no evidence"},
	} {
		_, err := Open(c.b)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, wanted an error with %q", name, err, c.says)
		}
	}
}

// Every truncation and every flipped byte of an envelope is refused or gives the
// same single kind of evidence; nothing panics.
func TestDamagedEnvelopes(t *testing.T) {
	for _, name := range []string{"steward/milan.csr.der", "ratls/rats-tls.pem", "tpm/quote.json"} {
		b := published.Read(t, name)
		for n := range b {
			_, _ = Open(b[:n])
		}
		for i := range b {
			c := bytes.Clone(b)
			c[i] ^= 0x20
			_, _ = Open(c)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(sampleReport())
	f.Add([]byte(hex.EncodeToString(sampleReport())))
	f.Add([]byte(`["x","AAAA",4]`))
	f.Add([]byte(`{"tpm_quote":{}}`))
	f.Add([]byte{0x82, 0x61, 'x', 0x41, 0})
	f.Add([]byte{0xd9, 0xea, 0x60, 0x82, 0x41, 0, 0x41, 0})
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Open(b)
		if err != nil {
			return
		}
		if (e.Evidence == nil) == (e.TPMEvidence == nil) {
			t.Errorf("found neither or both of evidence and a TPM quote in %x", b)
		}
	})
}
