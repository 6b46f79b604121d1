package nitro

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	_ "embed" // the root
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// RootFingerprint is the SHA-256 of AWS_NitroEnclaves_Root-G1, as AWS publishes it.
const RootFingerprint = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

//go:embed roots/aws-nitro-enclaves-root-g1.der
var root string

// Root is AWS_NitroEnclaves_Root-G1 in DER.
func Root() []byte { return []byte(root) }

const (
	guide    = `AWS Nitro Enclaves User Guide, "Verifying the root of trust"`
	rootName = "AWS Nitro Enclaves Root-G1"
)

// Verifier verifies attestation documents. Its zero value is ready; it may be used by several
// goroutines at once. It remembers, bounded, which signatures of certificates and
// revocation lists hold, and nothing about validity or revocation.
type Verifier struct {
	links pki.Cache
}

// Verify parses the document and checks chain, revocation as far as lists are at
// hand, and signature.
func (v *Verifier) Verify(doc []byte, o *format.Options) format.Result {
	var r format.Result
	if o == nil {
		o = &format.Options{}
	}
	d, err := Parse(doc)
	if err != nil {
		r.Add(verdict.Fail(verdict.Form, err.Error(), "an attestation document of AWS Nitro Enclaves").From(guide))
		return r
	}
	chain, err := d.chain()
	if err != nil {
		r.Add(verdict.Fail(verdict.Form, err.Error(), "certificates in DER").From(guide))
		return r
	}
	r.Add(verdict.Pass(verdict.Form, "an AWS Nitro Enclaves attestation document").From(guide))
	r.Claims = d.claims()
	r.Add(v.root(chain[len(chain)-1], r.Claims, o))
	r.Add(v.chain(chain), validity(chain, o.At))
	r.Add(v.revocation(chain, o)...)
	key, check := signer(chain[0])
	r.Add(check)
	if key != nil {
		r.Add(signature(d, key))
	}
	return r
}

