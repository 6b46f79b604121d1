package snp_test

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	oracledata "github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// milan is go-sev-guest's own evidence, real and the same for both.
type milan struct {
	report, key []byte
	at          time.Time
	list        *x509.RevocationList // nil: no published evidence here
	roots       map[string][]*trust.AMDRootCerts
}

func newMilan(b *testing.B) *milan {
	products, err := snp.Products()
	if err != nil {
		b.Fatal(err)
	}
	m := &milan{report: oracledata.AttestationBytes, key: oracledata.VcekBytes, at: time.Date(2023, 2, 1, 12, 0, 0, 0, time.UTC),
		roots: oracleRoots(b, snp.Milan, products[0].ARK, products[0].ASK, products[0].ASVK)}
	if csr := published.Find(b, "steward/milan.csr.der"); csr != nil {
		if m.list, err = x509.ParseRevocationList(csr[2540 : 2540+866]); err != nil {
			b.Fatal(err)
		}
		m.roots[snp.Milan][0].CRL = m.list
	}
	return m
}

func (m *milan) set(c *x509.Certificate) *collateral.Set {
	set := &collateral.Set{Certificates: []*x509.Certificate{c}}
	if m.list != nil {
		set.Lists = []*x509.RevocationList{m.list}
	}
	return set
}

func (m *milan) good(b *testing.B, res format.Result) {
	for _, c := range res.Checks {
		if c.Status != verdict.Passed && c.Code != verdict.RootCRL && c.Code != verdict.IntermediateCRL {
			b.Fatalf("%+v", c)
		}
	}
}

// BenchmarkFull verifies with an endorsement key that was not seen before: parsed from
// DER, its chain checked, the list's signature known.
func BenchmarkFull(b *testing.B) {
	m := newMilan(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var v snp.Verifier
		for pb.Next() {
			c, err := x509.ParseCertificate(m.key)
			if err != nil {
				b.Error(err)
				return
			}
			v.ForgetKeys()
			m.good(b, v.Verify(m.report, &format.Options{At: m.at, Collateral: m.set(c)}))
		}
	})
}

// BenchmarkFullGoSEVGuest is the same evidence by go-sev-guest, roots and list given.
func BenchmarkFullGoSEVGuest(b *testing.B) {
	m := newMilan(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := abi.ReportToProto(m.report)
			if err != nil {
				b.Error(err)
				return
			}
			a := &sevsnp.Attestation{Report: r, CertificateChain: &sevsnp.CertificateChain{VcekCert: m.key, Extras: map[string][]byte{}}}
			o := &verify.Options{DisableCertFetching: true, CheckRevocations: m.list != nil, Now: m.at, TrustedRoots: m.roots}
			if err := verify.SnpAttestation(a, o); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkCached verifies with an endorsement key that was seen before.
func BenchmarkCached(b *testing.B) {
	m := newMilan(b)
	c, err := x509.ParseCertificate(m.key)
	if err != nil {
		b.Fatal(err)
	}
	var v snp.Verifier
	o := &format.Options{At: m.at, Collateral: m.set(c)}
	m.good(b, v.Verify(m.report, o))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.good(b, v.Verify(m.report, o))
		}
	})
}

// BenchmarkP384 is the report's signature alone, hash included: the least that any
// verifier needs.
func BenchmarkP384(b *testing.B) {
	m := newMilan(b)
	c, err := x509.ParseCertificate(m.key)
	if err != nil {
		b.Fatal(err)
	}
	key := c.PublicKey.(*ecdsa.PublicKey)
	number := func(p []byte) *big.Int {
		p = slices.Clone(p)
		slices.Reverse(p)
		return new(big.Int).SetBytes(p)
	}
	r, s := number(m.report[snp.SignedSize:][:72]), number(m.report[snp.SignedSize+72:][:72])
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h := sha512.Sum384(m.report[:snp.SignedSize])
			if !ecdsa.Verify(key, h[:], r, s) {
				b.Error("the signature does not hold")
				return
			}
		}
	})
}
