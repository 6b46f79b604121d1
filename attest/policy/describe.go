package policy

import (
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Describe explains the policy in words, one line a rule.
func (p *Policy) Describe() []string {
	var out []string
	add := func(f string, a ...any) { out = append(out, fmt.Sprintf(f, a...)) }
	if p.Name != "" {
		add("policy %q", p.Name)
	}
	sections := p.sections()
	for _, tee := range []string{claims.SNP, claims.TDX, claims.SGX, claims.TPM, claims.Nitro} {
		if s, ok := sections[tee]; ok {
			add("%s is admitted where:", teeNames[tee])
			for _, line := range s.describe() {
				add("  %s", line)
			}
		} else {
			add("%s is refused: there is no section [%s]", teeNames[tee], tee)
		}
	}
	add("for all of them:")
	switch {
	case !p.namesWorkload():
		add("  workload: none is named: the check workload is not made, and without a waiver nothing is admitted")
	case p.Workloads != nil && len(p.Workloads) == 0:
		add("  workload: an empty list of digests admits none")
	default:
		for _, d := range p.Workloads {
			add("  workload: the host data is %s", d)
		}
	}
	for _, line := range p.describePeer() {
		add("  %s", line)
	}
	if p.RequireClaims {
		add("  claims: the evidence comes with the claims of a Keep")
	}
	if p.Freshness == FreshnessNone {
		add("  freshness: a recording is admitted; --nonce is compared where it is given")
	} else {
		add("  freshness: the evidence holds the nonce it was asked for with")
	}
	if note := TrustNote(p.Trust); note != "" {
		add("  %s", note)
	}
	switch {
	case p.AllowSimulated && len(p.SimulatedRoots) > 0:
		add("  SIMULATED evidence is admitted: it is not confidential")
	case p.AllowSimulated:
		add("  simulated evidence would be allowed, but no root is named: it is not genuine")
	default:
		add("  simulated evidence is refused")
	}
	for _, r := range p.SimulatedRoots {
		add("  simulated root: %s", r)
	}
	if p.CollateralMaxAge > 0 {
		add("  collateral is no older than %s", time.Duration(p.CollateralMaxAge))
	}
	for _, id := range p.FixedAdvisories {
		add("  advisory %s is fixed", id)
	}
	for _, w := range p.Waive {
		add("  waived: the check %s may remain not made: %s", w.Check, w.Reason)
	}
	return out
}

var teeNames = map[string]string{claims.SNP: "SEV-SNP", claims.TDX: "TDX", claims.SGX: "SGX", claims.TPM: "a TPM", claims.Nitro: "AWS Nitro"}
