package dcap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// forms is a good vector of every form.
func forms(t testing.TB) (out []synthetic.Vector) {
	t.Helper()
	for _, f := range [][2]uint16{{3, 1}, {4, 1}, {5, 1}, {4, 2}, {5, 2}, {5, 3}} {
		s, err := synthetic.NewScene(f[0], f[1], synthetic.IntelOptions{})
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.Vector(fmt.Sprintf("version %d, body type %d", f[0], f[1]), "", verdict.Passed)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func options(x *synthetic.Vector) *format.Options {
	return &format.Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots}
}

func TestTruncatedEverywhere(t *testing.T) {
	for _, x := range forms(t) {
		v := &Verifier{}
		for n := range x.Evidence {
			r := v.Verify(x.Evidence[:n], options(&x))
			if len(r.Checks) != 1 || r.Checks[0].Code != verdict.Form || r.Checks[0].Status != verdict.Failed || r.Claims != nil {
				t.Fatalf("%s: %d bytes: found %v", x.Name, n, r.Checks)
			}
			if fields, err := Layout(x.Evidence[:n]); err == nil || n > 60 && len(fields) < 5 {
				t.Fatalf("%s: %d bytes have %d fields and error %v", x.Name, n, len(fields), err)
			}
		}
	}
}

// Every byte up to the chain is signed or says how to read what is; a change of any
// of them is not genuine.
func TestFlippedEverywhere(t *testing.T) {
	for _, x := range forms(t) {
		v := &Verifier{}
		q, err := ParseQuote(x.Evidence)
		if err != nil {
			t.Fatal(err)
		}
		for i := range x.Evidence {
			if i >= q.at.cert+6 && i%7 != 0 { // the chain: a sample
				continue
			}
			b := bytes.Clone(x.Evidence)
			b[i] ^= 1 << (i % 8)
			r := v.Verify(b, options(&x))
			if got := verdict.Conclude(r.Checks); got != verdict.NotGenuine {
				// White space and the last bits of base64 carry nothing.
				if bad, err := ParseQuote(b); err == nil && sameChain(t, q.CertData, bad.CertData) {
					continue
				}
				t.Errorf("%s: byte %d: found %s", x.Name, i, got)
			}
		}
	}
}

func sameChain(t *testing.T, a, b []byte) bool {
	t.Helper()
	x, err := parseChain(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := parseChain(b)
	if err != nil || len(x) != len(y) || bytes.Equal(a, b) {
		return false
	}
	for i := range x {
		if !x[i].Equal(y[i]) {
			return false
		}
	}
	return true
}

func TestFlippedCollateral(t *testing.T) {
	x := forms(t)[3]
	for i := range x.Collateral.TCBInfos[0].Body {
		s := *x.Collateral
		d := s.TCBInfos[0]
		d.Body = bytes.Clone(d.Body)
		d.Body[i] ^= 1 << (i % 8)
		s.TCBInfos = []collateral.Document{d}
		if i%3 > 0 {
			continue
		}
		r := (&Verifier{}).Verify(x.Evidence, &format.Options{At: x.At, Collateral: &s, SimulatedRoots: x.Roots})
		if r.Claims.Intel.Status != "" || verdict.Conclude(r.Checks) == verdict.Admitted {
			t.Fatalf("byte %d of the TCB info: status %s", i, r.Claims.Intel.Status)
		}
	}
}

func TestHugeInput(t *testing.T) {
	x := forms(t)[3]
	huge := append(bytes.Clone(x.Evidence), make([]byte, 100<<20)...)
	big := collateral.Document{Body: bytes.Repeat([]byte("["), 50<<20), Signature: make([]byte, 64)}
	deep := collateral.Document{Body: []byte(`{"id":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`), Signature: make([]byte, 64)}
	wide := collateral.Document{Body: []byte(`{"id":[` + strings.Repeat("1,", 200_000) + `1]}`), Signature: make([]byte, 64)}
	short := collateral.Document{Body: x.Collateral.TCBInfos[0].Body}
	start := time.Now()
	v := &Verifier{}
	if r := v.Verify(huge, options(&x)); r.Checks[0].Status != verdict.Failed {
		t.Errorf("100 MiB of padding: found %v", r.Checks)
	}
	for name, d := range map[string]collateral.Document{"big": big, "deep": deep, "wide": wide, "unsigned": short} {
		s := *x.Collateral
		s.TCBInfos, s.QEIdentities = []collateral.Document{d}, []collateral.Document{d}
		r := v.Verify(x.Evidence, &format.Options{At: x.At, Collateral: &s, SimulatedRoots: x.Roots})
		if k := check(r, verdict.TCBInfoMatch); len(k) != 1 || k[0].Status != verdict.NotMade {
			t.Errorf("%s: found %v", name, k)
		}
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestT26StrictJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"a":2}`:                     "twice",
		`{"a":1,"A":2}`:                     "twice",
		`{"a":{"b":1,"c":[{"b":1,"b":2}]}}`: "twice",
		`{"\u0061":1}`:                      "ASCII",
		"{\"\u017f\":1}":                    "ASCII",
		`{"a":1} `:                          "",
		`{"a":"{\"a\":1,\"a\":2}"}`:         "",
		`{"a":["a","a"],"b":"a"}`:           "",
		`[[[[[[[[[[[[[1]]]]]]]]]]]]]`:       "deeper",
		`{"a":1}{"a":1}`:                    "no JSON",
		`{"a":1`:                            "no JSON",
		"":                                  "no JSON",
	} {
		var v any
		err := decode([]byte(in), &v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: found %v, wanted %q", in, err, want)
		}
	}
}

// A verifier's memory stays bounded whatever it is given.
func TestMemoryIsBounded(t *testing.T) {
	x := forms(t)[0]
	v := &Verifier{}
	v.chains.Size, v.documents.Size, v.signatures.Size, v.signersSeen.Size = 4, 4, 4, 4
	for n := range 40 {
		s := *x.Collateral
		d := s.TCBInfos[0]
		d.Body = append(json.RawMessage(strings.Repeat(" ", n)), d.Body...)
		s.TCBInfos = []collateral.Document{d}
		b := append(bytes.Clone(x.Evidence), bytes.Repeat([]byte("\n"), n)...)
		size := len(b) - 436
		copy(b[432:], []byte{byte(size), byte(size >> 8)})
		q, _ := ParseQuote(x.Evidence)
		size = len(q.CertData) + n
		copy(b[q.at.cert+2:], []byte{byte(size), byte(size >> 8)})
		r := v.Verify(b, &format.Options{At: x.At, Collateral: &s, SimulatedRoots: x.Roots})
		if n > 0 && len(check(r, verdict.Signature)) != 1 {
			t.Fatalf("%d: found %v", n, r.Checks)
		}
	}
	if a, b, c, d := v.chains.Len(), v.documents.Len(), v.signersSeen.Len(), v.signatures.Len(); a > 8 || a < 4 || b > 8 || c > 8 || d > 8 {
		t.Errorf("found %d chains, %d documents, %d signers, %d signatures", a, b, c, d)
	}
}

func TestConcurrent(t *testing.T) {
	list := forms(t)
	v := &Verifier{}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 40 {
				x := &list[(n+g)%len(list)]
				r := v.Verify(x.Evidence, options(x))
				if got := verdict.Conclude(r.Checks); got != verdict.Admitted {
					t.Errorf("%s: found %s", x.Name, got)
				}
				r.Claims.Intel.FMSPC[0], r.Claims.Intel.CompSVN[0] = 0xff, 0xff // a caller's own copy
			}
		})
	}
	wg.Wait()
}

func TestLayout(t *testing.T) {
	for _, x := range forms(t) {
		fields, err := Layout(x.Evidence)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, f := range fields {
			if f.Offset != at {
				t.Errorf("%s: %s at %d, wanted %d: a gap", x.Name, f.Name, f.Offset, at)
			}
			at += f.Size
		}
		if at != len(x.Evidence) {
			t.Errorf("%s: the fields end at %d of %d", x.Name, at, len(x.Evidence))
		}
	}
}

func TestConverge(t *testing.T) {
	for _, c := range [][3]string{
		{UpToDate, UpToDate, UpToDate}, {UpToDate, OutOfDate, OutOfDate}, {SWHardeningNeeded, OutOfDate, OutOfDate},
		{ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded}, {ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded},
		{OutOfDate, UpToDate, OutOfDate}, {OutOfDate, OutOfDate, OutOfDate}, {OutOfDateConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded},
		{UpToDate, Revoked, Revoked}, {Revoked, OutOfDate, Revoked}, {Revoked, UpToDate, Revoked}, {NotSupported, UpToDate, NotSupported},
		{UpToDate, NotSupported, NotSupported}, {UpToDate, "Splendid", "Splendid"}, {"Splendid", UpToDate, "Splendid"}, {"Splendid", OutOfDate, "Splendid"},
		{OutOfDate, ConfigurationNeeded, "OutOfDate with a part ConfigurationNeeded"}, {OutOfDateConfigurationNeeded, SWHardeningNeeded, "OutOfDateConfigurationNeeded with a part SWHardeningNeeded"},
	} {
		if got := converge(c[0], c[1]); got != c[2] {
			t.Errorf("%s with %s: found %s, wanted %s", c[0], c[1], got, c[2])
		}
	}
	for _, c := range [][3]string{
		{OutOfDate, UpToDate, TDRelaunchAdvised}, {OutOfDate, SWHardeningNeeded, TDRelaunchAdvised},
		{OutOfDate, ConfigurationNeeded, TDRelaunchAdvisedConfigurationNeeded}, {OutOfDateConfigurationNeeded, UpToDate, TDRelaunchAdvisedConfigurationNeeded},
		{OutOfDate, OutOfDate, OutOfDate}, {OutOfDate, Revoked, Revoked}, {UpToDate, UpToDate, UpToDate},
		{UpToDate, Revoked, Revoked}, {UpToDate, OutOfDate, OutOfDate}, {ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded}, {UpToDate, SWHardeningNeeded, SWHardeningNeeded}, {ConfigurationNeeded, UpToDate, ConfigurationNeeded},
		{UpToDate, NotSupported, NotSupported},
	} {
		if got := relaunch(c[0], c[1]); got != c[2] {
			t.Errorf("launched %s, now %s: found %s, wanted %s", c[0], c[1], got, c[2])
		}
	}
}
