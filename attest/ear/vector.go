package ear

import (
	"slices"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Tier is a trustworthiness tier (draft-ietf-rats-ar4si section 3.2).
type Tier string

// The tiers. None: the verifier asserts nothing.
const (
	None            Tier = "none"
	Affirming       Tier = "affirming"
	Warning         Tier = "warning"
	Contraindicated Tier = "contraindicated"
)

// tierOf is the tier of a trustworthiness claim's value.
func tierOf(value int8) Tier {
	switch {
	case value >= -1 && value <= 1:
		return None
	case value < 32 && value >= -32:
		return Affirming
	case value < 96 && value >= -96:
		return Warning
	}
	return Contraindicated
}

// Values of trustworthiness claims (AR4SI section 3.1). The same number means
// another thing for each claim.
const (
	noClaim            int8 = 0
	approved           int8 = 2  // identity known, configuration approved, runtime recognized, hardware genuine, memory encrypted
	bootApproved       int8 = 3  // executables: recognized at boot
	vulnerable         int8 = 32 // configuration, hardware: genuine, with known vulnerabilities; memory: isolated, not encrypted
	unrecognized       int8 = 33 // executables
	contraindicated    int8 = 96
	unknownInstance    int8 = 97 // identity and hardware not recognized
	cryptographyFailed int8 = 99
)

// Vector is the AR4SI trustworthiness vector; 0 makes no claim.
type Vector struct {
	InstanceIdentity int8 `json:"instance-identity"`
	Configuration    int8 `json:"configuration"`
	Executables      int8 `json:"executables"`
	FileSystem       int8 `json:"file-system"`
	Hardware         int8 `json:"hardware"`
	RuntimeOpaque    int8 `json:"runtime-opaque"`
	StorageOpaque    int8 `json:"storage-opaque"`
	SourcedData      int8 `json:"sourced-data"`
}

func (v *Vector) values() []int8 {
	return []int8{v.InstanceIdentity, v.Configuration, v.Executables, v.FileSystem, v.Hardware, v.RuntimeOpaque, v.StorageOpaque, v.SourcedData}
}

// dimension is a trustworthiness claim that checks decide.
type dimension int

const (
	identity dimension = iota + 1
	configuration
	executables
	hardware
)

// rule says which claim a check belongs to, and the claim's value where it failed.
type rule struct {
	code   verdict.Code
	about  dimension
	failed int8
}

// rules is the whole mapping; docs/ear.md has the same table, and a test compares. A
// check that stands in no rule moves no claim; that it failed shows in ear_status.
var rules = []rule{
	{verdict.TrustedRoot, identity, unknownInstance},
	{verdict.EndorsementKey, identity, unknownInstance},
	{verdict.Chain, identity, cryptographyFailed},
	{verdict.CertificateValidity, identity, contraindicated},
	{verdict.RootCRL, identity, contraindicated},
	{verdict.IntermediateCRL, identity, contraindicated},
	{verdict.CollateralRollback, identity, contraindicated},
	{verdict.KeyToReport, identity, contraindicated},
	{verdict.AKEndorsed, identity, unknownInstance},
	{verdict.AKRestricted, identity, contraindicated},
	{verdict.SimulatedRoot, identity, contraindicated},
	{verdict.Platforms, identity, unknownInstance},

	{verdict.Form, hardware, contraindicated},
	{verdict.Signature, hardware, cryptographyFailed},
	{verdict.AttestationKey, hardware, cryptographyFailed},
	{verdict.QEReport, hardware, cryptographyFailed},
	{verdict.QEIdentity, hardware, contraindicated},
	{verdict.QEIdentitySignature, hardware, cryptographyFailed},
	{verdict.QEIdentityCurrent, hardware, contraindicated},
	{verdict.TCBInfoSignature, hardware, cryptographyFailed},
	{verdict.TCBInfoCurrent, hardware, contraindicated},
	{verdict.TCBInfoMatch, hardware, contraindicated},
	{verdict.TDXModule, hardware, contraindicated},
	{verdict.EvaluationNumber, hardware, vulnerable},
	{verdict.TCBStatus, hardware, vulnerable},
	{verdict.TCBFloor, hardware, vulnerable},
	{verdict.TCBOrder, hardware, contraindicated},
	{verdict.Firmware, hardware, vulnerable},
	{verdict.PlatformInfo, hardware, vulnerable},
	{verdict.Mitigations, hardware, vulnerable},
	{verdict.Advisories, hardware, vulnerable},
	{verdict.TEEAdmitted, hardware, unknownInstance},
	{verdict.ProductAllowed, hardware, unknownInstance},

	{verdict.Debug, configuration, contraindicated},
	{verdict.Migration, configuration, contraindicated},
	{verdict.GuestPolicy, configuration, vulnerable},
	{verdict.VMPL, configuration, vulnerable},
	{verdict.Attributes, configuration, vulnerable},
	{verdict.ServiceTD, configuration, vulnerable},
	{verdict.SEAMModule, configuration, vulnerable},
	{verdict.IDBlock, configuration, vulnerable},

	{verdict.RuntimePinned, executables, unrecognized},
	{verdict.Workload, executables, unrecognized},
	{verdict.WorkloadBinding, executables, unrecognized},
	{verdict.PeerRole, executables, unrecognized},
	{verdict.WorkloadSignature, executables, unrecognized},
	{verdict.WorkloadVersion, executables, unrecognized},
	{verdict.HostData, executables, contraindicated},
	{verdict.PCRs, executables, unrecognized},
	{verdict.PCRDigest, executables, contraindicated},
	{verdict.EventLog, executables, contraindicated},
}

// VectorOf derives the vector from the checks. A claim is affirming where checks
// about it were made and all passed, has the worst failed check's value where one
// failed, and is 0 where one was not made. File system, storage and sourced data are
// never claimed.
func VectorOf(v *verdict.Verdict) Vector {
	if v.Outcome != verdict.Admitted && v.Outcome != verdict.Refused && v.Outcome != verdict.CannotTell && v.Outcome != verdict.NotGenuine {
		return Vector{}
	}
	of := func(about dimension) int8 { return claimOf(v.Checks, about) }
	out := Vector{InstanceIdentity: of(identity), Hardware: of(hardware), Configuration: of(configuration), Executables: executablesOf(v.Checks)}
	if out.Hardware == approved && v.TCBStatus != "" && v.TCBStatus != "UpToDate" && v.TCBStatus != "SWHardeningNeeded" {
		out.Hardware = vulnerable // the policy accepts it, and it is what it is
	}
	out.RuntimeOpaque = opaqueOf(v, out)
	return out
}

func claimOf(checks []verdict.Check, about dimension) int8 {
	value, seen := noClaim, false
	missing := false
	for _, c := range checks {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.code == c.Code && r.about == about })
		if i < 0 {
			continue
		}
		switch c.Status {
		case verdict.Passed:
			seen = true
		case verdict.Failed:
			value = max(value, rules[i].failed)
		default:
			missing = true
		}
	}
	switch {
	case value != noClaim:
		return value
	case missing || !seen:
		return noClaim
	}
	return approved
}

