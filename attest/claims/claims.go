// Package claims is the one typed model of what evidence says, over all TEEs. It
// holds facts, not judgements: those are verdict's. Format packages (snp, dcap,
// tpm, nitro) fill it from bytes whose signature holds; policy and advisory read it.
package claims

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// TEE names.
const (
	SNP   = "snp"
	TDX   = "tdx"
	SGX   = "sgx"
	TPM   = "tpm"
	Nitro = "nitro"
)

// Hex is bytes that print as hexadecimal without separators.
type Hex []byte

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	*h = v
	return err
}

func (h Hex) String() string { return hex.EncodeToString(h) }

// Zero says whether all bytes are zero, as they are in a field that is not used.
func Zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// SVNs are security version numbers that print as a list of numbers: encoding/json
// alone would write bytes in base64.
type SVNs []uint8

// MarshalJSON implements json.Marshaler.
func (s SVNs) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, v := range s {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(v), 10)
	}
	return append(out, ']'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *SVNs) UnmarshalJSON(b []byte) error {
	var wide []uint16 // []uint8 would be read as base64
	if err := json.Unmarshal(b, &wide); err != nil {
		return err
	}
	*s = make(SVNs, len(wide))
	for i, v := range wide {
		if v > 255 {
			return fmt.Errorf("security version number %d: found %d, at most 255", i, v)
		}
		(*s)[i] = uint8(v)
	}
	return nil
}

// Claims is what one piece of evidence says. Exactly one of the pointers SNP, TDX,
// SGX and Nitro is set, or TPM alone; TPM beside SNP or TDX is a composite (a vTPM
// whose key the TEE's report names).
type Claims struct {
	TEE  string `json:"tee"`
	Root Root   `json:"root"`

	ReportData Hex `json:"report_data,omitempty"` // 64 bytes; a TPM's extraData; absent from Nitro
	HostData   Hex `json:"host_data,omitempty"`   // 32 or 48 bytes; nil where the format has none

	SNP   *SNPClaims   `json:"snp,omitempty"`
	TDX   *TDXClaims   `json:"tdx,omitempty"`
	SGX   *SGXClaims   `json:"sgx,omitempty"`
	TPM   *TPMClaims   `json:"tpm,omitempty"`
	Nitro *NitroClaims `json:"nitro,omitempty"`

	// Intel is Intel's word about the platform, for SGX and TDX.
	Intel *IntelPlatform `json:"intel,omitempty"`

	// Keep is what Donjon's warden says about itself, where claims came along that
	// the report data binds.
	Keep *Keep `json:"keep,omitempty"`
	// Key is the SHA-256 of the SubjectPublicKeyInfo that the evidence binds, where a
	// certificate or request carries it.
	Key Hex `json:"key_sha256,omitempty"`
	// Envelope holds what a certificate, request or TPM nonce adds.
	Nonce Hex `json:"nonce,omitempty"`
}

// Root says who vouches for the evidence.
type Root struct {
	Name      string `json:"name"`
	SHA256    Hex    `json:"sha256,omitempty"` // of the root certificate's DER
	Simulated bool   `json:"simulated"`        // no vendor's root
}

// Keep is the warden's claims (attest/evidence.Claims).
type Keep struct {
	WorkloadDigest Hex    `json:"workload_digest"`
	Purpose        string `json:"purpose"`
	Instance       Hex    `json:"instance"`
	Role           string `json:"role,omitempty"` // of those that the workload's configuration lists
	Nonce          Hex    `json:"nonce,omitempty"`
	Exporter       Hex    `json:"tls_exporter,omitempty"`
	StewardKey     Hex    `json:"steward_key_sha256,omitempty"` // at enrolment: whom the Keep talks to
	SealingKey     Hex    `json:"sealing_key_sha256,omitempty"` // at enrolment: what secrets are sealed to
}

