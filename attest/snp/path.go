package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// path is the way from an endorsement key to a root, as far as it goes.
type path struct {
	chain   []*x509.Certificate // leaf, intermediate, root; as many as are known
	product *Product            // of the pinned root; nil: none
	pinned  bool                // the intermediate is built in too
	named   bool                // a simulated root that the caller names
	err     error               // the chain does not hold
}

func (p *path) ok() bool { return p.err == nil && (p.product != nil || p.named) }

func (p *path) root() claims.Root {
	if p.err != nil || len(p.chain) < 3 {
		return claims.Root{}
	}
	c := p.chain[2]
	h := pki.Fingerprint(c)
	return claims.Root{Name: c.Subject.CommonName, SHA256: h[:], Simulated: p.product == nil}
}

// maxTries bounds how many intermediates and roots of the collateral are tried for one
// report, whatever came along with it: a key of pki.MaxRSABits takes some milliseconds.
const maxTries = 48

// find looks for the leaf's chain: by the pinned intermediate, which needs one
// signature; else through intermediates of the collateral, to a pinned root or to a
// self-signed one of the collateral. One that ends at a pinned or a named root is
// preferred.
func (v *Verifier) find(leaf *x509.Certificate, vlek bool, products []Product, o *format.Options, tries *int) path {
	if leaf.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return path{chain: []*x509.Certificate{leaf}, err: fmt.Errorf("snp: the certificate is signed with %s, wanted RSA-PSS with SHA-384", leaf.SignatureAlgorithm)}
	}
	worst := path{chain: []*x509.Certificate{leaf}, err: fmt.Errorf("snp: its issuer, %s, is neither built in nor at hand", leaf.Issuer)}
	for i := range products {
		p := &products[i]
		mid := p.intermediate(vlek)
		if !bytes.Equal(leaf.RawIssuer, mid.RawSubject) {
			continue
		}
		err := pki.VerifyChain([]*x509.Certificate{leaf, mid}, &v.links)
		if err == nil {
			return path{chain: []*x509.Certificate{leaf, mid, p.ARK}, product: p, pinned: true}
		}
		worst.err = err
	}
	if o.Collateral == nil {
		return worst
	}
	certs := o.Collateral.Certificates
	certs = certs[:min(len(certs), collateral.MaxCertificates)]
	var unnamed *path
	for _, mid := range certs {
		if !mid.IsCA || !bytes.Equal(mid.RawSubject, leaf.RawIssuer) || bytes.Equal(mid.RawSubject, mid.RawIssuer) {
			continue
		}
		if *tries++; *tries > maxTries {
			worst.err = fmt.Errorf("snp: more than %d certificates to try", maxTries)
			return worst
		}
		// One that did not sign the leaf is not tried under every root.
		if err := pki.VerifyChain([]*x509.Certificate{leaf, mid}, &v.links); err != nil {
			worst.err = err
			continue
		}
		roots := rootsFor(mid, products, certs)
		if len(roots) == 0 {
			worst.err = fmt.Errorf("snp: the issuer of %s, %s, is neither built in nor at hand", mid.Subject, mid.Issuer)
		}
		for _, root := range roots {
			if *tries++; *tries > maxTries {
				worst.err = fmt.Errorf("snp: more than %d certificates to try", maxTries)
				return worst
			}
			got, err := v.through(leaf, mid, root, vlek, products, o)
			switch {
			case err != nil:
				worst.err = err
			case got.ok():
				return got
			case unnamed == nil:
				unnamed = &got
			}
		}
	}
	if unnamed != nil {
		return *unnamed
	}
	return worst
}

// rootsFor gives the self-issued certificates that mid names as its issuer.
func rootsFor(mid *x509.Certificate, products []Product, certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for i := range products {
		if ark := products[i].ARK; bytes.Equal(mid.RawIssuer, ark.RawSubject) {
			out = append(out, ark)
		}
	}
	for _, c := range certs {
		if c.IsCA && bytes.Equal(c.RawSubject, c.RawIssuer) && bytes.Equal(mid.RawIssuer, c.RawSubject) {
			out = append(out, c)
		}
	}
	return out
}

// through verifies one chain whole, the root's own signature included.
func (v *Verifier) through(leaf, mid, root *x509.Certificate, vlek bool, products []Product, o *format.Options) (path, error) {
	chain := []*x509.Certificate{leaf, mid, root}
	h := pki.Fingerprint(root)
	p := path{chain: chain, product: anchor(products, h)}
	p.named = p.product == nil && o.Named(h)
	if err := pki.VerifyChain(chain, &v.links); err != nil {
		return p, err
	}
	if p.product != nil && !bytes.Equal(mid.RawSubject, p.product.intermediate(vlek).RawSubject) {
		return p, fmt.Errorf("snp: %s does not sign this kind of endorsement key", mid.Subject)
	}
	return p, nil
}

