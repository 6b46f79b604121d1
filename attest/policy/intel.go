package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Intel are the rules for the platform under an enclave or a TD, the same in the
// sections [sgx] and [tdx].
type Intel struct {
	// Statuses are the TCB statuses that are accepted, in Intel's spelling. Absent:
	// ["UpToDate"]. Revoked and NotSupported cannot be accepted.
	Statuses []string `toml:"statuses"`
	// Advisories are the advisories (INTEL-SA-…) that may be open: those that Intel
	// lists for the platform's level. Absent: none.
	Advisories []string `toml:"advisories"`
	// MinEvaluationNumber is the least TCB evaluation data number of the TCB info and
	// the QE identity: older ones do not know the newest advisories. 0: any.
	MinEvaluationNumber uint32 `toml:"min_evaluation_number"`
	// FMSPCs are the platform models, 6 bytes each. Absent: any.
	FMSPCs []Digest `toml:"fmspcs"`
	// Platforms are the machines, by the platform instance id of 16 bytes in their PCK
	// certificate. Absent: any. Machines with one processor have none and match no
	// list.
	Platforms []Digest `toml:"platforms"`
	// ForbidDynamicPlatform refuses machines to which processors can be added after
	// their registration.
	ForbidDynamicPlatform bool `toml:"forbid_dynamic_platform"`
	// ForbidSMT refuses machines with hyper-threading enabled.
	ForbidSMT bool `toml:"forbid_smt"`
}

// acceptable are the statuses that a policy can accept.
func acceptable() []string {
	return []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
		"OutOfDate", "OutOfDateConfigurationNeeded", "TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"}
}

func (s *Intel) checkIntel() error {
	for _, x := range s.Statuses {
		if !slices.Contains(acceptable(), x) {
			return fmt.Errorf("statuses: found %q, wanted one of %s", x, strings.Join(acceptable(), ", "))
		}
	}
	for _, a := range s.Advisories {
		if strings.TrimSpace(a) == "" || len(a) > 64 {
			return fmt.Errorf("advisories: found %.80q, wanted an id such as INTEL-SA-00615", a)
		}
	}
	if err := sizes("fmspcs", s.FMSPCs, 6); err != nil {
		return err
	}
	return sizes("platforms", s.Platforms, 16)
}

// sizes demands n bytes of every member of a list.
func sizes(name string, list []Digest, n int) error {
	for _, d := range list {
		if len(d) != n {
			return fmt.Errorf("%s: found %d bytes, wanted %d", name, len(d), n)
		}
	}
	return nil
}

func (s *Intel) statuses() []string {
	if s.Statuses == nil {
		return []string{"UpToDate"}
	}
	return s.Statuses
}

// platform judges what Intel says of the platform. section is sgx or tdx.
func (s *Intel) platform(in *claims.IntelPlatform, section string) []verdict.Check {
	if in == nil {
		return []verdict.Check{verdict.Skip(verdict.TCBStatus, "the evidence says nothing about its platform", "")}
	}
	out := []verdict.Check{s.status(in, section)}
	if in.Status != "" {
		out = append(out, s.open(in, section))
	}
	if s.MinEvaluationNumber > 0 {
		out = append(out, s.evaluation(in, section))
	}
	if s.FMSPCs != nil {
		out = append(out, listed(verdict.Platforms, "FMSPC ", s.FMSPCs, in.FMSPC, section+".fmspcs"))
	}
	if s.Platforms != nil {
		out = append(out, listed(verdict.Platforms, "platform instance ", s.Platforms, in.PlatformInstanceID, section+".platforms"))
	}
	if s.ForbidDynamicPlatform {
		out = append(out, forbidden("a dynamic platform", in.DynamicPlatform, section+".forbid_dynamic_platform"))
	}
	if s.ForbidSMT {
		out = append(out, forbidden("hyper-threading", in.SMTEnabled, section+".forbid_smt"))
	}
	return out
}

func (s *Intel) status(in *claims.IntelPlatform, section string) verdict.Check {
	from := "policy: " + section + ".statuses"
	wanted := "one of " + strings.Join(s.statuses(), ", ")
	if len(s.statuses()) == 0 {
		wanted = "nothing: the list is empty"
	}
	found := in.Status
	if in.ModuleStatus != "" || in.QEStatus != "" {
		module := ""
		if section == claims.TDX {
			module = ", TDX module " + judged(in.ModuleStatus)
		}
		found = fmt.Sprintf("%s (platform %s%s, quoting enclave %s)", in.Status, judged(in.PlatformStatus), module, judged(in.QEStatus))
	}
	switch {
	case in.Status == "":
		return verdict.Skip(verdict.TCBStatus, "no TCB info of Intel's for this platform could be used", "give the collateral of this platform").Want(wanted).From(from)
	case slices.Contains(acceptable(), in.Status) && slices.Contains(s.statuses(), in.Status):
		return verdict.Pass(verdict.TCBStatus, found).From(from)
	}
	return verdict.Fail(verdict.TCBStatus, found, wanted).From(from).
		Advise("update the machine's firmware, microcode or TDX module; or accept the status by name, knowing its advisories")
}

