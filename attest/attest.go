// Package attest verifies evidence of confidential computing: SEV-SNP, TDX and SGX,
// TPM quotes and Nitro documents, in whatever they travel. Evidence in, verdict out,
// with a reason for every check, passed, failed or not made.
//
//	var v attest.Verifier
//	verdict := v.Verify(evidence, attest.Options{At: time.Now(), Policy: p, Nonce: nonce, Collateral: c})
//	if err := verdict.Err(); err != nil { … }
//
// It does no I/O: evidence, collateral, policy and time are given to it. Formats are
// in snp, dcap, tpm and nitro; what evidence travels in is envelope's; what a relying
// party demands is policy's; vendor data is collateral's; known vulnerabilities are
// advisory's. Each can be used alone.
package attest

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/advisory"
	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/dcap"
	"github.com/donjon-tee/donjon/attest/envelope"
	ownform "github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/nitro"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/tpm"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Verifier verifies evidence. Its zero value is ready; it may be used by many
// goroutines at once, and remembers (bounded) which signatures of certificates and
// collateral hold, so one should be kept and used again.
type Verifier struct {
	SNP   snp.Verifier
	DCAP  dcap.Verifier
	TPM   tpm.Verifier
	Nitro nitro.Verifier
}

// Options are one appraisal's. The zero value judges the platform at the zero time,
// when nothing is valid yet: set At.
type Options struct {
	// At is the time of judging.
	At time.Time
	// Policy is what is demanded. nil: the defaults of every TEE, and no software is
	// named, so that the outcome is at best verdict.CannotTell without PlatformOnly.
	Policy *policy.Policy
	// Nonce that the verifier sent; empty: none.
	Nonce []byte
	// Purpose that Donjon's claims must state, and evidence without them does not. "":
	// where there are claims, file or http, for which channel-binding is not made; for
	// evidence in a certificate, what is made for certificates: certificate, or enrol, as
	// in what a Steward issues.
	Purpose string
	// Channel is the connection that the evidence must have been made for; nil: none is
	// at hand, and for a purpose that is about connections the check is not made.
	Channel *Channel
	// PlatformOnly judges the platform and leaves software, workload and nonce alone.
	PlatformOnly bool
	// Peer is for a Keep that judges another Keep: what it knows of itself, and what it
	// has verified of the other beside the evidence. nil: the forms of naming a peer that
	// need it are not made.
	Peer *policy.Peer
	// AsStated takes the purpose that Donjon's claims state in the place of Purpose, where
	// there are claims: for a policy that is tried with evidence made for something else,
	// and for nothing that grants.
	AsStated bool
	// TimeSource says of a verdict that is made inside a Keep where At is from; "": the
	// caller's own clock, of which there is no check.
	TimeSource policy.TimeSource
	// Collateral is vendor data at hand beside what is stapled to the evidence.
	Collateral *collateral.Set
	// SimulatedRoots names roots beside the policy's. Naming one is not allowing it.
	SimulatedRoots []pki.Hash
	// EventLog is a TCG or CCEL event log to replay against the registers that were
	// signed; nil: none, and there is no such check.
	EventLog []byte
	// Seen is what was seen of collateral before: older collateral is then refused, and
	// what genuine evidence was judged by is remembered. nil: no such check, as it must
	// be where At is in the past on purpose.
	Seen *collateral.HighWater
}

// Verify judges one piece of evidence. It never returns nil and never panics on
// hostile bytes: what cannot be read is not genuine.
func (v *Verifier) Verify(evidence []byte, o Options) *verdict.Verdict {
	out := &verdict.Verdict{At: o.At.UTC(), Evidence: verdict.Digest(evidence), Advisories: []verdict.Advisory{}}
	p := o.Policy
	if p == nil {
		p = policy.Default()
	} else if p.Raw() != nil {
		out.Policy = verdict.Digest(p.Raw())
	}
	e, err := envelope.Open(evidence)
	if err != nil {
		out.Form = "unknown"
		out.Checks = []verdict.Check{formFailure(err)}
		out.Conclude()
		return out
	}
	out.Form = e.Form
	if o.AsStated {
		o.Purpose = stated(e, o.Purpose)
	}
	r := v.format(e, o, p)
	v.bind(e, o, &r)
	if r.Claims != nil {
		r.Add(o.channel(r.Claims)...)
	}
	if r.Claims != nil && o.EventLog != nil {
		r.Add(eventLog(r.Claims, o.EventLog))
	}
	remember := v.rollback(e, o, &r)
	out.Checks = r.Checks
	if c := r.Claims; c != nil {
		out.Claims, out.Simulated = c, c.Root.Simulated
		if c.Intel != nil {
			out.TCBStatus = c.Intel.Status
		}
		d := policy.Demand{At: o.At, Nonce: o.Nonce, Purposes: purposes(e, o), ClaimsWanted: o.Purpose != "", NoPolicy: o.Policy == nil, PlatformOnly: o.PlatformOnly,
			Peer: o.Peer, TimeSource: o.TimeSource}
		out.Checks = supersede(out.Checks, p.Appraise(c, d))
		out.Advisories = append(out.Advisories, advisory.Assess(c, o.At)...)
		out.Checks = append(out.Checks, advisory.Demand(p.FixedAdvisories, out.Advisories)...)
	}
	p.ApplyWaivers(out.Checks)
	out.Conclude()
	// Evidence that nobody was seen to have signed teaches nothing.
	signed := slices.ContainsFunc(out.Checks, func(c verdict.Check) bool { return c.Code == verdict.Signature && c.Status == verdict.Passed })
	if signed && out.Outcome != verdict.NotGenuine {
		o.Seen.Raise(remember)
	}
	return out
}