// Chain judges a chain without a report, as donjon inspect shows it: certificates of
// one endorsement key or of an intermediate alone, in any order, the root included or
// one of AMD's that is built in. What it says of the leaf is what stands in it.
func (v *Verifier) Chain(certs []*x509.Certificate, o *format.Options) format.Result {
	var res format.Result
	if o == nil {
		o = &format.Options{}
	}
	products, err := v.roots()
	if err == nil && (len(certs) == 0 || len(certs) > pki.MaxChain) {
		err = fmt.Errorf("snp: a chain of %d certificates, wanted 1 to %d", len(certs), pki.MaxChain)
	}
	var ordered []*x509.Certificate
	if err == nil {
		ordered, err = order(certs, products)
	}
	if err != nil {
		res.Add(verdict.Fail(verdict.Form, err.Error(), "a chain of endorsement key, intermediate and root").From(sourceKDS))
		return res
	}
	res.Add(verdict.Pass(verdict.Form, fmt.Sprintf("a chain of %d certificates", len(ordered))).From(sourceKDS))
	root := ordered[len(ordered)-1]
	p := path{chain: ordered, err: pki.VerifyChain(ordered, &v.links), product: anchor(products, pki.Fingerprint(root))}
	p.named = p.product == nil && bytes.Equal(root.RawSubject, root.RawIssuer) && o.Named(pki.Fingerprint(root))
	if len(ordered) > 1 && p.product != nil {
		h := pki.Fingerprint(ordered[len(ordered)-2])
		p.pinned = h == pki.Fingerprint(p.product.ASK) || h == pki.Fingerprint(p.product.ASVK)
	}
	res.Add(v.pathChecks(p, VCEK, o)...)
	return res
}

