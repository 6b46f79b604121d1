package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Where the checks are from.
const (
	sourceReport = "AMD 56860, ATTESTATION_REPORT"
	sourceKDS    = "AMD 57230, VCEK and VLEK certificates"
	sourceCRL    = "AMD 57230, certificate revocation list; RFC 5280 5"
)

// Verifier verifies reports. Its zero value is ready; it may be used by several
// goroutines at once. It remembers, bounded, which signatures of certificates and
// revocation lists hold, and nothing about reports, validity or revocation.
type Verifier struct {
	links pki.Cache // between certificates
	lists pki.Cache // of revocation lists: many endorsement keys do not push them out

	once     sync.Once
	products []Product
	err      error
}

func (v *Verifier) roots() ([]Product, error) {
	v.once.Do(func() { v.products, v.err = Products() })
	return v.products, v.err
}

// Verify judges one report of ReportSize bytes. Endorsement keys, intermediates,
// simulated roots and revocation lists come from o.Collateral, which is as hostile as
// the report. Claims are given wherever the report parses, so that a policy can be
// asked although something is missing.
func (v *Verifier) Verify(raw []byte, o *format.Options) format.Result {
	var res format.Result
	if o == nil {
		o = &format.Options{}
	}
	r, err := ParseReport(raw)
	if err != nil {
		res.Add(verdict.Fail(verdict.Form, err.Error(), fmt.Sprintf("a report of version 2 to 5, %d bytes", ReportSize)).From(sourceReport))
		return res
	}
	products, err := v.roots()
	if err != nil {
		res.Add(verdict.Fail(verdict.Form, err.Error(), "AMD's certificates"))
		return res
	}
	if r.SigningKey() == None {
		res.Claims = makeClaims(r, nil)
		res.Add(formCheck(r, res.Claims.SNP.Product),
			verdict.Fail(verdict.Signature, "an unsigned report (signing key: none)", "a report that a VCEK or VLEK signed").From(sourceReport+", SIGNING_KEY").
				Advise("the host set MASK_CHIP_KEY: ask it to turn that off, or to load a VLEK"))
		return res
	}
	best, unread := v.choose(raw, r, products, o)
	if best == nil {
		res.Claims = makeClaims(r, nil)
		res.Add(formCheck(r, res.Claims.SNP.Product), missing(r, unread),
			verdict.Skip(verdict.KeyToReport, "no endorsement key is at hand", "").From(sourceKDS),
			verdict.Skip(verdict.Signature, "no endorsement key is at hand", "").From(sourceReport+", SIGNATURE"))
		return res
	}
	res.Claims = makeClaims(r, best)
	res.Add(formCheck(r, res.Claims.SNP.Product),
		verdict.Pass(verdict.EndorsementKey, best.String()).From(sourceKDS))
	res.Add(v.pathChecks(best.path, r.SigningKey(), o)...)
	res.Add(keyToReport(best), signatureCheck(best))
	return res
}

// candidate is an endorsement key that may be the report's, and what became of it.
type candidate struct {
	cert    *x509.Certificate
	e       Endorsement
	misfits []string
	path    path
	sigErr  error
	tried   bool // the signature was looked at
	hidden  bool // the report hides the chip id
}

func (c *candidate) String() string {
	if c.e.CSP != "" {
		return fmt.Sprintf("a VLEK of %s for %s, TCB %016x", c.e.Product, c.e.CSP, uint64(c.e.TCB()))
	}
	return fmt.Sprintf("a VCEK of %s for chip %x, TCB %016x", c.e.Product, c.e.HWID, uint64(c.e.TCB()))
}

func (c *candidate) good() bool {
	return len(c.misfits) == 0 && c.path.ok() && c.tried && c.sigErr == nil
}

