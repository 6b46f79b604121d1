// Package tpm verifies TPM 2.0 quotes, the event logs that explain their registers,
// and quotes of a virtual TPM whose key a TEE's report names (Azure's SEV-SNP
// confidential VMs). Event logs of TDs (CCEL) replay here too.
//
// A quote proves registers only if its key is a restricted key of a real TPM: that
// it is must come from a certificate under a pinned root, from a TEE's report or
// from the policy by name (THREATS T24). Source: TPM 2.0 Library Specification,
// Part 2. The package does no I/O; what SEV-SNP reports say is next door in snp.
package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Sources.
const (
	library = "TPM 2.0 Library, Part 2, "
	azure   = "Azure, Confidential VM guest attestation design detail"
)

// Verifier verifies quotes. Its zero value is ready; it may be used by several
// goroutines at once. It remembers, bounded, which signatures of certificates and
// revocation lists hold, and nothing about validity or revocation.
type Verifier struct {
	links pki.Cache
}

// Verify checks a quote on its own. A composite's is checked as by VerifyComposite
// without a report, and so refused.
func (v *Verifier) Verify(e Evidence, o *format.Options) format.Result {
	if e.Composite != nil {
		return v.VerifyComposite(e, nil, o)
	}
	var r format.Result
	if o == nil {
		o = &format.Options{}
	}
	q, ok := open(e, &r)
	if !ok {
		return r
	}
	key, err := parseSPKI(e.AK)
	if err != nil {
		return malformed(&r, err)
	}
	var public *Public
	if e.Public != nil {
		if public, err = ParsePublic(e.Public); err != nil {
			return malformed(&r, err)
		}
	}
	r.Add(verdict.Pass(verdict.Form, "a TPM 2.0 quote").From(library + "section 10.12"))
	t := q.claims(e.AK)
	r.Claims = &claims.Claims{TEE: claims.TPM, TPM: t, ReportData: clone(q.attest.ExtraData), Nonce: clone(q.attest.ExtraData)}
	r.Add(q.signature(e, key), q.digest(e, t))
	r.Add(restricted(public, key, t))
	r.Add(v.endorsement(e, key, r.Claims, o)...)
	if e.EventLog != nil {
		r.Add(eventLog(e, t))
	}
	return r
}

// VerifyComposite checks the quote of a vTPM that an SEV-SNP report names. snp are
// the claims that package snp gave for e.Composite.Report; whether that report is
// genuine is in its own checks. The result's claims are a copy of them with the
// quote's beside. The options are not used: no certificate of the form's own vouches
// for the key.
func (v *Verifier) VerifyComposite(e Evidence, snp *claims.Claims, _ *format.Options) format.Result {
	var r format.Result
	q, ok := open(e, &r)
	if !ok {
		return r
	}
	if e.Composite == nil {
		return malformed(&r, fmt.Errorf("tpm: found a quote alone, wanted one with an SEV-SNP report"))
	}
	rt, err := parseRuntime(e.Composite.RuntimeData)
	if err != nil {
		return malformed(&r, err)
	}
	r.Add(verdict.Pass(verdict.Form, "a vTPM's quote with an SEV-SNP report").From(azure))
	t := q.claims(rt.spki)
	t.UserData, t.Facts = rt.userData, rt.facts
	c := claims.Claims{}
	if snp != nil {
		c = *snp
	}
	c.TPM, c.Nonce = t, clone(q.attest.ExtraData)
	r.Claims = &c
	bound := runtimeData(e.Composite, snp)
	r.Add(bound...)
	if bound[0].Status == verdict.Passed {
		t.Endorsed = "report"
		r.Add(verdict.Pass(verdict.AKEndorsed, "named by the SEV-SNP report's runtime data as "+akName).From(azure))
	} else {
		r.Add(verdict.Skip(verdict.AKEndorsed, "the report does not bind the runtime data that names the key", "").From(azure))
	}
	r.Add(q.signature(e, rt.ak), q.digest(e, t))
	r.Add(verdict.Skip(verdict.AKRestricted, "the runtime data names the key and none of its attributes",
		"the paravisor, which the launch digest measures, makes the key; a policy that pins the launch digest can waive this by name").From(library + "section 8.3"))
	if e.EventLog != nil {
		r.Add(eventLog(e, t))
	}
	return r
}

