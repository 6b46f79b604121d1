// Package pki checks vendor certificate chains: short, of a form known beforehand,
// ending at a root that is pinned. It takes certificates, revocation lists and the
// time from its caller and fetches nothing.
//
// crypto/x509 parses and verifies single signatures; what a chain must look like,
// and that a check which could not be made is told apart from one that failed, is
// here. Formats (snp, dcap, nitro, tpm) use it; what they make of it is a verdict.
package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// MaxChain bounds a chain, root included.
const MaxChain = 8

// MaxRSABits bounds an issuer's RSA key: a certificate that came along with the
// evidence must not choose how long its own signature takes to check.
const MaxRSABits = 8192

// CheckKey says whether a signature by the key may be checked: an RSA key has at most
// MaxRSABits.
func CheckKey(key any) error {
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() > MaxRSABits {
		return fmt.Errorf("an RSA key of %d bits, wanted at most %d", k.N.BitLen(), MaxRSABits)
	}
	return nil
}

// Hash is the SHA-256 of a certificate's or list's DER.
type Hash [32]byte

// Fingerprint is the SHA-256 of the certificate's DER.
func Fingerprint(c *x509.Certificate) Hash { return sha256.Sum256(c.Raw) }

// A LinkError says which certificate of a chain does not follow from its issuer.
type LinkError struct {
	Subject, Issuer string
	Err             error
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is not what %s issued: %v", e.Subject, e.Issuer, e.Err)
}
func (e *LinkError) Unwrap() error { return e.Err }

// VerifyChain says whether each certificate of chain is issued by the next. chain
// runs from the leaf to the root; the last one is a trust anchor that the caller
// has pinned, and must sign itself if it is self-issued. Validity and revocation are
// looked at elsewhere (Validity, CRLs). cache may be nil.
func VerifyChain(chain []*x509.Certificate, cache *Cache) error {
	if len(chain) == 0 || len(chain) > MaxChain {
		return fmt.Errorf("pki: a chain of %d certificates, wanted 1 to %d", len(chain), MaxChain)
	}
	for i, c := range chain {
		if len(c.UnhandledCriticalExtensions) > 0 {
			return fmt.Errorf("pki: %s has an unknown critical extension, %s", c.Subject, c.UnhandledCriticalExtensions[0])
		}
		issuer := c
		if i+1 < len(chain) {
			issuer = chain[i+1]
		} else if !bytes.Equal(c.RawSubject, c.RawIssuer) {
			break // an intermediate that the caller pins itself
		}
		if err := link(c, issuer, i, cache); err != nil {
			return &LinkError{Subject: c.Subject.String(), Issuer: issuer.Subject.String(), Err: err}
		}
	}
	return nil
}

// link checks one signature. below is how many certificates stand under c, for the
// path length constraint of its issuer.
func link(c, issuer *x509.Certificate, below int, cache *Cache) error {
	switch {
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("it names another issuer, %s", c.Issuer)
	case !issuer.IsCA || !issuer.BasicConstraintsValid:
		return errors.New("the issuer is no certificate authority")
	case issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the issuer's key may not sign certificates")
	case c != issuer && issuer.MaxPathLen >= 0 && (issuer.MaxPathLen > 0 || issuer.MaxPathLenZero) && below > issuer.MaxPathLen:
		return fmt.Errorf("the issuer allows %d certificates between, found %d", issuer.MaxPathLen, below)
	}
	if err := CheckKey(issuer.PublicKey); err != nil {
		return fmt.Errorf("the issuer has %w", err)
	}
	key := linkKey(c, issuer)
	if cache.Has(key) {
		return nil
	}
	if err := c.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	cache.Add(key)
	return nil
}

func linkKey(c, issuer *x509.Certificate) Hash {
	h := sha256.New()
	a, b := Fingerprint(c), Fingerprint(issuer)
	h.Write([]byte("donjon pki link\x00"))
	h.Write(a[:])
	h.Write(b[:])
	return Hash(h.Sum(nil))
}

// Validity says whether every certificate is valid at the time, and until when all
// of them are.
func Validity(chain []*x509.Certificate, at time.Time) (until time.Time, err error) {
	for _, c := range chain {
		if until.IsZero() || c.NotAfter.Before(until) {
			until = c.NotAfter
		}
		switch {
		case err != nil:
		case at.Before(c.NotBefore):
			err = fmt.Errorf("%s is valid from %s only", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
		case at.After(c.NotAfter):
			err = fmt.Errorf("%s was valid until %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return until, err
}
