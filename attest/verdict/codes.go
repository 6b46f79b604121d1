package verdict

import "sort"

// Code names a check. Codes are stable: programs may compare them.
type Code string

// Kind says what a failure means.
type Kind string

// Genuineness: failed means not genuine (10). Admission: failed means genuine and
// refused (11).
const (
	Genuineness Kind = "genuineness"
	Admission   Kind = "admission"
)

// Info is what the table says about a code.
type Info struct {
	Code Code
	Kind Kind
	// Waivable says that a policy may do without this check where it could not be
	// made. A failed check is never waived.
	Waivable bool
	Means    string // what was looked at, one line
}

// The codes. Packages use these constants, never a string of their own.
const (
	// The connection on which evidence comes.
	Protocol Code = "protocol"

	// Form and chain, for every format.
	Form                Code = "form"
	TrustedRoot         Code = "trusted-root"
	EndorsementKey      Code = "endorsement-key"
	Chain               Code = "chain"
	CertificateValidity Code = "certificate-validity"
	RootCRL             Code = "root-crl"
	IntermediateCRL     Code = "intermediate-crl"
	CollateralRollback  Code = "collateral-rollback"
	Signature           Code = "signature"
	KeyToReport         Code = "key-to-report"

	// SGX and TDX.
	AttestationKey      Code = "attestation-key"
	QEReport            Code = "qe-report"
	QEIdentity          Code = "qe-identity"
	QEIdentitySignature Code = "qe-identity-signature"
	QEIdentityCurrent   Code = "qe-identity-current"
	TCBInfoSignature    Code = "tcb-info-signature"
	TCBInfoCurrent      Code = "tcb-info-current"
	TCBInfoMatch        Code = "tcb-info-match"
	TDXModule           Code = "tdx-module"
	EvaluationNumber    Code = "evaluation-number"
	TCBStatus           Code = "tcb-status"

	// TPM and Nitro.
	AKEndorsed     Code = "ak-endorsed"
	AKRestricted   Code = "ak-restricted"
	PCRDigest      Code = "pcr-digest"
	EventLog       Code = "event-log"
	RuntimeData    Code = "runtime-data"
	SimulatedRoot  Code = "simulated-root"
	TEEAdmitted    Code = "tee"
	ProductAllowed Code = "product"

	// Binding of what was sent along.
	ReportData      Code = "report-data"
	HostData        Code = "host-data"
	KeyBinding      Code = "key-binding"
	Nonce           Code = "nonce"
	Purpose         Code = "purpose"
	ChannelBinding  Code = "channel-binding"
	SelfSignature   Code = "self-signature"
	WorkloadBinding Code = "workload-binding"

	// What the policy says.
	Workload      Code = "workload"
	PeerRole      Code = "peer-role"
	RuntimePinned Code = "runtime-pinned"
	Debug         Code = "debug"
	Migration     Code = "migration"
	GuestPolicy   Code = "guest-policy"
	VMPL          Code = "vmpl"
	TCBFloor      Code = "tcb-floor"
	TCBOrder      Code = "tcb-order"
	Firmware      Code = "firmware"
	PlatformInfo  Code = "platform-info"
	Mitigations   Code = "mitigations"
	IDBlock       Code = "id-block"
	Platforms     Code = "platforms"
	Attributes    Code = "attributes"
	ServiceTD     Code = "service-td"
	SEAMModule    Code = "seam-module"
	PCRs          Code = "pcrs"
	Advisories    Code = "advisories"
	TimeSource    Code = "time-source"
	Age           Code = "age"

	// The signature beside a workload, where a Steward's policy is a signer's.
	WorkloadSignature Code = "workload-signature"
	WorkloadVersion   Code = "workload-version"
)