// quote is a quote taken apart.
type quote struct {
	attest *Attest
	sig    *Signature
}

// open parses what every form has; a failed check is added where that does not parse.
func open(e Evidence, r *format.Result) (*quote, bool) {
	a, err := ParseAttest(e.Message)
	if err != nil {
		malformed(r, err)
		return nil, false
	}
	s, err := ParseSignature(e.Signature)
	if err != nil {
		malformed(r, err)
		return nil, false
	}
	if len(e.PCRs) != pcrCount {
		malformed(r, fmt.Errorf("tpm: found the values of %d registers, wanted %d", len(e.PCRs), pcrCount))
		return nil, false
	}
	if err := a.oneBank(); err != nil {
		malformed(r, err)
		return nil, false
	}
	return &quote{a, s}, true
}

// oneBank says why the quote is not one of at least one register of one bank with a
// hash to be relied on. The forms carry one bank's values.
func (a *Attest) oneBank() error {
	if len(a.Selections) != 1 {
		return fmt.Errorf("tpm: quote: found registers of %d banks, wanted one", len(a.Selections))
	}
	s := a.Selections[0]
	if _, err := s.Bank.hash(); err != nil {
		return fmt.Errorf("tpm: quote: bank: %w", err)
	}
	if last := s.PCRs[len(s.PCRs)-1]; last >= pcrCount {
		return fmt.Errorf("tpm: quote: found the register %d, at most %d", last, pcrCount-1)
	}
	return nil
}

func malformed(r *format.Result, err error) format.Result {
	r.Claims = nil
	r.Checks = []verdict.Check{verdict.Fail(verdict.Form, err.Error(), "a TPM 2.0 quote over registers of a SHA-256, SHA-384 or SHA-512 bank").From(library + "section 10.12")}
	return *r
}

// clone copies b; the copy of an empty one is empty and not nil, so that a quote without
// extraData has the empty nonce.
func clone(b []byte) claims.Hex { return append(claims.Hex{}, b...) }

func (q *quote) claims(spki []byte) *claims.TPMClaims {
	a := q.attest
	ak := sha256.Sum256(spki)
	return &claims.TPMClaims{
		FirmwareVersion: binary.BigEndian.AppendUint64(nil, a.FirmwareVersion),
		ResetCount:      a.ResetCount, RestartCount: a.RestartCount, ClockSafe: a.Safe,
		Bank: a.Selections[0].Bank.String(), Selected: a.Selections[0].PCRs,
		QualifiedSigner: clone(a.QualifiedSigner), AKSHA256: ak[:],
	}
}

func (q *quote) signature(e Evidence, key crypto.PublicKey) verdict.Check {
	if err := q.sig.Verify(e.Message, key); err != nil {
		return verdict.Fail(verdict.Signature, err.Error(), "the quote signed by the attestation key").From(library + "section 11.3")
	}
	return verdict.Pass(verdict.Signature, q.sig.Scheme.String()+" with "+q.sig.Hash.String()).From(library + "section 11.3")
}

// digest compares the values sent along with the digest that was signed; only where
// that holds do they enter the claims.
func (q *quote) digest(e Evidence, into *claims.TPMClaims) verdict.Check {
	source := library + "section 10.12.1"
	s := q.attest.Selections[0]
	bank, err := s.Bank.hash()
	if err != nil {
		return verdict.Fail(verdict.PCRDigest, err.Error(), "a bank to be relied on").From(source)
	}
	over, err := q.sig.Hash.hash() // the signing scheme's, whatever the bank's
	if err != nil {
		return verdict.Fail(verdict.PCRDigest, err.Error(), "a hash to be relied on").From(source)
	}
	h := over.New()
	pcrs := make(map[int]claims.Hex, len(s.PCRs))
	for _, i := range s.PCRs {
		if len(e.PCRs[i]) != bank.Size() {
			return verdict.Fail(verdict.PCRDigest, fmt.Sprintf("%d bytes for PCR %d", len(e.PCRs[i]), i), fmt.Sprintf("%d bytes, a %s register", bank.Size(), s.Bank)).From(source)
		}
		h.Write(e.PCRs[i])
		pcrs[i] = clone(e.PCRs[i])
	}
	sum := h.Sum(nil)
	if subtle.ConstantTimeCompare(sum, q.attest.PCRDigest) != 1 {
		return verdict.Fail(verdict.PCRDigest, hex.EncodeToString(sum), hex.EncodeToString(q.attest.PCRDigest)).From(source).
			Advise("the values sent along are not those that were quoted")
	}
	into.PCRs = pcrs
	return verdict.Pass(verdict.PCRDigest, fmt.Sprintf("%d registers of the bank %s", len(pcrs), s.Bank)).From(source)
}

