package collateral

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"

	"github.com/donjon-tee/donjon/attest/pki"
)

// tcbSigner is the common name of the certificate under which Intel signs TCB infos
// and QE identities (Intel SGX PCK Certificate and CRL Specification, "Intel SGX TCB
// Signing Certificate").
const tcbSigner = "Intel SGX TCB Signing"

// Verified gives the part of s whose signatures hold up to one of roots, which the
// caller has pinned: certificates issued below them, full revocation lists of roots
// or such certificates, and documents signed by Intel's TCB signing key. What is
// expired, and what a list revokes, is in it too: Verified says who wrote something,
// not whether it still counts. cache may be nil.
//
// It is for remembering (HighWater) and for caching; a verifier checks the chains
// that it uses itself.
func Verified(s *Set, roots []*x509.Certificate, cache *pki.Cache) *Set {
	out := &Set{}
	if s == nil {
		return out
	}
	good := append([]*x509.Certificate{}, roots...)
	for range pki.MaxChain {
		before := len(good)
		for _, c := range s.Certificates {
			if containsRaw(good, func(x *x509.Certificate) []byte { return x.Raw }, c.Raw) {
				continue
			}
			for _, issuer := range good {
				if bytes.Equal(c.RawIssuer, issuer.RawSubject) && !bytes.Equal(c.RawSubject, c.RawIssuer) &&
					pki.VerifyChain([]*x509.Certificate{c, issuer}, cache) == nil {
					good = append(good, c)
					break
				}
			}
		}
		if len(good) == before {
			break
		}
	}
	for _, c := range s.Certificates { // in the order of s, and no root that s lacks
		if containsRaw(good, func(x *x509.Certificate) []byte { return x.Raw }, c.Raw) {
			out.Certificates = append(out.Certificates, c)
		}
	}
	for _, l := range s.Lists {
		for _, issuer := range good {
			if bytes.Equal(l.RawIssuer, issuer.RawSubject) && pki.CheckList(l, issuer, cache) == nil {
				out.Lists = append(out.Lists, l)
				break
			}
		}
	}
	for _, d := range s.TCBInfos {
		if signed(d, good) {
			out.TCBInfos = append(out.TCBInfos, d)
		}
	}
	for _, d := range s.QEIdentities {
		if signed(d, good) {
			out.QEIdentities = append(out.QEIdentities, d)
		}
	}
	return out
}

// signed says whether one of certs that is Intel's TCB signing certificate signed d:
// ECDSA on P-256 over the SHA-256 of the body.
func signed(d Document, certs []*x509.Certificate) bool {
	if len(d.Signature) != 64 {
		return false
	}
	sum := sha256.Sum256(d.Body)
	r, s := new(big.Int).SetBytes(d.Signature[:32]), new(big.Int).SetBytes(d.Signature[32:])
	for _, c := range certs {
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok && c.Subject.CommonName == tcbSigner && !c.IsCA && ecdsa.Verify(key, sum[:], r, s) {
			return true
		}
	}
	return false
}