// choose finds the endorsement key that fits chip, TCB, signer and signature. Where
// none does it gives the one that comes closest, so that the verdict can say what does
// not fit. nil: there is none of this product; unread then says why one of its signer
// could not be read, if there was any.
func (v *Verifier) choose(raw []byte, r Report, products []Product, o *format.Options) (best *candidate, unread error) {
	if o.Collateral == nil {
		return nil, nil
	}
	certs := o.Collateral.Certificates
	certs = certs[:min(len(certs), collateral.MaxCertificates)]
	tries := 0
	var near *candidate
	for _, cert := range certs {
		if cert.IsCA {
			continue
		}
		e, err := ParseEndorsement(cert)
		if err != nil {
			if signerOf(cert, r, products, certs) {
				unread = err
			}
			continue
		}
		c := &candidate{cert: cert, e: e, misfits: e.misfits(r), hidden: r.ChipHidden()}
		if !e.concerns(r, len(c.misfits) == 0) {
			continue
		}
		if len(c.misfits) > 0 {
			if near == nil || len(c.misfits) < len(near.misfits) {
				near = c
			}
			continue
		}
		v.tryPath(c, products, o, &tries)
		if c.path.ok() {
			if c.trySignature(raw); c.good() {
				return c, nil
			}
		}
		if best == nil || c.path.ok() && !best.path.ok() {
			best = c
		}
	}
	if best == nil && near != nil {
		best = near
		v.tryPath(best, products, o, &tries)
	}
	if best != nil && !best.tried {
		best.trySignature(raw)
	}
	return best, unread
}

// tryPath looks for the candidate's chain.
func (v *Verifier) tryPath(c *candidate, products []Product, o *format.Options, tries *int) {
	c.path = v.find(c.cert, c.e.CSP != "", products, o, tries)
	if anchored := c.path.product; anchored != nil && anchored.Name != c.e.ProductLine() {
		c.misfits = append(c.misfits, fmt.Sprintf("the certificate is for %s, its root is of %s", c.e.ProductLine(), anchored.Name))
	}
}

// trySignature verifies the report with the candidate's key.
func (c *candidate) trySignature(raw []byte) {
	key, err := endorsementKey(c.cert)
	if err == nil {
		err = Verify(raw, key)
	}
	c.sigErr, c.tried = err, true
}

// endorsementKey gives the key of a VCEK or VLEK: ECDSA on P-384.
func endorsementKey(c *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("snp: the certificate's key is %s, wanted ECDSA on P-384", c.PublicKeyAlgorithm)
	case key.Curve != elliptic.P384():
		return nil, fmt.Errorf("snp: the certificate's key is on %s, wanted P-384", key.Curve.Params().Name)
	}
	return key, nil
}

// signerOf says whether the certificate names a signer of the report's product, or
// one that came along with it and is not AMD's.
func signerOf(c *x509.Certificate, r Report, products []Product, certs []*x509.Certificate) bool {
	for i := range products {
		p := &products[i]
		if line := r.Product(); line != "" && line != p.Name {
			continue
		}
		if bytes.Equal(c.RawIssuer, p.ASK.RawSubject) || bytes.Equal(c.RawIssuer, p.ASVK.RawSubject) {
			return true
		}
	}
	if !amdExtensions(c) {
		return false // another vendor's, beside the evidence for its own
	}
	for _, mid := range certs {
		if mid.IsCA && bytes.Equal(c.RawIssuer, mid.RawSubject) && !amd(mid, products) {
			return true
		}
	}
	return false
}

// amdExtensions says whether the certificate has any extension of AMD's.
func amdExtensions(c *x509.Certificate) bool {
	for _, x := range c.Extensions {
		if len(x.Id) > len(kdsArc) && x.Id[:len(kdsArc)].Equal(kdsArc) {
			return true
		}
	}
	return false
}

// amd says whether the certificate bears the name of one of AMD's intermediates.
func amd(c *x509.Certificate, products []Product) bool {
	for i := range products {
		if bytes.Equal(c.RawSubject, products[i].ASK.RawSubject) || bytes.Equal(c.RawSubject, products[i].ASVK.RawSubject) {
			return true
		}
	}
	return false
}

// concerns says whether the certificate is of the report's product. One of another
// is no candidate, unless chip or, for a VLEK, TCB say that it is meant.
func (e Endorsement) concerns(r Report, fits bool) bool {
	product := r.Product()
	switch line := e.ProductLine(); {
	case fits, e.namesChip(r), e.CSP != "" && r.SigningKey() == VLEK && e.TCB() == r.ReportedTCB:
		return true
	case !known(line): // a simulated one; the TCB says whether it is meant
		return e.TCB() == r.ReportedTCB
	case r.Version < 3: // it does not say its product, but Turin has no report of version 2
		return !e.HasFMC
	default:
		return line == product
	}
}

func (e Endorsement) namesChip(r Report) bool {
	return e.HWID != nil && !r.ChipHidden() && bytes.Equal(pad64(e.HWID), r.ChipID[:])
}

func pad64(b []byte) []byte {
	out := make([]byte, 64)
	copy(out, b)
	return out
}

