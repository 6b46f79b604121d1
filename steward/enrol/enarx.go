package enrol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
)

// Enarx are the rules of the endpoint in Enarx's form (THREATS T5). Its requests have
// no nonce and bind no workload, so what it issues stands under a CA of its own, and
// is neither token nor secret. The zero value certifies nothing.
type Enarx struct {
	// Policy is what evidence must show; nil: nothing is good enough.
	Policy *policy.Policy
	// AllowKVM certifies requests with the empty extension of KVM, which prove nothing,
	// where simulated evidence is allowed too.
	AllowKVM bool
	DNS      []string      // names in the certificates
	Validity time.Duration // of the certificates; 0: 28 days, as Enarx's Steward has it
	// Notes say what the policy leaves open, for the operator.
	Notes []string

	demands []demand // what Enarx's TOML says beyond the policy
}

// MaxEnarx bounds a bundle of requests.
const MaxEnarx = 16

var oidEnarx = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 1} // .1 KVM, .2 SGX, .3 SNP

// enarxRequest is one request on its way.
type enarxRequest struct {
	der  []byte
	key  crypto.PublicKey
	spki []byte
	kvm  *pkix.Extension
}

// EnarxResult is what became of a bundle.
type EnarxResult struct {
	Certificates [][]byte // DER, one a request, in order
	Problem      *protocol.Problem
	Verdicts     []*verdict.Verdict
	Err          error
}

// Enarx judges requests in Enarx's form: all of them are certified, or none. Each key,
// and so each piece of evidence, which binds one, is certified once.
func (s *Service) Enarx(ctx context.Context, requests [][]byte, peer Peer) EnarxResult {
	if s.o.Enarx == nil || len(requests) == 0 || len(requests) > MaxEnarx {
		return EnarxResult{Problem: problem(CodeMalformed, peer, fmt.Sprintf("found %d requests, wanted 1 to %d", len(requests), MaxEnarx), nil)}
	}
	var out EnarxResult
	var parsed []enarxRequest
	for _, der := range requests {
		r, err := parseEnarx(der)
		if err != nil {
			return EnarxResult{Problem: problem(CodeMalformed, peer, err.Error(), nil)}
		}
		parsed = append(parsed, r)
		v := s.judgeEnarx(r)
		out.Verdicts = append(out.Verdicts, v)
		if v.Outcome != verdict.Admitted {
			code := map[verdict.Outcome]Code{verdict.Refused: CodeRefused, verdict.CannotTell: CodeCannotTell}[v.Outcome]
			if code == "" {
				code = CodeNotGenuine
			}
			out.Problem = problem(code, peer, "", v)
			// A refusal uses nothing up: without a nonce, whoever saw the request could
			// use it up for its owner.
			_, out.Err = s.o.Store.Decide(ctx, s.enarxDecision(r, v, peer, code, nil))
			return out
		}
	}
	for i, r := range parsed {
		der, p, err := s.certifyEnarx(ctx, r, out.Verdicts[i], peer)
		if p != nil {
			return EnarxResult{Problem: p, Err: err, Verdicts: out.Verdicts}
		}
		out.Certificates = append(out.Certificates, der)
	}
	return out
}

func parseEnarx(der []byte) (enarxRequest, error) {
	c, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return enarxRequest{}, fmt.Errorf("the request: %w", err)
	}
	if !bytes.Equal(c.Raw, der) {
		return enarxRequest{}, errors.New("the request: bytes behind it")
	}
	if err := authority.CheckKey(c.PublicKey); err != nil {
		return enarxRequest{}, fmt.Errorf("the request: %w", err)
	}
	if err := c.CheckSignature(); err != nil {
		return enarxRequest{}, fmt.Errorf("the request's own signature: %w", err)
	}
	r := enarxRequest{der: der, key: c.PublicKey, spki: c.RawSubjectPublicKeyInfo}
	found := 0
	for i, x := range c.Extensions {
		if len(x.Id) == len(oidEnarx)+1 && x.Id[:len(oidEnarx)].Equal(oidEnarx) {
			found++
			if x.Id[len(oidEnarx)] == 1 {
				r.kvm = &c.Extensions[i]
			}
		}
	}
	if found != 1 {
		return enarxRequest{}, fmt.Errorf("found %d extensions with evidence in Enarx's form, wanted one", found)
	}
	return r, nil
}