// order sorts certificates from the leaf to the root by their names, and adds a
// pinned intermediate or root where it is lacking.
func order(certs []*x509.Certificate, products []Product) ([]*x509.Certificate, error) {
	issues := func(a, b *x509.Certificate) bool { // a issued b, by name
		return a != b && bytes.Equal(a.RawSubject, b.RawIssuer)
	}
	var leaf *x509.Certificate
	for _, c := range certs {
		ends := true
		for _, d := range certs {
			ends = ends && !issues(c, d)
		}
		if ends && leaf != nil {
			return nil, errors.New("snp: the certificates are no single chain")
		}
		if ends {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, errors.New("snp: the certificates are no chain: they go round in a circle")
	}
	out := []*x509.Certificate{leaf}
	for at := leaf; !bytes.Equal(at.RawSubject, at.RawIssuer); {
		var next *x509.Certificate
		for _, c := range certs {
			if issues(c, at) {
				next = c
			}
		}
		for i := range products {
			for _, c := range []*x509.Certificate{products[i].ASK, products[i].ASVK, products[i].ARK} {
				if next == nil && issues(c, at) {
					next = c
				}
			}
		}
		if next == nil || len(out) == pki.MaxChain {
			break
		}
		out, at = append(out, next), next
	}
	for _, c := range certs {
		used := false
		for _, d := range out {
			used = used || c == d
		}
		if !used {
			return nil, fmt.Errorf("snp: %s is not part of the chain of %s", c.Subject, leaf.Subject)
		}
	}
	return out, nil
}

// pathChecks are the checks trusted-root, chain, certificate-validity, root-crl and
// intermediate-crl.
func (v *Verifier) pathChecks(p path, k SigningKey, o *format.Options) []verdict.Check {
	root := p.chain[len(p.chain)-1]
	h := pki.Fingerprint(root)
	var out []verdict.Check
	switch {
	case p.product != nil:
		out = append(out, verdict.Pass(verdict.TrustedRoot, root.Subject.CommonName+", built in").From("attest/snp/roots"))
	case p.named:
		out = append(out, verdict.Pass(verdict.TrustedRoot, fmt.Sprintf("a simulated root that was named, %x", h)).From("policy: simulated_roots"))
	case p.err == nil:
		out = append(out, verdict.Fail(verdict.TrustedRoot, fmt.Sprintf("%s, SHA-256 %x", root.Subject, h), "one of AMD's roots, or a simulated one that is named").
			From("attest/snp/roots; policy: simulated_roots").Advise("no hardware vouches for this; name the root only if you know whose it is"))
	default:
		out = append(out, verdict.Skip(verdict.TrustedRoot, "the chain does not hold as far as a root", "").From("attest/snp/roots"))
	}
	if p.err != nil {
		return append(out, verdict.Fail(verdict.Chain, p.err.Error(), "endorsement key, ASK or ASVK, ARK, each signed by the next").From(sourceKDS))
	}
	found := "each certificate is signed by the next"
	if p.pinned {
		found = "the intermediate and the root are built in"
	}
	out = append(out, verdict.Pass(verdict.Chain, found).From(sourceKDS))
	out = append(out, validity(p.chain, o))
	if len(p.chain) == 1 {
		return out
	}
	rootCRL := v.rootCRL(p, k, o)
	if p.product != nil && !p.pinned && rootCRL.Status == verdict.NotMade {
		// Pinning is what makes up for a list that a policy does without; an
		// intermediate that AMD made later, or withdrew, has the list alone.
		out = append(out, verdict.Skip(verdict.Chain, "the intermediate is not the built-in one, and no current list shows that it is not revoked",
			"get the list from "+CRLURL(p.product.Name, k)).From(sourceCRL))
	}
	return append(out, rootCRL, v.intermediateCRL(p, o))
}

func validity(chain []*x509.Certificate, o *format.Options) verdict.Check {
	until, err := pki.Validity(chain, o.At)
	if err != nil {
		return verdict.Skip(verdict.CertificateValidity, err.Error(), "judge at a time when the certificates are valid (--at), or get a new endorsement key").
			Want("valid at " + day(o.At)).From("RFC 5280 4.1.2.5")
	}
	return verdict.Pass(verdict.CertificateValidity, "valid until "+day(until)).From("RFC 5280 4.1.2.5")
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// rootCRL looks the certificates that the root issued up in its list. AMD publishes
// one list a product; the root signs it, and it names intermediates.
func (v *Verifier) rootCRL(p path, k SigningKey, o *format.Options) verdict.Check {
	root := p.chain[len(p.chain)-1]
	issued := p.chain[len(p.chain)-2 : len(p.chain)-1]
	rev := v.revoked(issued, root, o)
	c := revocation(verdict.RootCRL, rev)
	if rev.Revoked != nil || c.Status != verdict.NotMade {
		return c
	}
	switch {
	case p.product != nil:
		c.Hint = "donjon collateral fetch gets it from " + CRLURL(p.product.Name, k)
	case rev.List == nil && len(root.CRLDistributionPoints) == 0 && root.KeyUsage&x509.KeyUsageCRLSign == 0:
		// Nothing can be demanded of a simulated root that may not even sign a list.
		c.Informal = true
		c.Found += "; this simulated root publishes none"
	default:
		c.Hint = "give the simulated root's revocation list with the collateral"
	}
	return c
}

// intermediateCRL looks the endorsement key up. AMD publishes no list for that level:
// every VCEK and VLEK has the serial number 0, and what is withdrawn is the TCB that
// it stands for. So the check is not demanded, and made where there is a list.
func (v *Verifier) intermediateCRL(p path, o *format.Options) verdict.Check {
	if len(p.chain) < 3 {
		return verdict.Check{Code: verdict.IntermediateCRL, Status: verdict.NotMade, Informal: true, Found: "there is no endorsement key in this chain", Source: sourceCRL}
	}
	rev := v.revoked(p.chain[:1], p.chain[1], o)
	c := revocation(verdict.IntermediateCRL, rev)
	if c.Status == verdict.NotMade && rev.List == nil {
		c.Informal = true
		c.Found = "AMD publishes no revocation list for endorsement keys: an old TCB is refused by floors instead"
		if p.product == nil {
			c.Found = rev.Why
		}
	}
	return c
}

func (v *Verifier) revoked(certs []*x509.Certificate, issuer *x509.Certificate, o *format.Options) pki.Revocation {
	var lists []*x509.RevocationList
	if o.Collateral != nil {
		lists = o.Collateral.Lists
	}
	return pki.Revoked(certs, issuer, lists, o.At, o.MaxAge, &v.lists)
}

func revocation(code verdict.Code, rev pki.Revocation) verdict.Check {
	switch {
	case rev.Revoked != nil:
		return verdict.Fail(code, fmt.Sprintf("%s, serial %s, is revoked", rev.Revoked.Subject, rev.Revoked.SerialNumber), "certificates that are not revoked").From(sourceCRL)
	case !rev.Current:
		return verdict.Skip(code, rev.Why, "").Want("a revocation list that is current").From(sourceCRL)
	}
	found := "not revoked by the list of " + day(rev.List.ThisUpdate)
	if rev.List.Number != nil {
		found += ", number " + hex.EncodeToString(rev.List.Number.Bytes())
	}
	return verdict.Pass(code, found).From(sourceCRL)
}