func judged(s string) string {
	if s == "" {
		return "not judged"
	}
	return s
}

func (s *Intel) open(in *claims.IntelPlatform, section string) verdict.Check {
	var bad []string
	for _, a := range in.AdvisoryIDs {
		if !slices.Contains(s.Advisories, a) {
			bad = append(bad, a)
		}
	}
	from := "policy: " + section + ".advisories"
	if len(bad) > 0 {
		return verdict.Fail(verdict.Advisories, "open: "+strings.Join(bad, ", "), "no advisory that the policy does not accept").From(from).
			Advise("update the machine, or accept the advisories by name")
	}
	found := "Intel lists none for this level"
	if len(in.AdvisoryIDs) > 0 {
		found = "accepted by name: " + strings.Join(in.AdvisoryIDs, ", ")
	}
	return verdict.Pass(verdict.Advisories, found).From(from)
}

func (s *Intel) evaluation(in *claims.IntelPlatform, section string) verdict.Check {
	from := "policy: " + section + ".min_evaluation_number"
	wanted := fmt.Sprintf("at least %d", s.MinEvaluationNumber)
	found := fmt.Sprintf("TCB info %d, QE identity %d", in.Evaluation, in.QEEvaluation)
	const hint = "fetch newer collateral (update=early gives the newest)"
	low := func(n uint32, judged bool) bool { return judged && n < s.MinEvaluationNumber }
	switch info, qe := in.Status != "", in.QEStatus != ""; {
	case low(in.Evaluation, info) || low(in.QEEvaluation, qe):
		return verdict.Fail(verdict.EvaluationNumber, found, wanted).From(from).Advise(hint)
	case !info || !qe:
		return verdict.Skip(verdict.EvaluationNumber, "the TCB info or the QE identity is not at hand", hint).Want(wanted).From(from)
	}
	return verdict.Pass(verdict.EvaluationNumber, found).From(from)
}

// listed compares a value with a list that the policy gives.
func listed(code verdict.Code, name string, list []Digest, found []byte, field string) verdict.Check {
	if len(found) == 0 {
		return verdict.Fail(code, name+"absent", oneOf(list)).From("policy: " + field)
	}
	if contains(list, found) {
		return verdict.Pass(code, name+claims.Hex(found).String()).From("policy: " + field)
	}
	return verdict.Fail(code, name+claims.Hex(found).String(), oneOf(list)).From("policy: " + field)
}

func forbidden(what string, flag *bool, field string) verdict.Check {
	switch {
	case flag == nil:
		return verdict.Skip(verdict.Platforms, "the PCK certificate does not say whether it is "+what, "").From("policy: " + field)
	case *flag:
		return verdict.Fail(verdict.Platforms, what, "none").From("policy: " + field)
	}
	return verdict.Pass(verdict.Platforms, "not "+what).From("policy: " + field)
}

func (s *Intel) describeIntel() []string {
	out := []string{"Intel's status for the platform, TDX module and quoting enclave together must be " + words(s.statuses())}
	if len(s.Advisories) > 0 {
		out = append(out, "these advisories may be open: "+strings.Join(s.Advisories, ", "))
	} else {
		out = append(out, "no advisory may be open")
	}
	if s.MinEvaluationNumber > 0 {
		out = append(out, fmt.Sprintf("TCB info and QE identity must have evaluation number %d or higher", s.MinEvaluationNumber))
	}
	if s.FMSPCs != nil {
		out = append(out, "the platform model (FMSPC) must be "+oneOf(s.FMSPCs))
	}
	if s.Platforms != nil {
		out = append(out, "the machine (platform instance id) must be "+oneOf(s.Platforms))
	}
	if s.ForbidDynamicPlatform {
		out = append(out, "no processor may be added to the machine later")
	}
	if s.ForbidSMT {
		out = append(out, "hyper-threading must be off")
	}
	return out
}

func words(list []string) string {
	if len(list) == 0 {
		return "nothing: the list is empty"
	}
	return strings.Join(list, " or ")
}

// bitsWithin says which bits of a number are set that are not in allowed.
func bitsWithin(code verdict.Code, name string, v, allowed uint64, field string) verdict.Check {
	found := fmt.Sprintf("%s %#x", name, v)
	if extra := v &^ allowed; extra != 0 {
		return verdict.Fail(code, fmt.Sprintf("%s, of that %#x beyond", found, extra), fmt.Sprintf("no bit beyond %#x", allowed)).From("policy: " + field)
	}
	return verdict.Pass(code, found).From("policy: " + field)
}

// equalOrAny says whether a list that may be absent has the value.
func equalOrAny(want Digest, found []byte) bool { return want == nil || bytes.Equal(want, found) }
