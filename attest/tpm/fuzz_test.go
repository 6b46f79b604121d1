package tpm_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/layout"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/tpm"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// cover says whether fields lie one after the other from 0 to the end.
func cover(t *testing.T, fields []layout.Field, n int) {
	t.Helper()
	end := 0
	for _, f := range fields {
		if f.Offset != end || f.Size <= 0 || f.Name == "" {
			t.Errorf("%s: offset %d, size %d, wanted to begin at %d", f.Name, f.Offset, f.Size, end)
		}
		end = f.Offset + f.Size
	}
	if end != n {
		t.Errorf("the fields end at %d of %d", end, n)
	}
}

func FuzzAttest(f *testing.F) {
	k, err := synthetic.NewTPMKey(tpm.AlgECDSA, tpm.AlgSHA256, nil)
	if err != nil {
		f.Fatal(err)
	}
	q := synthetic.TPMQuote{Key: k, Bank: tpm.AlgSHA256, PCRs: synthetic.Registers(tpm.AlgSHA256)}
	f.Add(q.Message())
	q.Raw = []byte{0, 0, 0, 2, 0, 0xb, 3, 1, 0, 0, 0, 0xc, 4, 1, 0, 0, 0}
	f.Add(q.Message())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := tpm.ParseAttest(b)
		fields, lerr := tpm.LayoutAttest(b)
		if (err == nil) != (lerr == nil) {
			t.Fatalf("parsed %v, layout %v", err, lerr)
		}
		if err == nil {
			cover(t, fields, len(b))
		}
	})
}

func FuzzSignature(f *testing.F) {
	for _, k := range keys(f) {
		s, err := k.Sign([]byte("x"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	f.Add([]byte{0, 0x14, 0, 4, 0, 0})
	all := keys(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := tpm.ParseSignature(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), b) {
			t.Errorf("%x: read and written as %x", b, s.Encode())
		}
		for _, k := range all {
			if s.Verify([]byte("never signed"), k.Private.Public()) == nil {
				t.Error("a signature that nobody made holds")
			}
		}
	})
}

func FuzzPublic(f *testing.F) {
	for _, k := range keys(f) {
		f.Add(k.Public())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := tpm.ParsePublic(b)
		if err == nil && p.Key == nil {
			t.Error("a public area without a key")
		}
	})
}

func FuzzEventLog(f *testing.F) {
	f.Add(synthetic.EventLog([]tpm.Algorithm{tpm.AlgSHA1, tpm.AlgSHA256}, synthetic.BootEvents()...))
	f.Add(append(synthetic.EventLog([]tpm.Algorithm{tpm.AlgSHA384}), 0xff, 0xff))
	f.Add([]byte("\x00\x00\x00\x00\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := tpm.ParseLog(b)
		fields, lerr := tpm.LayoutLog(b)
		if (err == nil) != (lerr == nil) {
			t.Fatalf("parsed %v, layout %v", err, lerr)
		}
		if err == nil {
			cover(t, fields, len(b))
		}
		if _, rerr := tpm.Replay(b); err != nil && rerr == nil {
			t.Error("a log that does not parse replays")
		}
	})
}

