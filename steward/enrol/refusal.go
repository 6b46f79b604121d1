package enrol

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
)

// Code says why there is no certificate. Codes are stable: docs/steward-protocol.md.
type Code string

// The codes.
const (
	CodeMalformed         Code = "malformed"
	CodeChallengeUnknown  Code = "challenge-unknown"
	CodeChallengeExpired  Code = "challenge-expired"
	CodeChallengeUsed     Code = "challenge-used"
	CodeEvidenceUsed      Code = "evidence-used" // the endpoint in Enarx's form alone
	CodeWorkloadUnknown   Code = "workload-unknown"
	CodeSignatureInvalid  Code = "signature-invalid"
	CodeVersionLow        Code = "version-low"
	CodeNotGenuine        Code = "not-genuine"
	CodeBinding           Code = "binding"
	CodeRefused           Code = "refused"
	CodeCannotTell        Code = "cannot-tell"
	CodeInstances         Code = "instances"
	CodeSecretMissing     Code = "secret-missing"
	CodeSecretUnconfirmed Code = "secret-unconfirmed"
	CodeSuspended         Code = "suspended"
	CodeBusy              Code = "busy"
	CodeTooLarge          Code = "too-large"
	CodeInternal          Code = "internal"
)

// codes gives each its HTTP status and title.
var codes = map[Code]struct {
	status int
	title  string
}{
	CodeMalformed:         {http.StatusBadRequest, "the request is not in its form"},
	CodeChallengeUnknown:  {http.StatusForbidden, "the challenge is not this Steward's"},
	CodeChallengeExpired:  {http.StatusForbidden, "the challenge has expired"},
	CodeChallengeUsed:     {http.StatusForbidden, "the challenge was used before"},
	CodeEvidenceUsed:      {http.StatusForbidden, "this evidence was certified before"},
	CodeWorkloadUnknown:   {http.StatusForbidden, "this workload is not allowed here"},
	CodeSignatureInvalid:  {http.StatusForbidden, "the signature is not one of this workload"},
	CodeVersionLow:        {http.StatusForbidden, "the signed version is too low"},
	CodeNotGenuine:        {http.StatusForbidden, "the evidence is not genuine"},
	CodeBinding:           {http.StatusForbidden, "the evidence was made for something else"},
	CodeRefused:           {http.StatusForbidden, "the evidence is genuine, and the policy refuses it"},
	CodeCannotTell:        {http.StatusForbidden, "something that the policy demands could not be checked"},
	CodeInstances:         {http.StatusForbidden, "the workload runs as often as it may"},
	CodeSecretMissing:     {http.StatusForbidden, "a secret that the workload declares was never set"},
	CodeSecretUnconfirmed: {http.StatusForbidden, "a secret was set under another policy"},
	CodeSuspended:         {http.StatusServiceUnavailable, "a backup was restored, and grants are not confirmed"},
	CodeBusy:              {http.StatusServiceUnavailable, "too much at once"},
	CodeTooLarge:          {http.StatusRequestEntityTooLarge, "the request is too large"},
	CodeInternal:          {http.StatusInternalServerError, "the Steward could not decide"},
}

// ProblemFor makes the answer for a code; instance is the request's id.
func ProblemFor(code Code, instance, detail string) *protocol.Problem {
	c, ok := codes[code]
	if !ok {
		code, c = CodeInternal, codes[CodeInternal]
	}
	return &protocol.Problem{Type: "https://github.com/donjon-tee/donjon/blob/main/docs/steward-protocol.md#" + string(code), Title: c.title, Status: c.status,
		Detail: verdict.Escape(detail), Instance: instance, Code: string(code)}
}

func problem(code Code, peer Peer, detail string, v *verdict.Verdict) *protocol.Problem {
	p := ProblemFor(code, peer.Request, detail)
	if v != nil {
		p.Checks = shown(v.Deciding())
		if p.Detail == "" && len(p.Checks) > 0 {
			p.Detail = "the check " + string(p.Checks[0].Code) + " " + word(p.Checks[0].Status)
		}
	}
	return p
}

func word(s verdict.Status) string {
	if s == verdict.NotMade {
		return "was not made"
	}
	return string(s)
}

// shown is what the caller may see: the checks that decided, with what its own
// evidence says. Lists of machines and signers that a policy names stay inside.
func shown(list []verdict.Check) []verdict.Check {
	out := make([]verdict.Check, 0, len(list))
	for _, c := range list[:min(len(list), 16)] {
		switch c.Code {
		case verdict.Platforms, verdict.IDBlock, verdict.RuntimePinned:
			c.Wanted = "what the policy names"
		}
		c.Found, c.Wanted, c.Hint = audit.Clip(c.Found), audit.Clip(c.Wanted), audit.Clip(c.Hint)
		out = append(out, c)
	}
	return out
}

