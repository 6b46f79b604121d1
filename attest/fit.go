package attest

import (
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// unfit says whether a check is one that a person may waive and a program must not:
// without Intel's word any machine of Intel's can make any quote (its owner runs a
// quoting enclave of his own), and nobody knows what is open on it.
func unfit(c verdict.Code) bool {
	switch c {
	case verdict.QEIdentity, verdict.QEIdentitySignature, verdict.TCBInfoSignature, verdict.TCBInfoMatch, verdict.TCBStatus, verdict.TDXModule:
		return true
	}
	return false
}

// Fit writes a policy that admits exactly what the evidence shows: its measurements,
// its platform, its TCB as the floor. What must be waived for that stands in it by
// name with the reason. Where the evidence is not genuine, is debuggable, lacks Intel's
// collateral, or is otherwise nothing that a policy written by a program should admit,
// the error is the *verdict.Error that says why, and no policy is given. o.Policy is
// ignored. Of d, what its Compared and Trust say goes into the file.
func Fit(v *Verifier, evidence []byte, o Options, d policy.Draft) ([]byte, error) {
	o.Policy, o.PlatformOnly = nil, false
	first := v.Verify(evidence, o)
	if first.Outcome == verdict.NotGenuine {
		return nil, first.Err()
	}
	if first.Claims == nil {
		return nil, fmt.Errorf("attest: no claims to write a policy from")
	}
	// What the defaults could not check and a policy may waive becomes a waiver; then
	// the policy is tried, once more if it needs further ones.
	draft := policy.Draft{Claims: first.Claims, At: o.At, Evidence: first.Evidence, Nonce: o.Nonce != nil, Compared: d.Compared, Trust: d.Trust}
	var last *verdict.Verdict
	for range 3 {
		text := draft.TOML()
		p, err := policy.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("attest: the policy that was written does not hold: %w", err)
		}
		o.Policy = p
		last = v.Verify(evidence, o)
		if last.Outcome == verdict.Admitted {
			return text, nil
		}
		more := false
		for _, c := range last.Checks {
			info, ok := verdict.Lookup(c.Code)
			if ok && info.Waivable && !unfit(c.Code) && c.Status == verdict.NotMade && c.Waived == "" && !c.Informal && !draft.Waives(c.Code) {
				draft.Waive = append(draft.Waive, policy.Waiver{Check: c.Code, Reason: strings.TrimSpace(c.Found) + " (when this policy was written)"})
				more = true
			}
		}
		if !more {
			break
		}
	}
	return nil, last.Err()
}
