package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
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
	body []byte // a copy
	// What it is and when it is current, in words.
	name, current string
	hash          pki.Hash // of kind, signature and body
	key           pki.Hash // where it is remembered
	by            *signer  // who signed it, where it is remembered
	signature     []byte   // that signature
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

// document parses a document, or remembers that it did. What is remembered is found
// by the signature and compared as a whole: that is faster than a hash.
func (v *Verifier) document(d *collateral.Document, isQE bool) (p *parsed, known bool) {
	if len(d.Body) > maxDocument || len(d.Signature) != 64 {
		return &parsed{err: errBadDocument}, false
	}
	key := pki.Hash(d.Signature[:32])
	if isQE {
		key[0] ^= 0xff // a document may be offered as both
	}
	if p, ok := v.documents.Get(key); ok && bytes.Equal(p.body, d.Body) && (p.qe != nil) == isQE {
		return p, true
	}
	h := sha256.New()
	label := "tcb\x00"
	if isQE {
		label = "qe\x00\x00"
	}
	h.Write([]byte(label))
	h.Write(d.Signature)
	h.Write(d.Body)
	p = &parsed{key: key, hash: pki.Hash(h.Sum(nil)), body: bytes.Clone(d.Body)}
	if isQE {
		p.qe, p.err = parseQEIdentity(p.body)
	} else {
		p.info, p.err = parseTCBInfo(p.body)
	}
	if p.err == nil {
		p.name = describe(p)
		w := p.window()
		p.current = fmt.Sprintf("%s to %s, evaluation number %d", day(w.IssueDate), day(w.NextUpdate), p.evaluation())
	}
	return p, false
}

// chosen is the document that an appraisal uses.
type chosen struct {
	*parsed
	signer *x509.Certificate // nil: none at hand signed it
	stale  string            // why it is not current
	future bool              // it has not begun
}

// choose gives the best document of those that fit: one that Intel signed before
// one of which that cannot be said, one that has begun before one that has not, then
// the highest evaluation number, a current one before a stale one, then the youngest.
// A lower number counts although it is current only where nothing newer is at hand: it
// does not know the newest advisories (THREATS T25). others names what did not fit.
func (v *Verifier) choose(docs []collateral.Document, isQE bool, signers []*signer, o *format.Options, fits func(*parsed) bool) (best *chosen, others []string) {
	for i := range docs[:min(len(docs), collateral.MaxDocuments)] {
		p, known := v.document(&docs[i], isQE)
		if p.err != nil {
			others = append(others, p.err.Error())
			continue
		}
		if !fits(p) {
			others = append(others, p.name)
			continue
		}
		c := &chosen{parsed: p, stale: p.window().stale(o.At, o.MaxAge), future: o.At.Before(p.window().IssueDate)}
		for _, s := range signers {
			if known && p.by == s && bytes.Equal(p.signature, docs[i].Signature) {
				c.signer = s.cert
				break
			}
			if v.signed(&docs[i], p, s) {
				c.signer = s.cert
				if !known { // what nobody signed is not remembered
					p.by, p.signature = s, bytes.Clone(docs[i].Signature)
					v.documents.Put(p.key, p)
				}
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
	case c.future != than.future:
		return !c.future
	case c.evaluation() != than.evaluation():
		return c.evaluation() > than.evaluation()
	case (c.stale == "") != (than.stale == ""):
		return c.stale == ""
	}
	return c.window().IssueDate.After(than.window().IssueDate)
}

func describe(p *parsed) string {
	if p.info != nil {
		return p.info.ID + " TCB info for FMSPC " + hexOf(p.info.FMSPC) + ", PCE id " + hexOf(p.info.PCEID)
	}
	return "QE identity " + p.qe.ID
}

// signed says whether signer signed the document, or remembers that it did. The
// hash covers all of the signature; what is remembered is found by half of it.
func (v *Verifier) signed(d *collateral.Document, p *parsed, s *signer) bool {
	h := sha256.New()
	h.Write([]byte("donjon dcap document\x00"))
	h.Write(p.hash[:])
	h.Write(d.Signature)
	h.Write(s.cert.RawSubjectPublicKeyInfo)
	key := pki.Hash(h.Sum(nil))
	if v.signatures.Has(key) {
		return true
	}
	k, ok := s.cert.PublicKey.(*ecdsa.PublicKey)
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
	var der [72]byte
	return ecdsa.VerifyASN1(k, h[:], derSignature(der[:0], sig))
}

// derSignature appends the DER form of a signature of 64 bytes: at most 72 bytes.
func derSignature(out, sig []byte) []byte {
	out = append(out, 0x30, 0)
	for _, n := range [][]byte{sig[:32], sig[32:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0] >= 0x80 {
			out = append(out, 2, byte(len(n)+1), 0)
		} else {
			out = append(out, 2, byte(len(n)))
		}
		out = append(out, n...)
	}
	out[1] = byte(len(out) - 2)
	return out
}

// maxSigners bounds how many TCB signing certificates are tried.
const maxSigners = 8

// signer is a TCB signing certificate that a root issued.
type signer struct {
	cert *x509.Certificate
	root pki.Hash
}

// signers gives the TCB signing certificates at hand that root issued, those that
// are valid at the time first.
func (v *Verifier) signers(root *x509.Certificate, rootHash pki.Hash, o *format.Options) []*signer {
	if o.Collateral == nil {
		return nil
	}
	var out, expired []*signer
next:
	for _, c := range o.Collateral.Certificates {
		if len(out)+len(expired) == maxSigners {
			break
		}
		if c.IsCA || !strings.HasSuffix(c.Subject.CommonName, "SGX TCB Signing") || !bytes.Equal(c.RawIssuer, root.RawSubject) {
			continue
		}
		for _, list := range [2][]*signer{out, expired} {
			for _, s := range list {
				if bytes.Equal(s.cert.Raw, c.Raw) {
					continue next
				}
			}
		}
		s := v.signer(c, root, rootHash)
		switch {
		case s == nil:
		case o.At.Before(c.NotBefore) || o.At.After(c.NotAfter):
			expired = append(expired, s)
		default:
			out = append(out, s)
		}
	}
	return append(out, expired...)
}

// signer checks that root issued c, or remembers that it did; nil: it did not.
func (v *Verifier) signer(c, root *x509.Certificate, rootHash pki.Hash) *signer {
	if len(c.Signature) < 40 || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil
	}
	key := pki.Hash(c.Signature[4:36])
	if s, ok := v.signersSeen.Get(key); ok && s.root == rootHash && bytes.Equal(s.cert.Raw, c.Raw) {
		return s
	}
	if p256(c) != nil || pki.VerifyChain([]*x509.Certificate{c, root}, &v.signatures) != nil {
		return nil
	}
	s := &signer{cert: c, root: rootHash}
	v.signersSeen.Put(key, s)
	return s
}
