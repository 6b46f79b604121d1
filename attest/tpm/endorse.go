package tpm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Bounds on certificates that come along, in entries and bytes.
const (
	maxCertificates = pki.MaxChain
	maxCertificate  = 8 << 10
)

const akProfile = "TCG, TPM 2.0 Keys for Device Identity and Attestation, AK certificates"

// aikUsage is tcg-kp-AIKCertificate: what a certificate of an attestation key says
// that it is for. One of an endorsement key says otherwise, and one for a web server too.
var aikUsage = asn1.ObjectIdentifier{2, 23, 133, 8, 3}

// endorsement says whether a certificate vouches for the attestation key: one that came
// along or is at hand, chained to a root that the caller names. No manufacturer's root
// is built in. Without a chain the check is not made: the policy may name the key
// itself. A chain that is there and does not hold is a failure.
func (v *Verifier) endorsement(e Evidence, key crypto.PublicKey, into *claims.Claims, o *format.Options) []verdict.Check {
	own, err := e.certificates()
	if err != nil {
		return []verdict.Check{verdict.Fail(verdict.AKEndorsed, err.Error(), "certificates in DER").From(akProfile)}
	}
	ak := hex.EncodeToString(into.TPM.AKSHA256)
	if len(own) > 0 && !certifies(own[0], key) {
		return []verdict.Check{verdict.Fail(verdict.AKEndorsed, "a certificate of another key, "+own[0].Subject.String(), "a certificate of the key that signed, "+ak).From(akProfile)}
	}
	pool := own
	if o.Collateral != nil {
		pool = append(pool[:len(pool):len(pool)], o.Collateral.Certificates...)
	}
	var leaf *x509.Certificate
	for _, c := range pool {
		if certifies(c, key) {
			leaf = c
			break
		}
	}
	if leaf == nil {
		return []verdict.Check{verdict.Skip(verdict.AKEndorsed, "nothing vouches for the key "+ak,
			"give the key's certificate and its issuers, or name the key in the policy (attestation_keys) if you know whose it is").From(akProfile)}
	}
	chain := path(leaf, pool, o)
	top := chain[len(chain)-1]
	h := pki.Fingerprint(top)
	if !o.Named(h) {
		return []verdict.Check{verdict.Skip(verdict.AKEndorsed, fmt.Sprintf("the chain ends at %s, SHA-256 %x, which is no root that the caller names", top.Subject, h),
			"no TPM manufacturer's root is built in; name this one if you trust it").From(akProfile)}
	}
	into.Root = claims.Root{Name: top.Subject.String(), SHA256: h[:], Simulated: true}
	if err := v.usable(leaf, chain); err != nil {
		return []verdict.Check{verdict.Pass(verdict.TrustedRoot, "a simulated root that the caller names, "+hex.EncodeToString(h[:])),
			verdict.Fail(verdict.AKEndorsed, err.Error(), "a certificate of an attestation key under its issuers").From(akProfile)}
	}
	into.TPM.Endorsed = "certificate"
	out := []verdict.Check{
		verdict.Pass(verdict.TrustedRoot, "a simulated root that the caller names, "+hex.EncodeToString(h[:])),
		verdict.Pass(verdict.AKEndorsed, leaf.Issuer.String()+" for the key "+ak).From(akProfile),
		validity(chain, o.At),
	}
	return append(out, v.revocation(chain, o)...)
}

// certifies says that c is a certificate of the key.
func certifies(c *x509.Certificate, key crypto.PublicKey) bool {
	k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(key)
}

// path follows issuers by name from the leaf, to one that the caller names or as far as
// they go; at most pki.MaxChain certificates. It trusts nothing: usable checks the signatures. Where two certificates have the
// issuer's name, one of the first few whose signature holds is taken.
func path(leaf *x509.Certificate, pool []*x509.Certificate, o *format.Options) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for len(chain) < pki.MaxChain {
		c := chain[len(chain)-1]
		if bytes.Equal(c.RawIssuer, c.RawSubject) || c != leaf && o.Named(pki.Fingerprint(c)) {
			break
		}
		var next *x509.Certificate
		tried := 0
		for _, p := range pool {
			if tried == maxCertificates || !bytes.Equal(p.RawSubject, c.RawIssuer) {
				continue
			}
			tried++
			if holds := pki.CheckKey(p.PublicKey) == nil && c.CheckSignatureFrom(p) == nil; next == nil || holds {
				next = p
				if holds {
					break
				}
			}
		}
		if next == nil {
			break
		}
		chain = append(chain, next)
	}
	return chain
}

// usable says why the chain does not make the leaf an attestation key's certificate.
func (v *Verifier) usable(leaf *x509.Certificate, chain []*x509.Certificate) error {
	if err := pki.VerifyChain(chain, &v.links); err != nil {
		return err
	}
	switch {
	case leaf.IsCA:
		return fmt.Errorf("tpm: %s is a certificate authority", leaf.Subject)
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("tpm: the key of %s may not sign", leaf.Subject)
	}
	for _, u := range leaf.UnknownExtKeyUsage {
		if u.Equal(aikUsage) {
			return nil
		}
	}
	return fmt.Errorf("tpm: the certificate of %s is not for an attestation key (extended key usage %s)", leaf.Subject, aikUsage)
}

func validity(chain []*x509.Certificate, at time.Time) verdict.Check {
	until, err := pki.Validity(chain, at)
	if err != nil {
		return verdict.Skip(verdict.CertificateValidity, err.Error(), "judge it at a time when its certificates were valid, or have the key certified anew").
			Want("valid at " + at.UTC().Format(time.RFC3339)).From("RFC 5280, section 6.1.3")
	}
	return verdict.Pass(verdict.CertificateValidity, "until "+until.UTC().Format(time.RFC3339)).From("RFC 5280, section 6.1.3")
}

// revocation looks every certificate up in its issuer's list. A certificate without a
// distribution point has none that could be had: then nobody demands it.
func (v *Verifier) revocation(chain []*x509.Certificate, o *format.Options) []verdict.Check {
	var lists []*x509.RevocationList
	if o.Collateral != nil {
		lists = o.Collateral.Lists
	}
	var out []verdict.Check
	for i, c := range chain[:len(chain)-1] {
		code := verdict.IntermediateCRL
		if i == len(chain)-2 {
			code = verdict.RootCRL
		}
		const source = "RFC 5280, section 6.3"
		got := pki.Revoked([]*x509.Certificate{c}, chain[i+1], lists, o.At, o.MaxAge, &v.links)
		switch {
		case got.Revoked != nil:
			out = append(out, verdict.Fail(code, c.Subject.String()+" is revoked", "no certificate of the chain on its issuer's list").From(source))
		case got.Current:
			out = append(out, verdict.Pass(code, "the list of "+chain[i+1].Subject.String()+" does not name it").From(source))
		default:
			k := verdict.Skip(code, got.Why, "give the issuer's list").From(source)
			k.Informal = len(c.CRLDistributionPoints) == 0
			out = append(out, k)
		}
	}
	return out
}