// refuse records the refusal, which uses the challenge up, and gives the answer. A
// request that comes again with a used challenge is answered, and not recorded a
// second time: the log cannot be filled with one challenge.
func (s *Service) refuse(ctx context.Context, r *request, code Code) Result {
	d := s.decision(r)
	d.Record.Code = string(code)
	if d.Record.Outcome == verdict.Admitted {
		d.Record.Outcome = verdict.Refused // the verdict admits; something else does not
	}
	receipt, err := s.o.Store.Decide(ctx, d)
	if again, refusal := refusalOf(err); refusal {
		if again == CodeChallengeUsed {
			return Result{Problem: problem(CodeChallengeUsed, r.peer, "", nil), Verdict: r.verdict, Workload: r.subject}
		}
		return Result{Problem: problem(again, r.peer, "", nil), Verdict: r.verdict, Workload: r.subject, Err: err}
	}
	if err != nil {
		return s.failed(r, err)
	}
	p := problem(code, r.peer, "", r.verdict)
	if head, err := s.head(receipt, r.at); err == nil {
		p.AuditHead = head
	}
	return Result{Problem: p, Verdict: r.verdict, Receipt: receipt, Workload: r.subject}
}

// failed is the answer where the Steward itself could not go on.
func (s *Service) failed(r *request, err error) Result {
	code, detail := CodeInternal, ""
	switch {
	case errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrConflict), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code, detail = CodeBusy, "try again"
	case errors.Is(err, store.ErrUnavailable):
		detail = "the database cannot be reached: try again with a new challenge"
	}
	return Result{Problem: problem(code, r.peer, detail, nil), Verdict: r.verdict, Err: err, Workload: r.subject}
}

// refusalOf tells what the store refuses from what it cannot do.
func refusalOf(err error) (Code, bool) {
	switch {
	case errors.Is(err, store.ErrChallengeUsed):
		return CodeChallengeUsed, true
	case errors.Is(err, store.ErrInstances):
		return CodeInstances, true
	case errors.Is(err, store.ErrDowngrade):
		return CodeVersionLow, true
	case errors.Is(err, store.ErrEpoch):
		return CodeChallengeUnknown, true
	case errors.Is(err, store.ErrSuspended):
		return CodeSuspended, true
	}
	return "", false
}

// addStoreCheck says in the record what the store refused.
func (r *request) addStoreCheck(code Code) {
	switch code {
	case CodeVersionLow:
		r.fail(verdict.Fail(verdict.WorkloadVersion, versionOf(r.signed), "no lower than one that was admitted meanwhile").From("this Steward's decisions"))
	case CodeInstances:
		r.fail(verdict.Fail(verdict.Workload, "the workload runs as often as it may", "a place that is free").From("policy: [steward] max_instances").
			Advise("wait for a certificate to end, or donjon steward workload leases"))
	}
}

// decision is what is recorded of a request, admitted or not.
func (s *Service) decision(r *request) store.Decision {
	detail := r.detailJSON()
	rec := audit.Record{Kind: audit.Decision, Who: audit.Clip(r.peer.Address), Workload: r.subject, Request: audit.Clip(r.peer.Request),
		Challenge: sha256.Sum256(r.challenge), PolicyVersion: r.version}
	d := store.Decision{At: r.at, Epoch: r.epoch, Detail: detail,
		Once: []store.Once{{Kind: store.OnceChallenge, Digest: sha256.Sum256(r.challenge), Expires: r.expires.Add(time.Hour)}}}
	if r.doc != nil {
		rec.Policy = r.doc.Digest
	}
	if r.signed != nil {
		rec.Signer, rec.SignedName, rec.SignedVersion = r.signed.Signer.ID().String(), r.signed.Name, r.signed.Version
	}
	fill(&rec, &d, r.verdict, r.Request)
	if detail != nil {
		rec.Detail = sha256.Sum256(detail)
	}
	d.Record = rec
	return d
}

// fill takes from a verdict what the log and the lists show.
func fill(rec *audit.Record, d *store.Decision, v *verdict.Verdict, evidence []byte) {
	rec.Evidence = sha256.Sum256(evidence)
	rec.Outcome, rec.Simulated, rec.Checks = v.Outcome, v.Simulated, audit.Checks(v.Checks)
	c := v.Claims
	if c == nil {
		return
	}
	rec.TEE = c.TEE
	if c.Keep != nil {
		rec.Instance = c.Keep.Instance.String()
	}
	if b, err := json.Marshal(c); err == nil {
		rec.Claims = sha256.Sum256(b)
	}
	d.TCBStatus = audit.Clip(v.TCBStatus)
	if names := platformsOf(c); len(names) > 0 {
		d.Platform = audit.Clip(names[0])
	}
	for _, a := range v.Advisories {
		if a.State == "exposed" && len(d.Exposed) < 64 {
			d.Exposed = append(d.Exposed, audit.Clip(a.ID))
		}
	}
}