// chain is the signing certificate, the bundle backwards, and so the root last.
func (d *Document) chain() ([]*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(d.Certificate)
	if err != nil {
		return nil, fmt.Errorf("nitro: certificate: %w", err)
	}
	chain := []*x509.Certificate{leaf}
	for i := len(d.CABundle) - 1; i >= 0; i-- {
		c, err := x509.ParseCertificate(d.CABundle[i])
		if err != nil {
			return nil, fmt.Errorf("nitro: cabundle: certificate %d: %w", i, err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

func (d *Document) claims() *claims.Claims {
	c := &claims.Claims{TEE: claims.Nitro, Nitro: &claims.NitroClaims{
		ModuleID: d.ModuleID, Timestamp: d.Timestamp, Digest: d.Digest, PCRs: d.PCRs,
		PublicKey: d.PublicKey, UserData: d.UserData, Nonce: d.Nonce, Debug: d.Debug(),
	}}
	// Never nil, so that a document without a nonce has the empty one.
	c.Nonce = append(claims.Hex{}, d.Nonce...)
	return c
}

func (v *Verifier) root(c *x509.Certificate, into *claims.Claims, o *format.Options) verdict.Check {
	h := pki.Fingerprint(c)
	found := hex.EncodeToString(h[:])
	into.Root = claims.Root{Name: rootName, SHA256: h[:]}
	switch {
	case found == RootFingerprint:
		return verdict.Pass(verdict.TrustedRoot, rootName+", "+found).From(guide)
	case o.Named(h):
		into.Root.Name, into.Root.Simulated = c.Subject.String(), true
		return verdict.Pass(verdict.TrustedRoot, "a simulated root that the caller names, "+found)
	}
	into.Root.Name, into.Root.Simulated = c.Subject.String(), true
	return verdict.Fail(verdict.TrustedRoot, "a root with the SHA-256 "+found, rootName+", "+RootFingerprint).From(guide).
		Advise("a document of another AWS partition, of a simulator, or a forgery")
}

func (v *Verifier) chain(chain []*x509.Certificate) verdict.Check {
	if err := pki.VerifyChain(chain, &v.links); err != nil {
		return verdict.Fail(verdict.Chain, err.Error(), "each certificate signed by the one before it in the bundle").From(guide)
	}
	return verdict.Pass(verdict.Chain, fmt.Sprintf("%d certificates, %s to %s", len(chain), chain[0].Subject, chain[len(chain)-1].Subject)).From(guide)
}

func validity(chain []*x509.Certificate, at time.Time) verdict.Check {
	until, err := pki.Validity(chain, at)
	if err != nil {
		return verdict.Skip(verdict.CertificateValidity, err.Error(),
			"signing certificates live three hours: judge a document when it comes, or a stored one at its own timestamp").
			Want("valid at " + at.UTC().Format(time.RFC3339)).From(guide)
	}
	return verdict.Pass(verdict.CertificateValidity, "until "+until.UTC().Format(time.RFC3339)).From(guide)
}

// revocation uses lists that the caller has. AWS tells verifiers to switch revocation
// off ("Verifying the root of trust", certificate chain validity), though its
// regional and zonal certificates name distribution points: without a list this
// check is shown as not made and demanded by nobody. A certificate on a list that
// its issuer signed is refused all the same.
func (v *Verifier) revocation(chain []*x509.Certificate, o *format.Options) []verdict.Check {
	var lists []*x509.RevocationList
	if o.Collateral != nil {
		lists = o.Collateral.Lists
	}
	var out []verdict.Check
	for i := len(chain) - 1; i > 0; i-- {
		code := verdict.IntermediateCRL
		if i == len(chain)-1 {
			code = verdict.RootCRL
		}
		subject := chain[i-1]
		got := pki.Revoked([]*x509.Certificate{subject}, chain[i], lists, o.At, o.MaxAge, &v.links)
		switch {
		case got.Revoked != nil:
			out = append(out, verdict.Fail(code, subject.Subject.String()+" is revoked", "no certificate of the chain on its issuer's list").From("RFC 5280, section 6.3"))
		case got.Current:
			out = append(out, verdict.Pass(code, "the list of "+chain[i].Subject.String()+" does not name "+subject.Subject.String()).From("RFC 5280, section 6.3"))
		default:
			k := verdict.Skip(code, got.Why, "AWS tells verifiers to do without revocation lists; the signing certificate lives three hours").From(guide + ", certificate chain validity")
			k.Informal = true
			out = append(out, k)
		}
	}
	return out
}

// signer is the key of the signing certificate, if that is fit to sign documents.
func signer(c *x509.Certificate) (*ecdsa.PublicKey, verdict.Check) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P384():
		return nil, verdict.Fail(verdict.EndorsementKey, c.PublicKeyAlgorithm.String()+" on another curve or none", "ECDSA on P-384").From(guide)
	case c.IsCA:
		return nil, verdict.Fail(verdict.EndorsementKey, "a certificate authority's certificate", "an end entity's").From(guide)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, verdict.Fail(verdict.EndorsementKey, "a certificate whose key may not sign", "key usage digital signature").From(guide)
	}
	return key, verdict.Pass(verdict.EndorsementKey, c.Subject.String()).From(guide)
}

func signature(d *Document, key *ecdsa.PublicKey) verdict.Check {
	const source = "RFC 9052, section 4.4; RFC 9053, section 2.1"
	if err := d.verify(key); err != nil {
		return verdict.Fail(verdict.Signature, err.Error(), "ES384 over the document under the signing certificate's key").From(source)
	}
	return verdict.Pass(verdict.Signature, "ES384").From(source)
}

func (d *Document) verify(key *ecdsa.PublicKey) error {
	h := sha512.Sum384(d.signed)
	r, s := new(big.Int).SetBytes(d.Signature[:48]), new(big.Int).SetBytes(d.Signature[48:])
	if !ecdsa.Verify(key, h[:], r, s) {
		return errors.New("nitro: the signature does not hold")
	}
	return nil
}
