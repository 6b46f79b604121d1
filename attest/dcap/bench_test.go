package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// benchCase is the published TDX quote with its collateral.
func benchCase(b *testing.B, n int) ([]byte, *format.Options) {
	b.Helper()
	c := real[n]
	return evidence(b, c.quote), &format.Options{At: noon(c.at), Collateral: c.set(b)}
}

func mustVerify(b *testing.B, v *Verifier, raw []byte, o *format.Options) {
	r := v.Verify(raw, o)
	if verdict.Conclude(r.Checks) != verdict.Admitted {
		b.Fatalf("found %v", r.Checks)
	}
}

const (
	benchSGX = 0
	benchTDX = 2
)

// Everything checked, nothing remembered: chain, revocation, documents, quote.
func benchmarkFull(b *testing.B, n int) {
	raw, o := benchCase(b, n)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			mustVerify(b, &Verifier{}, raw, o)
		}
	})
}

func BenchmarkTDXFull(b *testing.B) { benchmarkFull(b, benchTDX) }
func BenchmarkSGXFull(b *testing.B) { benchmarkFull(b, benchSGX) }

// The same quote with the same collateral in go-tdx-guest, from memory.
func BenchmarkTDXFullGoTDXGuest(b *testing.B) {
	raw, o := benchCase(b, benchTDX)
	s := serve(b, raw, o.Collateral)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := oracleSays(raw, s, o.At); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// PCK chain and collateral are remembered, the QE report is new each time: what a
// machine's first quote after its QE made a new key costs.
func benchmarkCached(b *testing.B, n int) {
	raw, o := benchCase(b, n)
	q, err := ParseQuote(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		v := &Verifier{}
		mustVerify(b, v, raw, o)
		c, _ := v.chain(q.CertData)
		kept, key := v.signatures.Len(), qeKey(q, c.hash)
		for p.Next() {
			// The QE report's signature alone is forgotten.
			v.signatures.Drop(key)
			mustVerify(b, v, raw, o)
		}
		if v.signatures.Len() != kept {
			b.Fatalf("found %d signatures remembered, wanted %d", v.signatures.Len(), kept)
		}
	})
}

func BenchmarkTDXCached(b *testing.B) { benchmarkCached(b, benchTDX) }
func BenchmarkSGXCached(b *testing.B) { benchmarkCached(b, benchSGX) }

// The machine's next quote: its QE report is known too.
func BenchmarkTDXKnownMachine(b *testing.B) {
	raw, o := benchCase(b, benchTDX)
	v := &Verifier{}
	mustVerify(b, v, raw, o)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			mustVerify(b, v, raw, o)
		}
	})
}

// Two bare P-256 verifications, hashing included: the floor for the cached ones.
func BenchmarkTwoP256(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	h := sha256.Sum256([]byte("two"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, h[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			for range 2 {
				if !ecdsa.VerifyASN1(&key.PublicKey, h[:], sig) {
					b.Fatal("does not verify")
				}
			}
		}
	})
}

func TestForgetQE(t *testing.T) {
	x := forms(t)[3]
	v := &Verifier{}
	v.Verify(x.Evidence, options(&x))
	n := v.signatures.Len()
	q, err := ParseQuote(x.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := v.chain(q.CertData)
	if v.signatures.Drop(qeKey(q, c.hash)); v.signatures.Len() != n-1 {
		t.Errorf("found %d signatures remembered, wanted %d: the benchmarks forget the wrong thing", v.signatures.Len(), n-1)
	}
}