// misfits says in what the certificate is not for the report's processor.
func (e Endorsement) misfits(r Report) []string {
	var out []string
	if isVLEK := e.CSP != ""; isVLEK != (r.SigningKey() == VLEK) {
		out = append(out, fmt.Sprintf("the report is signed by a %s, the certificate is the other kind", r.SigningKey()))
	}
	if got := e.TCB(); got != r.ReportedTCB {
		out = append(out, fmt.Sprintf("the report's reported TCB is %016x, the certificate endorses %016x", uint64(r.ReportedTCB), uint64(got)))
	}
	if e.HWID != nil && !r.ChipHidden() && !e.namesChip(r) {
		out = append(out, fmt.Sprintf("the report's chip id is %x, the certificate endorses %x", r.ChipID, e.HWID))
	}
	if line := e.ProductLine(); r.Version >= 3 && (known(line) || r.Product() == "") && line != r.Product() {
		out = append(out, fmt.Sprintf("the report is of family %#x model %#x, the certificate is for %s", r.CPUFamily, r.CPUModel, e.Product))
	}
	return out
}

// Agrees says whether the certificate endorses the processor and the TCB that the
// report speaks of: kind of key, reported TCB and product are equal, and the chip id
// too where the certificate names a chip and the report does not hide it.
func (e Endorsement) Agrees(r Report) error {
	if m := e.misfits(r); len(m) > 0 {
		return errors.New("snp: " + strings.Join(m, "; "))
	}
	return nil
}

func formCheck(r Report, product string) verdict.Check {
	for _, t := range []struct {
		name string
		tcb  TCB
	}{{"current", r.CurrentTCB}, {"reported", r.ReportedTCB}, {"committed", r.CommittedTCB}, {"launch", r.LaunchTCB}} {
		if known(product) && t.tcb.reserved(product) != 0 {
			return verdict.Fail(verdict.Form, fmt.Sprintf("%s TCB %016x", t.name, uint64(t.tcb)), "zeros in the bytes that "+product+" reserves").From("AMD 56860, TCB_VERSION")
		}
	}
	if product == "" {
		product = "a product that it does not name"
	}
	return verdict.Pass(verdict.Form, fmt.Sprintf("an SNP report of version %d, %s", r.Version, product)).From(sourceReport)
}

// missing is the check endorsement-key where no certificate is a candidate.
func missing(r Report, unread error) verdict.Check {
	if unread != nil {
		return verdict.Fail(verdict.EndorsementKey, unread.Error(), "a VCEK or VLEK certificate of the known form").From(sourceKDS)
	}
	hint := "give the VCEK with the collateral; donjon collateral fetch gets it from AMD's key server"
	switch url := r.VCEKURL(); {
	case url != "":
		hint = "donjon collateral fetch gets it from " + url
	case r.SigningKey() == VLEK:
		hint = "the cloud provider hands out the VLEK, mostly in the certificate table beside the report"
	case r.ChipHidden():
		hint = "the host hides the chip id: only it can give the VCEK"
	}
	k := fmt.Sprintf("no %s of this product is at hand", strings.ToUpper(r.SigningKey().String()))
	return verdict.Skip(verdict.EndorsementKey, k, hint).From(sourceKDS)
}

func keyToReport(c *candidate) verdict.Check {
	if len(c.misfits) > 0 {
		return verdict.Fail(verdict.KeyToReport, strings.Join(c.misfits, "; "), "a certificate for the report's kind of key, product, chip and reported TCB").From(sourceKDS).
			Advise("this endorsement key is not the report's: get the one for its chip id and reported TCB")
	}
	found := "chip id and reported TCB agree"
	switch {
	case c.e.HWID == nil:
		found = "provider key: the reported TCB agrees, no chip is named"
	case c.hidden:
		found = "the reported TCB agrees, the report hides the chip id"
	}
	return verdict.Pass(verdict.KeyToReport, found).From(sourceKDS)
}

func signatureCheck(c *candidate) verdict.Check {
	if c.sigErr != nil {
		return verdict.Fail(verdict.Signature, c.sigErr.Error(), "ECDSA P-384 with SHA-384 over bytes 0 to 0x29f").From(sourceReport + ", SIGNATURE")
	}
	return verdict.Pass(verdict.Signature, "ECDSA P-384 with SHA-384 by the endorsement key").From(sourceReport + ", SIGNATURE")
}
