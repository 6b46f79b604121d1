package nitro

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func evidence(t testing.TB, name string) []byte {
	t.Helper()
	return published.Read(t, "nitro/"+name)
}

// status is what became of a check; "" where it is not there.
func status(r format.Result, c verdict.Code) verdict.Status {
	for _, k := range r.Checks {
		if k.Code == c {
			return k.Status
		}
	}
	return ""
}

func TestRoot(t *testing.T) {
	c, err := x509.ParseCertificate(Root())
	if err != nil {
		t.Fatal(err)
	}
	h := pki.Fingerprint(c)
	if hex.EncodeToString(h[:]) != RootFingerprint {
		t.Errorf("the built-in root has the SHA-256 %x, wanted %s", h, RootFingerprint)
	}
}

func TestRealDocuments(t *testing.T) {
	prod := time.Date(2021, 3, 17, 22, 1, 55, 685e6, time.UTC)
	debug := time.Date(2024, 1, 24, 18, 14, 25, 635e6, time.UTC)
	for _, c := range []struct {
		file  string
		at    time.Time
		debug bool
		want  verdict.Outcome
	}{
		{"prod.cose", prod, false, verdict.Admitted},
		{"debug.cose", debug, true, verdict.Admitted}, // that debug is refused is policy's word
		{"prod.cose", prod.Add(-2 * time.Second), false, verdict.CannotTell},
		{"prod.cose", prod.Add(4 * time.Hour), false, verdict.CannotTell},
		{"prod.cose", time.Date(2021, 3, 24, 16, 10, 42, 0, time.UTC), false, verdict.CannotTell},
		{"prod.cose", time.Time{}, false, verdict.CannotTell},
	} {
		doc := evidence(t, c.file)
		r := new(Verifier).Verify(doc, &format.Options{At: c.at})
		if got := verdict.Conclude(r.Checks); got != c.want {
			t.Errorf("%s at %v: found %s, wanted %s: %+v", c.file, c.at, got, c.want, r.Checks)
		}
		if c.want == verdict.CannotTell && status(r, verdict.CertificateValidity) != verdict.NotMade {
			t.Errorf("%s at %v: certificate-validity is %q", c.file, c.at, status(r, verdict.CertificateValidity))
		}
		if n := r.Claims.Nitro; n.Debug != c.debug || r.Claims.Root.Simulated || r.Claims.HostData != nil || len(n.PCRs) != 16 {
			t.Errorf("%s: claims %+v", c.file, r.Claims)
		}
		d, err := Parse(doc)
		if err != nil || !d.Timestamp.Equal(map[bool]time.Time{false: prod, true: debug}[c.debug]) {
			t.Errorf("%s: timestamp %v, %v", c.file, d.Timestamp, err)
		}
		// Tag 18 is allowed, and says nothing new; trailing bytes are not.
		if r := new(Verifier).Verify(append([]byte{tagSign1}, doc...), &format.Options{At: c.at}); verdict.Conclude(r.Checks) != c.want {
			t.Errorf("%s, tagged: found %s", c.file, verdict.Conclude(r.Checks))
		}
	}
	r := new(Verifier).Verify(evidence(t, "debug.cose"), &format.Options{At: debug})
	if n := r.Claims.Nitro; string(n.UserData) != "Hello World!\n" || string(n.Nonce) != "Nonce\n" || string(r.Claims.Nonce) != "Nonce\n" || len(n.PublicKey) != 294 {
		t.Errorf("claims %+v", n)
	}
}

func TestCacheKeepsNoValidity(t *testing.T) {
	doc := evidence(t, "prod.cose")
	v := new(Verifier)
	good := time.Date(2021, 3, 17, 22, 30, 0, 0, time.UTC)
	for _, at := range []time.Time{good, good.Add(24 * time.Hour), good} {
		r := v.Verify(doc, &format.Options{At: at})
		if want := map[bool]verdict.Status{true: verdict.Passed, false: verdict.NotMade}[at.Equal(good)]; status(r, verdict.CertificateValidity) != want || status(r, verdict.Chain) != verdict.Passed {
			t.Errorf("at %v: %+v", at, r.Checks)
		}
	}
	if v.links.Len() != 5 { // four links and the root's own signature
		t.Errorf("found %d cached signatures, wanted 5", v.links.Len())
	}
}

func TestBadInput(t *testing.T) {
	doc := evidence(t, "debug.cose")
	at := time.Date(2024, 1, 24, 18, 14, 25, 0, time.UTC)
	v := new(Verifier)
	for n := range doc {
		if _, err := Parse(doc[:n]); err == nil {
			t.Fatalf("%d bytes parse", n)
		}
	}
	if _, err := Parse(append(bytes.Clone(doc), 0)); err == nil {
		t.Error("a trailing byte parses")
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil {
		t.Error("a large file parses")
	}
	for i := range doc {
		bad := bytes.Clone(doc)
		bad[i] ^= 1 << (i % 8)
		if r := v.Verify(bad, &format.Options{At: at}); verdict.Conclude(r.Checks) != verdict.NotGenuine {
			t.Errorf("a flipped bit at %d: %s", i, verdict.Conclude(r.Checks))
		}
	}
}

func TestLayout(t *testing.T) {
	doc := evidence(t, "debug.cose")
	for _, b := range [][]byte{doc, append([]byte{tagSign1}, doc...)} {
		fields, err := Layout(b)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		end := 0
		for _, f := range fields {
			if f.Offset < end || f.Size <= 0 || f.Offset+f.Size > len(b) {
				t.Errorf("%s: offset %d, size %d, after %d", f.Name, f.Offset, f.Size, end)
			}
			end = f.Offset + f.Size
			seen[f.Name] = f.Value
		}
		if end != len(b) || seen["module_id"] != "i-0e4fe5de7ee5abe78-enc018d3cadd7d66279" || seen["pcrs.3"][:8] != "a466a207" ||
			seen["cabundle.0"] != hex.EncodeToString(Root()) || len(seen["signature"]) != 2*signatureSize || seen["nonce"] != hex.EncodeToString([]byte("Nonce\n")) {
			t.Errorf("fields %v", seen)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x40, 0x40})
	f.Add([]byte{tagSign1, 0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	if b, err := os.ReadFile("../../../shared/evidence/nitro/debug.cose"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := new(Verifier).Verify(b, &format.Options{At: time.Unix(1706120065, 0)})
		_, parsed := Parse(b)
		if _, err := Layout(b); (err == nil) != (parsed == nil) {
			t.Errorf("parsed %v, layout %v", parsed, err)
		}
		if status(r, verdict.Form) == "" {
			t.Error("no check of the form")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	doc := evidence(b, "debug.cose")
	o := &format.Options{At: time.Unix(1706120065, 0)}
	v := new(Verifier)
	for name, verifier := range map[string]func() *Verifier{"everything": func() *Verifier { return new(Verifier) }, "chain cached": func() *Verifier { return v }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := verifier().Verify(doc, o); verdict.Conclude(r.Checks) != verdict.Admitted {
					b.Fatal(r.Checks)
				}
			}
		})
	}
}