func FuzzHCL(f *testing.F) {
	f.Add(synthetic.HCL(1, make([]byte, 1184), []byte("{}")))
	f.Add(synthetic.HCL(2, make([]byte, 1184), []byte(`{"keys":[{"kid":"HCLAkPub"}]}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := tpm.ParseHCL(b)
		fields, lerr := tpm.LayoutHCL(b)
		if (err == nil) != (lerr == nil) {
			t.Fatalf("parsed %v, layout %v", err, lerr)
		}
		if err == nil {
			cover(t, fields, len(b))
		}
	})
}

func FuzzJSON(f *testing.F) {
	q, runtime := composite(f)
	for _, doc := range []func() ([]byte, error){q.JSON, func() ([]byte, error) {
		return q.AzureJSON(synthetic.HCL(1, make([]byte, 1184), runtime), []byte{0x30, 0})
	}} {
		b, err := doc()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"tpm_quote":{"pcrs":[[[[[[[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, _, err := tpm.ParseJSON(b)
		if err != nil {
			return
		}
		r := new(tpm.Verifier).Verify(e, &format.Options{})
		if check(r, verdict.Form).Status == "" {
			t.Error("no check of the form")
		}
	})
}

// Cut short anywhere, or with a bit changed anywhere, evidence is never better.
func TestBadJSON(t *testing.T) {
	q, runtime := composite(t)
	docs := map[string]func() ([]byte, error){"quote": q.JSON, "composite": func() ([]byte, error) {
		return q.AzureJSON(synthetic.HCL(1, make([]byte, 1184), runtime), []byte{0x30, 0})
	}}
	c := snpClaims(synthetic.RuntimeReportData(runtime), 0)
	for name, doc := range docs {
		whole, err := doc()
		if err != nil {
			t.Fatal(err)
		}
		for n := range whole {
			if _, _, err := tpm.ParseJSON(whole[:n]); err == nil {
				t.Fatalf("%s: %d bytes parse", name, n)
			}
		}
		for i := range whole {
			bad := bytes.Clone(whole)
			bad[i] ^= 1 << (i % 7)
			e, _, err := tpm.ParseJSON(bad)
			if err != nil {
				continue
			}
			r := new(tpm.Verifier).Verify(e, &format.Options{})
			if e.Composite != nil {
				if !bytes.Equal(e.Composite.Report, make([]byte, 1184)) || !bytes.Equal(e.Composite.VCEK, []byte{0x30, 0}) {
					continue // what the report's own verifier sees
				}
				r = new(tpm.Verifier).VerifyComposite(e, c, &format.Options{})
			}
			if verdict.Conclude(r.Checks) != verdict.NotGenuine && !same(bad, whole) {
				t.Errorf("%s: a bit changed at %d (%q): %s", name, i, bad[max(0, i-20):i+1], verdict.Conclude(r.Checks))
			}
		}
	}
	for name, doc := range map[string]string{
		"empty": "", "array": "[]", "null": "null", "no members": "{}", "deep": `{"a":` + strings.Repeat("[", 1e5),
		"line break in base64": `{"ak_public":"AA\n==","tpm_quote":{"message":"AA==","signature":"AA==","pcrs":[]}}`,
		"null member":          `{"ak_public":null,"tpm_quote":{"message":"AA==","signature":"AA==","pcrs":[]}}`,
		"null quote":           `{"ak_public":"AA==","tpm_quote":null}`,
		"number":               `{"ak_public":1,"tpm_quote":{"message":"AA==","signature":"AA==","pcrs":[]}}`,
		"version 1":            `{"version":1,"hcl_report":"AA==","vcek":"AA==","tpm_quote":{"message":"00","signature":"00","pcrs":[]}}`,
		"version as text":      `{"version":"2","hcl_report":"AA==","vcek":"AA==","tpm_quote":{"message":"00","signature":"00","pcrs":[]}}`,
		"many values":          `{"a":[` + strings.Repeat("1,", 5000) + `1]}`,
		"large":                strings.Repeat(" ", tpm.MaxSize+1),
	} {
		if _, _, err := tpm.ParseJSON([]byte(doc)); err == nil {
			t.Errorf("%s: parses", name)
		}
	}
}

// same says that both documents hold the same evidence, as with a letter of
// hexadecimal in the other case.
func same(a, b []byte) bool {
	x, _, err := tpm.ParseJSON(a)
	y, _, err2 := tpm.ParseJSON(b)
	return err == nil && err2 == nil && reflect.DeepEqual(x, y)
}

func TestLayouts(t *testing.T) {
	k := keys(t)["p256"]
	q := synthetic.TPMQuote{Key: k, Nonce: []byte("n"), Bank: tpm.AlgSHA256, PCRs: synthetic.Registers(tpm.AlgSHA256)}
	fields, err := tpm.LayoutAttest(q.Message())
	if err != nil {
		t.Fatal(err)
	}
	cover(t, fields, len(q.Message()))
	log := append(synthetic.EventLog([]tpm.Algorithm{tpm.AlgSHA256}, synthetic.BootEvents()...), make([]byte, 50)...)
	if fields, err = tpm.LayoutLog(log); err != nil || len(fields) != len(synthetic.BootEvents())+2 {
		t.Fatal(len(fields), err)
	}
	cover(t, fields, len(log))
	hcl := synthetic.HCL(2, make([]byte, 1184), []byte("{}"))
	if fields, err = tpm.LayoutHCL(hcl); err != nil {
		t.Fatal(err)
	}
	cover(t, fields, len(hcl))
}