func (s *Service) judgeEnarx(r enarxRequest) *verdict.Verdict {
	rules, now := s.o.Enarx, s.o.Clock()
	if r.kvm != nil {
		v := &verdict.Verdict{At: now.UTC(), Form: "PKCS#10 request, KVM: no evidence", Evidence: verdict.Digest(r.der), Simulated: true, Advisories: []verdict.Advisory{}}
		const found = "KVM, which is no TEE: nothing is proved"
		if rules.AllowKVM && s.o.AllowSimulated && len(r.kvm.Value) == 0 {
			v.Checks = []verdict.Check{verdict.Pass(verdict.SimulatedRoot, found+"; --enarx-kvm allows it")}
		} else {
			v.Checks = []verdict.Check{verdict.Fail(verdict.SimulatedRoot, found, "evidence of a TEE").Advise("--enarx-kvm and --allow-simulated admit it, for development")}
		}
		v.Conclude()
		return v
	}
	p := policy.Policy{Version: 1}
	if rules.Policy != nil {
		p = *rules.Policy
	}
	if !s.o.AllowSimulated {
		p.AllowSimulated = false
	}
	p.Freshness = policy.FreshnessNone // there is no nonce in this form
	o := attest.Options{At: now, Policy: &p}
	if s.o.Collateral != nil {
		o.Collateral = s.o.Collateral()
	}
	v := s.verifier.Verify(r.der, o)
	if v.Claims != nil {
		for _, d := range rules.demands {
			v.Checks = append(v.Checks, d(v.Claims)...)
		}
		// Enarx's evidence names no workload, and this endpoint knows none.
		for i := range v.Checks {
			if c := &v.Checks[i]; (c.Code == verdict.WorkloadBinding || c.Code == verdict.Workload) && c.Status == verdict.NotMade && c.Waived == "" {
				c.Informal = true
			}
		}
		if !bytes.Equal(v.Claims.Key, authority.SPKI(r.spki)) {
			v.Checks = append(v.Checks, verdict.Fail(verdict.KeyBinding, "evidence about another key", "the request's key"))
		}
	}
	v.Conclude()
	return v
}

func (s *Service) certifyEnarx(ctx context.Context, r enarxRequest, v *verdict.Verdict, peer Peer) ([]byte, *protocol.Problem, error) {
	now, life := s.o.Clock(), s.o.Enarx.Validity
	if life == 0 {
		life = 28 * 24 * time.Hour
	}
	names, err := s.o.Names.Grant(s.o.Enarx.DNS)
	if err != nil {
		return nil, problem(CodeInternal, peer, "", nil), err
	}
	serial := authority.Serial()
	certificate := &store.NewCertificate{Serial: serial.Bytes(), CA: "enarx", NotBefore: now, NotAfter: now.Add(life)}
	d := s.enarxDecision(r, v, peer, "", certificate)
	_, err = s.o.Store.Decide(ctx, d)
	switch code, refusal := refusalOf(err); {
	case refusal && code == CodeChallengeUsed:
		return nil, problem(CodeEvidenceUsed, peer, "a fresh key and fresh evidence are certified; the same again are not", nil), nil
	case refusal:
		return nil, problem(code, peer, "", nil), err
	case errors.Is(err, store.ErrBusy):
		return nil, problem(CodeBusy, peer, "try again", nil), err
	case err != nil:
		return nil, problem(CodeInternal, peer, "", nil), err
	}
	var more []pkix.Extension
	if r.kvm != nil { // so that whoever sees the certificate sees what it stands on
		more = append(more, *r.kvm)
	}
	der, err := s.o.Authority.Enarx(r.key, names, life, serial, more)
	if err != nil {
		return nil, problem(CodeInternal, peer, "", nil), err
	}
	return der, nil, nil
}

func (s *Service) enarxDecision(r enarxRequest, v *verdict.Verdict, peer Peer, code Code, c *store.NewCertificate) store.Decision {
	rec := audit.Record{Kind: audit.Decision, Who: audit.Clip(peer.Address), Request: audit.Clip(peer.Request), Code: string(code), Name: "enarx"}
	d := store.Decision{At: s.o.Clock(), Epoch: s.Epoch().Number, Certificate: c}
	if c != nil {
		rec.Serial = c.Serial
		d.Once = []store.Once{{Kind: store.OnceEvidence, Digest: sha256.Sum256(append([]byte("donjon enarx key/1\x00"), r.spki...))}}
	}
	if p := s.o.Enarx.Policy; p != nil && p.Raw() != nil {
		rec.Policy = sha256.Sum256(p.Raw())
	}
	fill(&rec, &d, v, r.der)
	if b, err := json.Marshal(v); err == nil && len(b) <= store.MaxDetail {
		d.Detail, rec.Detail = b, sha256.Sum256(b)
	}
	d.Record = rec
	return d
}
