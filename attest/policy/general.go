package policy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Demand is what the verifier adds to the policy for one appraisal.
type Demand struct {
	At    time.Time
	Nonce []byte // empty: the verifier sent none
	// Purposes are those of which Donjon's claims must state one; none: file.
	Purposes []string
	// ClaimsWanted says that evidence without Donjon's claims does not do: somebody asked
	// for the purpose.
	ClaimsWanted bool
	// NoPolicy says that the policy is Default because none was given.
	NoPolicy bool
	// PlatformOnly judges the platform alone: which software and workload it runs,
	// and for whom the evidence was made, is shown as not made and not demanded.
	PlatformOnly bool
	// Peer is what is known of both ends where a Keep judges; nil: nothing.
	Peer *Peer
	// TimeSource is where At is from, inside a Keep.
	TimeSource TimeSource
}

const noPolicy = "no policy says which software is wanted"

// Appraise gives the checks that follow from the policy, for claims of genuine
// evidence.
func (p *Policy) Appraise(c *claims.Claims, d Demand) []verdict.Check {
	var out []verdict.Check
	out = append(out, p.simulated(c)...)
	sections := p.sections()
	s, ok := sections[c.TEE]
	if !ok {
		out = append(out, verdict.Fail(verdict.TEEAdmitted, c.TEE, "one of "+strings.Join(keys(sections), ", ")).
			From("policy: its sections").Advise("add a section ["+c.TEE+"] if this TEE is wanted"))
		return out
	}
	out = append(out, verdict.Pass(verdict.TEEAdmitted, c.TEE))
	out = append(out, s.appraise(c, d, p)...)
	if c.TPM != nil && c.TEE != claims.TPM { // a vTPM that a TEE's report names
		if p.TPM == nil {
			out = append(out, verdict.Fail(verdict.TEEAdmitted, "a TPM quote beside "+c.TEE, "a section [tpm]").From("policy: its sections"))
		} else {
			out = append(out, p.TPM.appraise(c, d, p)...)
		}
	}
	out = append(out, p.freshness(c, d), p.purpose(c, d))
	out = append(out, p.workload(c, d)...)
	out = append(out, p.peerRole(c, d), p.timeSource(d))
	kept := out[:0]
	for _, k := range out {
		if k.Code != "" {
			kept = append(kept, k)
		}
	}
	return kept
}

// software marks a check of software as not demanded where only the platform is
// judged.
func (d Demand) software(c verdict.Check) verdict.Check {
	if d.PlatformOnly {
		c.Informal = c.Status == verdict.NotMade
	}
	return c
}

func (p *Policy) simulated(c *claims.Claims) []verdict.Check {
	if !c.Root.Simulated {
		return nil
	}
	found := "a simulated root, " + c.Root.SHA256.String()
	if p.AllowSimulated {
		return []verdict.Check{verdict.Pass(verdict.SimulatedRoot, found+"; the policy allows it").From("policy: allow_simulated")}
	}
	return []verdict.Check{verdict.Fail(verdict.SimulatedRoot, found, "hardware").From("policy: allow_simulated").
		Advise("nothing simulated is confidential; allow_simulated = true admits it, for development")}
}

// freshness compares the nonce: the claims' own, a format's own, or report data
// that is the nonce, zero padded.
func (p *Policy) freshness(c *claims.Claims, d Demand) verdict.Check {
	if len(d.Nonce) == 0 { // an empty one would be in all evidence that has none
		k := verdict.Skip(verdict.Nonce, "no nonce was given: this may be a recording", "send the attester a random nonce and give it here")
		if p.Freshness == FreshnessNone {
			k.Waived = `the policy says freshness = "none"`
		}
		return d.software(k.From("policy: freshness"))
	}
	found, ok := []byte(c.ReportData), false
	switch {
	case c.Keep != nil:
		found = c.Keep.Nonce
		ok = bytes.Equal(found, d.Nonce)
	case c.Nonce != nil:
		found = c.Nonce
		ok = bytes.Equal(found, d.Nonce)
	default:
		ok = len(d.Nonce) >= 8 && bytes.HasPrefix(found, d.Nonce) && claims.Zero(found[len(d.Nonce):])
	}
	if ok {
		return verdict.Pass(verdict.Nonce, hex.EncodeToString(found))
	}
	return verdict.Fail(verdict.Nonce, hex.EncodeToString(found), hex.EncodeToString(d.Nonce)).
		Advise("this was made for somebody else's question, or is a recording")
}