// executablesOf is approved where the measured program and the workload are both
// named by the policy, and recognized at boot where only the program is.
func executablesOf(checks []verdict.Check) int8 {
	if value := claimOf(checks, executables); tierOf(value) != None && tierOf(value) != Affirming {
		return value
	}
	has := func(code verdict.Code) bool {
		return slices.ContainsFunc(checks, func(c verdict.Check) bool { return c.Code == code && c.Status == verdict.Passed })
	}
	switch {
	case !has(verdict.RuntimePinned) && !has(verdict.PCRs):
		return noClaim
	case has(verdict.Workload):
		return claimOf(checks, executables)
	}
	return bootApproved
}

// opaqueOf is about memory that the host cannot read. It follows from the TEE where
// hardware and identity are genuine and debugging was looked at.
func opaqueOf(v *verdict.Verdict, so Vector) int8 {
	if v.Claims == nil {
		return noClaim
	}
	debug := noClaim
	for _, c := range v.Checks {
		if c.Code == verdict.Debug {
			switch {
			case c.Status == verdict.Failed:
				return contraindicated // visible memory
			case c.Status == verdict.Passed:
				debug = approved
			}
		}
	}
	switch {
	case v.Simulated:
		return contraindicated
	case tierOf(so.InstanceIdentity) != Affirming || so.Hardware != approved && so.Hardware != vulnerable || debug != approved:
		return noClaim
	}
	switch v.Claims.TEE {
	case claims.SNP, claims.TDX, claims.SGX:
		return approved
	case claims.Nitro:
		return vulnerable // isolated, not encrypted under a key of the guest's
	}
	return noClaim
}

// statusOf is ear_status: what the outcome allows, and never better than the worst
// claim of the vector.
func statusOf(v *verdict.Verdict, vector Vector) Tier {
	switch v.Outcome {
	case verdict.Admitted:
		return worst(Affirming, vector)
	case verdict.CannotTell:
		if t := worst(Affirming, vector); t == Contraindicated {
			return t
		}
		return None
	}
	return Contraindicated
}

// worst is the lowest of t and the tiers of the vector's claims. A claim that is not
// made lowers nothing (draft-ietf-rats-ear-04 section 3.1).
func worst(t Tier, vector Vector) Tier {
	order := []Tier{Affirming, Warning, Contraindicated}
	at := slices.Index(order, t)
	for _, value := range vector.values() {
		at = max(at, slices.Index(order, tierOf(value)))
	}
	return order[at]
}