// SNPTCB is a TCB_VERSION taken apart in its product's order. FMC is nil where the
// product has none.
type SNPTCB struct {
	FMC        *uint8 `json:"fmc,omitempty"`
	BootLoader uint8  `json:"boot_loader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

// SNPClaims are an SEV-SNP report's.
type SNPClaims struct {
	ReportVersion uint32 `json:"report_version"`
	Product       string `json:"product"` // Milan, Genoa, Turin; "" where it cannot be told
	Family        uint8  `json:"family,omitempty"`
	Model         uint8  `json:"model,omitempty"`
	Stepping      uint8  `json:"stepping,omitempty"`

	LaunchDigest    Hex    `json:"launch_digest"`
	GuestPolicy     uint64 `json:"guest_policy"`
	GuestSVN        uint32 `json:"guest_svn"`
	FamilyID        Hex    `json:"family_id"`
	ImageID         Hex    `json:"image_id"`
	VMPL            uint32 `json:"vmpl"`
	PlatformInfo    uint64 `json:"platform_info"`
	IDKeyDigest     Hex    `json:"id_key_digest"`
	AuthorKeyDigest Hex    `json:"author_key_digest"`
	ReportID        Hex    `json:"report_id"`
	ReportIDMA      Hex    `json:"report_id_ma"`
	ChipID          Hex    `json:"chip_id"`       // zero: hidden by the host
	SigningKey      string `json:"signing_key"`   // vcek, vlek, none
	CSP             string `json:"csp,omitempty"` // a VLEK's provider

	Reported  SNPTCB `json:"reported_tcb"`
	Committed SNPTCB `json:"committed_tcb"`
	Current   SNPTCB `json:"current_tcb"`
	Launch    SNPTCB `json:"launch_tcb"`

	CurrentVersion   string `json:"current_version"` // major.minor.build of the firmware
	CommittedVersion string `json:"committed_version"`

	// Mitigation vectors, report version 5; nil before.
	LaunchMitigations  *uint64 `json:"launch_mitigations,omitempty"`
	CurrentMitigations *uint64 `json:"current_mitigations,omitempty"`
}

// TDXClaims are a TD's.
type TDXClaims struct {
	QuoteVersion   uint16 `json:"quote_version"`
	BodyType       uint16 `json:"body_type"` // 2: TDX 1.0, 3: TDX 1.5
	TEETCBSVN      Hex    `json:"tee_tcb_svn"`
	TEETCBSVN2     Hex    `json:"tee_tcb_svn2,omitempty"`
	MRSEAM         Hex    `json:"mrseam"`
	MRSignerSEAM   Hex    `json:"mrsignerseam"`
	SEAMAttributes Hex    `json:"seam_attributes"`
	TDAttributes   Hex    `json:"td_attributes"`
	XFAM           Hex    `json:"xfam"`
	MRTD           Hex    `json:"mrtd"`
	MRConfigID     Hex    `json:"mrconfigid"`
	MROwner        Hex    `json:"mrowner"`
	MROwnerConfig  Hex    `json:"mrownerconfig"`
	RTMR           [4]Hex `json:"rtmr"`
	MRServiceTD    Hex    `json:"mrservicetd,omitempty"`
}

// SGXClaims are an enclave's.
type SGXClaims struct {
	QuoteVersion uint16 `json:"quote_version"`
	CPUSVN       Hex    `json:"cpusvn"`
	MiscSelect   uint32 `json:"misc_select"`
	Attributes   Hex    `json:"attributes"` // flags (8), xfrm (8)
	MRENCLAVE    Hex    `json:"mrenclave"`
	MRSIGNER     Hex    `json:"mrsigner"`
	ISVProdID    uint16 `json:"isv_prod_id"`
	ISVSVN       uint16 `json:"isv_svn"`
	ConfigID     Hex    `json:"config_id"`
	ConfigSVN    uint16 `json:"config_svn"`
	FamilyID     Hex    `json:"family_id"`
	ExtProdID    Hex    `json:"ext_prod_id"`
}

// IntelPlatform is what the PCK certificate and Intel's collateral say. Statuses
// are in Intel's spelling; NotSupported where no level of the TCB info fits.
type IntelPlatform struct {
	FMSPC              Hex   `json:"fmspc"`
	PCEID              Hex   `json:"pceid"`
	PPID               Hex   `json:"ppid"`
	PlatformInstanceID Hex   `json:"platform_instance_id,omitempty"`
	SGXType            int   `json:"sgx_type"` // 0 standard, 1 scalable, 2 scalable with integrity
	DynamicPlatform    *bool `json:"dynamic_platform,omitempty"`
	CachedKeys         *bool `json:"cached_keys,omitempty"`
	SMTEnabled         *bool `json:"smt_enabled,omitempty"`

	CompSVN SVNs   `json:"sgx_tcb_components"` // the PCK's, 16
	PCESVN  uint16 `json:"pcesvn"`
	QESVN   uint16 `json:"qe_isv_svn"`

	PlatformStatus string `json:"platform_status,omitempty"`
	ModuleStatus   string `json:"module_status,omitempty"` // TDX module identity; "" where none applies
	QEStatus       string `json:"qe_status,omitempty"`
	Status         string `json:"status,omitempty"` // the three converged
	// CurrentStatus is the status of what a TD runs on now (TEE_TCB_SVN2, TDX 1.5),
	// where Status is that of what it was launched on; "" for others.
	CurrentStatus string    `json:"current_status,omitempty"`
	TCBDate       time.Time `json:"tcb_date,omitzero"`
	Evaluation    uint32    `json:"tcb_evaluation_data_number,omitempty"` // of the TCB info
	QEEvaluation  uint32    `json:"qe_evaluation_data_number,omitempty"`
	AdvisoryIDs   []string  `json:"advisory_ids,omitempty"` // of the matched levels, sorted
	// CollateralUntil is the earliest nextUpdate of all collateral used.
	CollateralUntil time.Time `json:"collateral_until,omitzero"`
}

// TPMClaims are a TPM 2.0 quote's.
type TPMClaims struct {
	FirmwareVersion Hex            `json:"firmware_version"` // 8 bytes
	ResetCount      uint32         `json:"reset_count"`
	RestartCount    uint32         `json:"restart_count"`
	ClockSafe       bool           `json:"clock_safe"`
	Bank            string         `json:"bank"` // sha256, sha384 …
	Selected        []int          `json:"selected"`
	PCRs            map[int]Hex    `json:"pcrs,omitempty"` // proved by the quote's digest
	QualifiedSigner Hex            `json:"qualified_signer"`
	AKSHA256        Hex            `json:"ak_sha256"` // of the key's SubjectPublicKeyInfo
	Endorsed        string         `json:"endorsed"`  // report, certificate, "" (by nothing in the evidence)
	Restricted      *bool          `json:"restricted,omitempty"`
	UserData        Hex            `json:"user_data,omitempty"`
	Facts           map[string]any `json:"facts,omitempty"` // the runtime data's further words, unchecked
}

// NitroClaims are an AWS Nitro attestation document's.
type NitroClaims struct {
	ModuleID  string      `json:"module_id"`
	Timestamp time.Time   `json:"timestamp"`
	Digest    string      `json:"digest"`
	PCRs      map[int]Hex `json:"pcrs"`
	PublicKey Hex         `json:"public_key,omitempty"`
	UserData  Hex         `json:"user_data,omitempty"`
	Nonce     Hex         `json:"nonce,omitempty"`
	Debug     bool        `json:"debug"` // PCR0 is zero
}