// stated is the purpose that Donjon's claims state; otherwise where there are none.
func stated(e *envelope.Envelope, otherwise string) string {
	c, err := ownform.ParseClaims(e.Binds.Claims)
	if err != nil {
		return otherwise
	}
	return c.Purpose
}

// purposes are those that claims may state. In a certificate, enrol is good whoever
// issued it: the key that it proves never left the Keep that enrolled.
func purposes(e *envelope.Envelope, o Options) []string {
	switch {
	case o.Purpose != "":
		return []string{o.Purpose}
	case e.Binds.Carrier != nil:
		return []string{ownform.PurposeCertificate, ownform.PurposeEnrol}
	}
	return []string{ownform.PurposeFile, ownform.PurposeHTTP}
}

// rollback compares the collateral whose signatures hold with what was seen before
// (THREATS T25), and gives it to be remembered.
func (v *Verifier) rollback(e *envelope.Envelope, o Options, r *format.Result) *collateral.Set {
	if o.Seen == nil {
		return nil
	}
	used := collateral.Verified(collateral.Merge(e.Stapled, o.Collateral), v.vendorRoots(), nil)
	r.Add(collateral.Rollback(used, o.Seen)...)
	return used
}

// vendorRoots are the roots whose collateral is remembered.
func (v *Verifier) vendorRoots() []*x509.Certificate {
	var out []*x509.Certificate
	if c, err := dcap.IntelRootCertificate(); err == nil {
		out = append(out, c)
	}
	if products, err := snp.Products(); err == nil {
		for _, p := range products {
			out = append(out, p.ARK)
		}
	}
	return out
}

// eventLog replays a log against what the evidence signed.
func eventLog(c *claims.Claims, log []byte) verdict.Check {
	switch {
	case c.TPM != nil:
		return tpm.CheckPCRs(log, c.TPM.Bank, c.TPM.PCRs)
	case c.TDX != nil:
		return tpm.CheckRTMRs(log, c.TDX.RTMR)
	}
	return verdict.Fail(verdict.EventLog, "an event log beside evidence of "+c.TEE, "evidence with registers: a TPM quote or a TDX quote")
}

// format calls the verifier for the evidence.
func (v *Verifier) format(e *envelope.Envelope, o Options, p *policy.Policy) format.Result {
	f := &format.Options{At: o.At, Collateral: collateral.Merge(o.Collateral, e.Stapled), MaxAge: time.Duration(p.CollateralMaxAge),
		SimulatedRoots: o.SimulatedRoots}
	for _, d := range p.SimulatedRoots {
		if len(d) == len(pki.Hash{}) {
			f.SimulatedRoots = append(f.SimulatedRoots[:len(f.SimulatedRoots):len(f.SimulatedRoots)], pki.Hash(d))
		}
	}
	switch e.Kind {
	case envelope.SNP:
		return v.SNP.Verify(e.Evidence, f)
	case envelope.DCAP:
		return v.DCAP.Verify(e.Evidence, f)
	case envelope.Nitro:
		return v.Nitro.Verify(e.Evidence, f)
	case envelope.TPM:
		return v.tpm(e, f)
	}
	return format.Result{Checks: []verdict.Check{verdict.Fail(verdict.Form, "evidence of the kind "+string(e.Kind), "a kind with a verifier")}}
}

// tpm verifies a TPM quote, and where it is a composite the SNP report that names its
// key first.
func (v *Verifier) tpm(e *envelope.Envelope, f *format.Options) format.Result {
	if e.TPMEvidence.Composite == nil {
		return v.TPM.Verify(*e.TPMEvidence, f)
	}
	r := v.SNP.Verify(e.TPMEvidence.Composite.Report, f)
	if r.Claims == nil {
		return r
	}
	q := v.TPM.VerifyComposite(*e.TPMEvidence, r.Claims, f)
	r.Claims = q.Claims
	r.Add(q.Checks...)
	return r
}

// supersede puts the policy's checks behind the format's. Where the policy could
// make a check that the format could not (a key that the policy names), its answer
// takes the place; where the format has refused, with the better reason, the policy
// does not say so again.
func supersede(made, more []verdict.Check) []verdict.Check {
	has := func(list []verdict.Check, code verdict.Code, s verdict.Status) bool {
		return slices.ContainsFunc(list, func(c verdict.Check) bool { return c.Code == code && c.Status == s })
	}
	out := make([]verdict.Check, 0, len(made)+len(more))
	for _, c := range made {
		if c.Status != verdict.NotMade || !has(more, c.Code, verdict.Passed) {
			out = append(out, c)
		}
	}
	for _, c := range more {
		if c.Status == verdict.Passed || !has(made, c.Code, verdict.Failed) {
			out = append(out, c)
		}
	}
	return out
}

func formFailure(err error) verdict.Check {
	found := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "evidence: "), "found ")
	c := verdict.Fail(verdict.Form, found, "one piece of evidence of a known form")
	if h, ok := err.(interface{ Hint() string }); ok {
		c.Hint = h.Hint()
	}
	return c
}

// TEE names, as they stand in a policy and in claims.
const (
	SNP   = claims.SNP
	TDX   = claims.TDX
	SGX   = claims.SGX
	TPM   = claims.TPM
	Nitro = claims.Nitro
)
