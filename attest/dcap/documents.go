package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"strings"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
)

// parsed is a document of either kind. It is shared and never changed.
type parsed struct {
	info *tcbInfo
	qe   *qeIdentity
	err  error
	hash pki.Hash // of body and signature
}

func (p *parsed) window() window {
	if p.info != nil {
		return p.info.window
	}
	return p.qe.window
}

func (p *parsed) evaluation() uint32 {
	if p.info != nil {
		return *p.info.Evaluation
	}
	return *p.qe.Evaluation
}

// document parses a document, or remembers that it did.
func (v *Verifier) document(d *collateral.Document, isQE bool) *parsed {
	if len(d.Body) > maxDocument || len(d.Signature) != 64 {
		return &parsed{err: errBadDocument}
	}
	h := sha256.New()
	label := "tcb\x00"
	if isQE {
		label = "qe\x00\x00"
	}
	h.Write([]byte(label))
	h.Write(d.Signature)
	h.Write(d.Body)
	p := &parsed{hash: pki.Hash(h.Sum(nil))}
	if known, ok := v.documents.Get(p.hash); ok {
		return known
	}
	if isQE {
		p.qe, p.err = parseQEIdentity(d.Body)
	} else {
		p.info, p.err = parseTCBInfo(d.Body)
	}
	v.documents.Put(p.hash, p)
	return p
}

// chosen is the document that an appraisal uses.
type chosen struct {
	*parsed
	signer *x509.Certificate // nil: none at hand signed it
	stale  string            // why it is not current
}

// choose gives the best document of those that fit: one that Intel signed before
// one of which that cannot be said, a current one before a stale one, then the
// highest evaluation number, then the youngest. others names what did not fit.
func (v *Verifier) choose(docs []collateral.Document, isQE bool, signers []*x509.Certificate, o *format.Options, fits func(*parsed) bool) (best *chosen, others []string) {
	for i := range docs[:min(len(docs), collateral.MaxDocuments)] {
		p := v.document(&docs[i], isQE)
		if p.err != nil {
			others = append(others, p.err.Error())
			continue
		}
		if !fits(p) {
			others = append(others, describe(p))
			continue
		}
		c := &chosen{parsed: p, stale: p.window().stale(o.At, o.MaxAge)}
		for _, s := range signers {
			if v.signed(&docs[i], p.hash, s) {
				c.signer = s
				break
			}
		}
		if best == nil || c.better(best) {
			best = c
		}
	}
	if len(others) > 4 {
		others = append(others[:4:4], "…")
	}
	return best, others
}

func (c *chosen) better(than *chosen) bool {
	switch {
	case (c.signer != nil) != (than.signer != nil):
		return c.signer != nil
	case (c.stale == "") != (than.stale == ""):
		return c.stale == ""
	case c.evaluation() != than.evaluation():
		return c.evaluation() > than.evaluation()
	}
	return c.window().IssueDate.After(than.window().IssueDate)
}

func describe(p *parsed) string {
	if p.info != nil {
		return p.info.ID + " TCB info for FMSPC " + hexOf(p.info.FMSPC) + ", PCE id " + hexOf(p.info.PCEID)
	}
	return "QE identity " + p.qe.ID
}

// signed says whether key signed the document's body, or remembers that it did.
func (v *Verifier) signed(d *collateral.Document, hash pki.Hash, signer *x509.Certificate) bool {
	h := sha256.New()
	h.Write([]byte("donjon dcap document\x00"))
	h.Write(hash[:])
	h.Write(signer.RawSubjectPublicKeyInfo)
	key := pki.Hash(h.Sum(nil))
	if v.signatures.Has(key) {
		return true
	}
	k, ok := signer.PublicKey.(*ecdsa.PublicKey)
	if !ok || !verify64(k, d.Body, d.Signature) {
		return false
	}
	v.signatures.Add(key)
	return true
}

// verify64 checks an ECDSA P-256 signature, r and s of 32 bytes each, over the
// SHA-256 of msg.
func verify64(k *ecdsa.PublicKey, msg, sig []byte) bool {
	if len(sig) != 64 {
		return false
	}
	h := sha256.Sum256(msg)
	return ecdsa.Verify(k, h[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

// maxSigners bounds how many TCB signing certificates are tried.
const maxSigners = 8

// signers gives the TCB signing certificates at hand that root issued, those that
// are valid at the time first.
func (v *Verifier) signers(root *x509.Certificate, o *format.Options) []*x509.Certificate {
	if o.Collateral == nil {
		return nil
	}
	var out, expired []*x509.Certificate
	for _, c := range o.Collateral.Certificates {
		if len(out)+len(expired) == maxSigners {
			break
		}
		if c.IsCA || !strings.HasSuffix(c.Subject.CommonName, "SGX TCB Signing") || !bytes.Equal(c.RawIssuer, root.RawSubject) || p256(c) != nil {
			continue
		}
		if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || pki.VerifyChain([]*x509.Certificate{c, root}, &v.signatures) != nil {
			continue
		}
		if o.At.Before(c.NotBefore) || o.At.After(c.NotAfter) {
			expired = append(expired, c)
			continue
		}
		out = append(out, c)
	}
	return append(out, expired...)
}