func (p *Policy) purpose(c *claims.Claims, d Demand) verdict.Check {
	want := d.Purposes
	if len(want) == 0 {
		want = []string{"file"}
	}
	if c.Keep == nil {
		if d.ClaimsWanted || p.RequireClaims {
			return verdict.Fail(verdict.Purpose, "no claims of a Keep", strings.Join(want, " or ")).From("docs/evidence.md, claims").
				Advise("nothing in this evidence says what it is for")
		}
		return verdict.Check{}
	}
	if slices.Contains(want, c.Keep.Purpose) {
		return verdict.Pass(verdict.Purpose, c.Keep.Purpose)
	}
	return verdict.Fail(verdict.Purpose, c.Keep.Purpose, strings.Join(want, " or ")).From("docs/evidence.md, claims").
		Advise("evidence for one use is not good for another")
}

// workload judges the host data alone (THREATS T23): a claim of that name was
// compared with it before.
func (p *Policy) workload(c *claims.Claims, d Demand) []verdict.Check {
	const hint = "without host data nothing in the hardware's word says which workload runs"
	if c.HostData == nil {
		out := []verdict.Check{d.software(verdict.Skip(verdict.WorkloadBinding, "evidence of "+c.TEE+" has no host data", hint))}
		if p.namesWorkload() { // doing without the binding is not yet doing without the list
			out = append(out, d.software(verdict.Skip(verdict.Workload, "evidence of "+c.TEE+" names no workload", "").Want(p.workloadWanted(d)).From(p.workloadKeys())))
		}
		return out
	}
	if claims.Zero(c.HostData) && p.namesWorkload() {
		return []verdict.Check{verdict.Fail(verdict.Workload, "host data of zeros: no workload is named", p.workloadWanted(d)).From(p.workloadKeys())}
	}
	if claims.Zero(c.HostData) {
		return []verdict.Check{d.software(verdict.Skip(verdict.WorkloadBinding, "the host data is zero: no workload is named", hint))}
	}
	if len(c.HostData) > 32 && !claims.Zero(c.HostData[32:]) {
		if !p.namesWorkload() && c.Keep == nil {
			// Somebody else's use of the field: no workload of ours, and none was asked for.
			return []verdict.Check{d.software(verdict.Skip(verdict.WorkloadBinding, "host data that is no digest of 32 bytes, "+c.HostData.String(), hint))}
		}
		return []verdict.Check{verdict.Fail(verdict.WorkloadBinding, "host data with more than 32 bytes, "+c.HostData.String(), "a digest of 32 bytes, then zeros")}
	}
	digest := c.HostData[:min(32, len(c.HostData))]
	out := []verdict.Check{verdict.Pass(verdict.WorkloadBinding, digest.String())}
	if !p.namesWorkload() {
		why := "the policy names no workload"
		if d.NoPolicy {
			why = noPolicy
		}
		k := d.software(verdict.Skip(verdict.Workload, why, "workloads = [\""+digest.String()+"\"] admits this one").From("policy: workloads"))
		return append(out, k)
	}
	return append(out, d.software(p.named(digest, d)))
}

// pinned is the check runtime-pinned where the policy names nothing to compare
// with: without it evidence is never admitted (THREATS T1).
func (d Demand) unpinned(found string) verdict.Check {
	why := "the policy names no program; measured: " + found
	if d.NoPolicy {
		why = noPolicy + "; measured: " + found
	}
	return d.software(verdict.Skip(verdict.RuntimePinned, why, "compare the measurement with one that you computed, and name it in the policy"))
}

func contains(list []Digest, d []byte) bool {
	for _, x := range list {
		if bytes.Equal(x, d) {
			return true
		}
	}
	return false
}

// oneOf prints what a list admits.
func oneOf(list []Digest) string {
	switch len(list) {
	case 0:
		return "nothing: the list is empty"
	case 1:
		return list[0].String()
	}
	s := make([]string, 0, 4)
	for i, d := range list {
		if i == 3 {
			s = append(s, fmt.Sprintf("%d more", len(list)-3))
			break
		}
		s = append(s, d.String())
	}
	return "one of " + strings.Join(s, ", ")
}

func keys(m map[string]section) []string {
	var out []string
	for _, k := range []string{claims.SNP, claims.TDX, claims.SGX, claims.TPM, claims.Nitro} {
		if _, ok := m[k]; ok {
			out = append(out, k)
		}
	}
	return out
}