// restricted judges the key's public area, where the form carries it.
func restricted(p *Public, key crypto.PublicKey, into *claims.TPMClaims) verdict.Check {
	source := library + "section 8.3"
	if p == nil {
		return verdict.Skip(verdict.AKRestricted, "the evidence holds the bare key and none of its attributes",
			`add the key's TPMT_PUBLIC ("ak_tpmt_public"), or waive ak-restricted for a key whose making you saw`).From(source)
	}
	yes := false
	into.Restricted = &yes
	if k, ok := p.Key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(key) {
		return verdict.Fail(verdict.AKRestricted, "the public area of another key", "the public area of the key that signed").From(source)
	}
	if err := p.IsAttestationKey(); err != nil {
		return verdict.Fail(verdict.AKRestricted, err.Error(), "a restricted signing key that cannot leave its TPM").From(source).
			Advise("such a key signs whatever its owner likes, a made-up quote too")
	}
	yes = true
	return verdict.Pass(verdict.AKRestricted, fmt.Sprintf("attributes %#08x", uint32(p.Attributes))).From(source)
}

func eventLog(e Evidence, t *claims.TPMClaims) verdict.Check {
	if t.PCRs == nil {
		return verdict.Skip(verdict.EventLog, "no register's value is proved", "").From(profile)
	}
	return CheckPCRs(e.EventLog, t.Bank, t.PCRs)
}

// runtimeData checks that the report binds the runtime data: report data is its
// SHA-256 and zeros, and the report was made at VMPL 0, where the paravisor runs. A
// guest above could have a report over runtime data of its own making (THREATS T21).
// The first check is runtime-data.
func runtimeData(c *Composite, snp *claims.Claims) []verdict.Check {
	sum := sha256.Sum256(c.RuntimeData)
	want := make([]byte, 64)
	copy(want, sum[:])
	fail := func(found, wanted string) verdict.Check {
		return verdict.Fail(verdict.RuntimeData, found, wanted).From(azure)
	}
	switch {
	case snp == nil || snp.SNP == nil:
		return []verdict.Check{fail("no SEV-SNP report that parses", "a report over the runtime data")}
	case !bytes.Equal(snp.ReportData, want):
		return []verdict.Check{fail("report data "+snp.ReportData.String(), hex.EncodeToString(want)+", the SHA-256 of the runtime data and zeros")}
	case snp.SNP.VMPL != 0:
		found := fmt.Sprintf("a report made at VMPL %d", snp.SNP.VMPL)
		return []verdict.Check{fail(found, "VMPL 0, the paravisor's: software above may bind what it likes"),
			verdict.Fail(verdict.VMPL, fmt.Sprint(snp.SNP.VMPL), "0").From(azure)}
	}
	return []verdict.Check{verdict.Pass(verdict.RuntimeData, hex.EncodeToString(sum[:])).From(azure)}
}

// certificates parses the ones that came along.
func (e *Evidence) certificates() ([]*x509.Certificate, error) {
	if len(e.Certificates) > maxCertificates {
		return nil, fmt.Errorf("tpm: found %d certificates, at most %d", len(e.Certificates), maxCertificates)
	}
	var out []*x509.Certificate
	for i, der := range e.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("tpm: certificate %d: %w", i, err)
		}
		out = append(out, c)
	}
	return out, nil
}