var table = []Info{
	{Protocol, Genuineness, false, "the other end of the connection speaks donjon-attest/1 over TLS 1.3, and proves itself"},

	{Form, Genuineness, false, "the bytes are one piece of evidence of a known form, and every part of it parses"},
	{TrustedRoot, Genuineness, false, "the chain ends at a root that is built in or that the policy names"},
	{EndorsementKey, Genuineness, false, "a certificate for the key that signed is at hand"},
	{Chain, Genuineness, false, "each certificate is signed by the next, up to the root, with the rights to do so"},
	{CertificateValidity, Genuineness, true, "every certificate of the chain is valid at the time of judging"},
	{RootCRL, Genuineness, true, "the root's revocation list is at hand, current and names no certificate of the chain"},
	{IntermediateCRL, Genuineness, true, "the intermediate's revocation list is at hand, current and does not name the endorsement key"},
	{CollateralRollback, Genuineness, false, "no collateral is older than what was seen before"},
	{Signature, Genuineness, false, "the endorsed key signed the evidence"},
	{KeyToReport, Genuineness, false, "the endorsement is for the chip and the TCB that the report names"},

	{AttestationKey, Genuineness, false, "the quoting enclave's report binds the attestation key"},
	{QEReport, Genuineness, false, "the PCK signed the quoting enclave's report"},
	{QEIdentity, Genuineness, true, "the quoting enclave is the one that Intel names, without debugging"},
	{QEIdentitySignature, Genuineness, true, "Intel's TCB signing key signed the QE identity"},
	{QEIdentityCurrent, Genuineness, true, "the QE identity is current at the time of judging"},
	{TCBInfoSignature, Genuineness, true, "Intel's TCB signing key signed the TCB info"},
	{TCBInfoCurrent, Genuineness, true, "the TCB info is current at the time of judging"},
	{TCBInfoMatch, Genuineness, true, "the TCB info is for this platform (FMSPC and PCE id)"},
	{TDXModule, Admission, true, "Intel names the TDX module and its signer"},
	{EvaluationNumber, Admission, true, "the TCB evaluation data number is at least the policy's"},
	{TCBStatus, Admission, true, "Intel's status for this TCB is one that the policy accepts"},

	{AKEndorsed, Genuineness, false, "the attestation key belongs to a TPM: chained to a pinned root, named by a TEE report or by the policy"},
	{AKRestricted, Genuineness, true, "the attestation key is a restricted signing key that never leaves its TPM"},
	{PCRDigest, Genuineness, true, "the PCR values sent along are those that were signed"},
	{EventLog, Genuineness, true, "the event log replays to the registers that were signed"},
	{RuntimeData, Genuineness, false, "the TEE report binds the runtime data that holds the attestation key"},
	{SimulatedRoot, Admission, false, "a simulated root is allowed by name"},
	{TEEAdmitted, Admission, false, "the policy has a section for this TEE"},
	{ProductAllowed, Admission, false, "the policy admits this product"},

	{ReportData, Genuineness, false, "the report data is the hash of the claims or key sent along"},
	{HostData, Genuineness, false, "the claimed workload digest is the report's host data"},
	{KeyBinding, Genuineness, false, "the report binds the public key of the certificate or request"},
	{Nonce, Genuineness, true, "the evidence was made for this verifier's nonce"},
	{Purpose, Genuineness, false, "the evidence was made for this use"},
	{ChannelBinding, Genuineness, false, "the evidence was made for this connection"},
	{SelfSignature, Genuineness, false, "the certificate or request is signed with the key it carries"},
	{WorkloadBinding, Admission, true, "the hardware's host data names a workload, padded with zeros"},

	{Workload, Admission, true, "the policy accepts the workload digest in the host data, or names the workload in another way"},
	{PeerRole, Admission, false, "the peer runs in the role that the policy names, and not in the one of the Keep that judges"},
	{WorkloadSignature, Admission, false, "a signer that the policy names signed this workload digest under this name"},
	{WorkloadVersion, Admission, false, "the signed version is at least the policy's, and none that was admitted before is higher"},
	{RuntimePinned, Admission, false, "the policy names the program that was measured at launch"},
	{Debug, Admission, false, "the owner of the machine cannot debug the Keep"},
	{Migration, Admission, false, "the Keep cannot be moved to another machine"},
	{GuestPolicy, Admission, false, "the guest policy holds no bit that the policy does not allow"},
	{VMPL, Admission, false, "the report was made at a privilege level that the policy accepts"},
	{TCBFloor, Admission, false, "no TCB in the report is under the policy's floor"},
	{TCBOrder, Admission, false, "the committed TCB is no newer than the current one, the reported no newer than the committed"},
	{Firmware, Admission, false, "the firmware's version is at least the policy's"},
	{PlatformInfo, Admission, false, "the platform has the properties that the policy demands"},
	{Mitigations, Admission, true, "the mitigations that the policy demands are in force"},
	{IDBlock, Admission, false, "the launch was signed by an author key or id key that the policy names"},
	{Platforms, Admission, false, "the machine is one of those that the policy lists"},
	{Attributes, Admission, false, "the attributes of the enclave or TD are within the policy"},
	{ServiceTD, Admission, false, "no service TD is bound that the policy does not name"},
	{SEAMModule, Admission, false, "the TDX module and its attributes are within the policy"},
	{PCRs, Admission, false, "the platform configuration registers hold what the policy lists"},
	{Advisories, Admission, true, "no advisory that the policy demands fixed is open"},
	{TimeSource, Admission, true, "the time of judging comes from more than the host"},
	{Age, Admission, true, "the evidence is no older than the policy allows"},
}

func lookup(c Code) (Info, bool) {
	for _, i := range table {
		if i.Code == c {
			return i, true
		}
	}
	return Info{}, false
}

// Lookup gives what is known about a code.
func Lookup(c Code) (Info, bool) { return lookup(c) }

// Codes lists every code, sorted.
func Codes() []Info {
	out := append([]Info{}, table...)
	sort.Slice(out, func(i, j int) bool { return out[i].Code < out[j].Code })
	return out
}
