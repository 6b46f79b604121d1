package enrol

import (
	"bytes"
	"errors"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/workload/signature"
)

// Trial is what a policy is tried with.
type Trial struct {
	Evidence []byte
	// For a signer's policy: what stands beside the workload, and the highest version
	// that was admitted.
	Signatures [][]byte
	Highest    uint64
}

// ErrTooMany is a Trial with more signatures than a Keep may send.
var ErrTooMany = errors.New("enrol: more signatures than a Keep may send")

// Dry judges stored evidence by a policy as enrolment would, but for what only a live
// connection can show: the challenge, the exporter and the keys are not compared, and
// are shown as not made. Nothing is recorded or released.
func (s *Service) Dry(t Trial, d *Document) (*verdict.Verdict, error) {
	if len(t.Signatures) > protocol.MaxSignatures {
		return nil, ErrTooMany
	}
	p := *d.Policy
	if !s.o.AllowSimulated {
		p.AllowSimulated = false
	}
	var list []*signature.Envelope
	why := verdict.Skip(verdict.WorkloadSignature, "no signature", "the signature beside the workload").From(sourceSigned)
	if w := d.Grant.Signed; w != nil && len(t.Signatures) > 0 {
		list, why = w.those(t.Signatures)
		p.Workloads = []policy.Digest{}
		for _, e := range list {
			p.Workloads = append(p.Workloads, e.Workload[:])
		}
	}
	// Also with evidence that `donjon run --evidence` wrote.
	o := attest.Options{At: s.o.Clock(), Policy: &p, Purpose: evidence.PurposeEnrol, AsStated: true}
	p.Freshness = policy.FreshnessNone
	if s.o.Collateral != nil {
		o.Collateral = s.o.Collateral()
	}
	v := s.verifier.Verify(t.Evidence, o)
	s.sayFlag(v, d.Policy)
	for i, c := range v.Checks {
		if c.Code == verdict.Nonce && c.Status == verdict.NotMade { // the policy waives nothing: its copy here does
			c = verdict.Skip(verdict.Nonce, "no challenge: this is a test of the policy", "a Keep that enrols answers one").From(c.Source)
			c.Informal = true
			v.Checks[i] = c
		}
	}
	if c := v.Claims; c != nil {
		v.Checks = append(v.Checks, d.Grant.platformCheck(c, len(d.Grant.Platforms) > 0))
		if d.Grant.Signed != nil {
			v.Checks = append(v.Checks, d.Grant.Signed.try(list, c.HostData, t.Highest, why)...)
		}
		live := verdict.Skip(verdict.ChannelBinding, "no connection: this is a test of the policy", "a Keep that enrols shows it")
		live.Informal = true
		v.Checks = append(v.Checks, live)
	}
	v.Conclude()
	return v, nil
}

// those are the signatures that hold and are of this signer and name; where there is
// none, the check says why.
func (s *Signed) those(list [][]byte) (out []*signature.Envelope, why verdict.Check) {
	for _, b := range list {
		e, c := openSignature(b)
		switch {
		case e == nil:
			why = c
		case e.Signer.ID().String() != s.Signer || e.Name != s.Name:
			why = verdict.Fail(verdict.WorkloadSignature, describe(e), s.Name+" by "+s.Signer).From(sourceSigned)
		default:
			out = append(out, e)
		}
	}
	return out, why
}

// try makes the checks of the signature over the workload that the evidence is of: of
// several, the one with the highest version.
func (s *Signed) try(list []*signature.Envelope, host []byte, highest uint64, why verdict.Check) []verdict.Check {
	if len(host) > 32 && bytes.Count(host[32:], []byte{0}) == len(host)-32 {
		host = host[:32]
	}
	var best *signature.Envelope
	for _, e := range list {
		if !bytes.Equal(e.Workload[:], host) {
			why = verdict.Fail(verdict.WorkloadSignature, "a signature over "+e.Workload.String(), "one over the workload that the evidence is of").From(sourceSigned)
		} else if best == nil || e.Version > best.Version {
			best = e
		}
	}
	if best == nil {
		return []verdict.Check{why}
	}
	if c := lowVersion(best, s, highest); c != nil {
		return []verdict.Check{signedChecks(best)[0], *c}
	}
	return signedChecks(best)
}
