// Package policy is what a relying party demands of evidence: a typed TOML file
// with safe defaults, one section for each TEE, and the checks that follow from it.
//
// A TEE without a section is refused. A list that is absent has the default that
// its documentation gives; an empty list admits nothing; an unknown key is an error.
// Whether evidence is genuine at all is settled before this package is asked; what
// it reads is claims, what it answers are verdict's checks. One file a section:
// snp.go, tdx.go, sgx.go, tpm.go, nitro.go; general.go holds what is the same for all.
package policy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// MaxSize bounds a policy file, in bytes.
const MaxSize = 1 << 20

// Policy is a policy file. Its zero value admits nothing; Default is what verify
// judges by without one.
type Policy struct {
	Version int    `toml:"version"` // of this form: 1
	Name    string `toml:"name"`

	// Freshness is "nonce" (the default: the evidence must hold the verifier's nonce)
	// or "none" (a stored file is judged; honoured by verify alone).
	Freshness string `toml:"freshness"`
	// Trust says what of the policy was taken from whoever answered first and compared
	// with nothing, one of the Trust constants: who judges by it says so. Else absent.
	Trust string `toml:"trust"`
	// Workloads are the accepted workload digests, as they stand in the host data.
	// Absent: none is named, and the check workload is not made.
	Workloads []Digest `toml:"workloads"`
	// SameWorkload, SPIFFE and Signers name workloads where no digest can: two that name
	// each other's would each be part of what the other's is made of (THREATS T13). With
	// Workloads they are alternatives: one that fits is enough.
	SameWorkload bool     `toml:"same_workload"`
	SPIFFE       []string `toml:"spiffe"`
	Signers      []Signer `toml:"signers"`
	// PeerRole is the role, of those in its configuration, that the Keep must run in.
	PeerRole string `toml:"peer_role"`
	// Time is "host" where a Keep may judge by its host's clock alone. Else absent.
	Time string `toml:"time"`

	// RequireClaims refuses evidence that comes without the claims of a Keep of Donjon's
	// (its key, purpose and instance): a bare report is anybody's who has read it.
	RequireClaims bool `toml:"require_claims"`

	// SimulatedRoots names roots (SHA-256 of their DER) that are no vendor's;
	// evidence under any other such root is not genuine. AllowSimulated admits
	// what is under one of them.
	SimulatedRoots []Digest `toml:"simulated_roots"`
	AllowSimulated bool     `toml:"allow_simulated"`

	// CollateralMaxAge shortens how long revocation lists, TCB info and QE identities
	// count as current: at most this long after they were made. 0: their own end.
	CollateralMaxAge Duration `toml:"collateral_max_age"`
	// FixedAdvisories lists advisory ids, CVEs or names that must be fixed. Where that
	// cannot be told, the check advisories is not made.
	FixedAdvisories []string `toml:"fixed_advisories"`

	// Waive lists checks that may remain not made. Only some can be (verdict.Info).
	Waive []Waiver `toml:"waive"`

	SNP   *SNP   `toml:"snp"`
	TDX   *TDX   `toml:"tdx"`
	SGX   *SGX   `toml:"sgx"`
	TPM   *TPM   `toml:"tpm"`
	Nitro *Nitro `toml:"nitro"`

	raw []byte
}

// Waiver does without one check, and says why.
type Waiver struct {
	Check  verdict.Code `toml:"check"`
	Reason string       `toml:"reason"`
}

// Digest is a hash, written as hexadecimal, with or without "sha256:" or "sha384:".
type Digest []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	s := string(b)
	want := 0
	if rest, ok := strings.CutPrefix(s, "sha256:"); ok {
		s, want = rest, 32
	} else if rest, ok := strings.CutPrefix(s, "sha384:"); ok {
		s, want = rest, 48
	}
	v, err := hex.DecodeString(s)
	if err != nil || len(v) == 0 || len(v) > 64 || want > 0 && len(v) != want {
		return fmt.Errorf("found %.80q, wanted a hash in hexadecimal", b)
	}
	*d = v
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d)), nil }

func (d Digest) String() string { return hex.EncodeToString(d) }

// Duration is a time.Duration written as "720h"; days are allowed: "30d".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		v, err := time.ParseDuration(n + "h")
		if err != nil || v <= 0 || v > 100*365*time.Hour {
			return fmt.Errorf("found %.40q, wanted a time such as 30d or 720h", b)
		}
		*d = Duration(24 * v)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return fmt.Errorf("found %.40q, wanted a time such as 30d or 720h", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// An Error says what in a policy file is wrong, and where.
type Error struct {
	Line, Column int // 0: the whole file
	Err          error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("policy: %v", e.Err)
	}
	return fmt.Sprintf("policy: line %d, column %d: %v", e.Line, e.Column, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Parse reads a policy file and checks it.
func Parse(b []byte) (*Policy, error) {
	if len(b) > MaxSize {
		return nil, &Error{Err: fmt.Errorf("found %d bytes, at most %d", len(b), MaxSize)}
	}
	p := &Policy{raw: bytes.Clone(b)}
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) && len(strict.Errors) > 0 {
			first := strict.Errors[0]
			line, col := first.Position()
			return nil, &Error{line, col, fmt.Errorf("unknown key %s", strings.Join(first.Key(), "."))}
		}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, col := at.Position()
			return nil, &Error{line, col, errors.New(strings.TrimPrefix(at.Error(), "toml: "))}
		}
		return nil, &Error{Err: err}
	}
	var plain map[string]any
	if err := toml.Unmarshal(b, &plain); err != nil {
		return nil, &Error{Err: err}
	}
	if err := spelled("", plain); err != nil {
		return nil, &Error{Err: err}
	}
	if err := p.check(); err != nil {
		return nil, &Error{Err: err}
	}
	return p, nil
}

// spelled refuses keys in other letters than these: the decoder takes Allow_Debug for
// allow_debug, and of the two the last one. Every key but the products under floors is
// in lower case.
func spelled(table string, v any) error {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if table != "snp.floors" && k != strings.ToLower(k) {
				return fmt.Errorf("unknown key %.80q: keys are in lower case", strings.TrimPrefix(table+"."+k, "."))
			}
			if err := spelled(strings.TrimPrefix(table+"."+k, "."), inner); err != nil {
				return err
			}
		}
	case []any:
		for _, inner := range v {
			if err := spelled(table, inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// Default is what evidence is judged by without a policy: every TEE with the
// defaults of its section, and no software named.
func Default() *Policy {
	return &Policy{Version: 1, Freshness: FreshnessNonce, SNP: &SNP{}, TDX: &TDX{}, SGX: &SGX{}, TPM: &TPM{}, Nitro: &Nitro{}}
}

// Values of Trust.
const (
	TrustFirstUse         = "first-use"          // all of it
	TrustFirstUseImage    = "first-use-image"    // what was measured at launch; the workload was compared
	TrustFirstUseWorkload = "first-use-workload" // the workload; what was measured at launch was compared
)

// TrustNote is a value of Trust in words; "" where there is none.
func TrustNote(trust string) string {
	switch trust {
	case TrustFirstUse:
		return "trust on first use, compared with nothing"
	case TrustFirstUseImage:
		return "trust on first use: the workload was compared, what was measured at launch was compared with nothing"
	case TrustFirstUseWorkload:
		return "trust on first use: what was measured at launch was compared, the workload was compared with nothing"
	}
	return ""
}

// Values of Freshness.
const (
	FreshnessNonce = "nonce"
	FreshnessNone  = "none"
)

// Raw is the file as it was read; nil for a policy that was made otherwise.
func (p *Policy) Raw() []byte { return p.raw }

// section is one TEE's part of a policy.
type section interface {
	check() error                                                   // the section's own form
	appraise(c *claims.Claims, d Demand, p *Policy) []verdict.Check // claims hold the section's TEE
	describe() []string                                             // in words, one line a rule
}

func (p *Policy) check() error {
	if p.Version != 1 {
		return fmt.Errorf("version: found %d, wanted 1", p.Version)
	}
	switch p.Freshness {
	case "":
		p.Freshness = FreshnessNonce
	case FreshnessNonce, FreshnessNone:
	default:
		return fmt.Errorf("freshness: found %q, wanted %q or %q", p.Freshness, FreshnessNonce, FreshnessNone)
	}
	if p.Trust != "" && TrustNote(p.Trust) == "" {
		return fmt.Errorf("trust: found %q, wanted %q, %q, %q, or none", p.Trust, TrustFirstUse, TrustFirstUseImage, TrustFirstUseWorkload)
	}
	for _, d := range p.Workloads {
		if len(d) != 32 {
			return fmt.Errorf("workloads: found a digest of %d bytes, wanted 32", len(d))
		}
	}
	if err := p.checkPeer(); err != nil {
		return err
	}
	for _, d := range p.SimulatedRoots {
		if len(d) != 32 {
			return fmt.Errorf("simulated_roots: found a fingerprint of %d bytes, wanted 32", len(d))
		}
	}
	for _, w := range p.Waive {
		info, ok := verdict.Lookup(w.Check)
		switch {
		case !ok:
			return fmt.Errorf("waive: %q is no check", w.Check)
		case !info.Waivable:
			return fmt.Errorf("waive: the check %s cannot be waived", w.Check)
		case strings.TrimSpace(w.Reason) == "":
			return fmt.Errorf("waive: %s has no reason", w.Check)
		}
	}
	any := false
	for name, s := range p.sections() {
		any = true
		if err := s.check(); err != nil {
			return fmt.Errorf("[%s] %w", name, err)
		}
	}
	if !any {
		return errors.New("no section for any TEE: this policy admits nothing")
	}
	return nil
}

func (p *Policy) sections() map[string]section {
	out := map[string]section{}
	if p.SNP != nil {
		out[claims.SNP] = p.SNP
	}
	if p.TDX != nil {
		out[claims.TDX] = p.TDX
	}
	if p.SGX != nil {
		out[claims.SGX] = p.SGX
	}
	if p.TPM != nil {
		out[claims.TPM] = p.TPM
	}
	if p.Nitro != nil {
		out[claims.Nitro] = p.Nitro
	}
	return out
}

// waiver gives the policy's reason for doing without a check.
func (p *Policy) waiver(c verdict.Code) string {
	for _, w := range p.Waive {
		if w.Check == c {
			return w.Reason
		}
	}
	return ""
}

// ApplyWaivers marks the checks that were not made and may so remain.
func (p *Policy) ApplyWaivers(checks []verdict.Check) {
	for i := range checks {
		if checks[i].Status == verdict.NotMade && checks[i].Waived == "" {
			checks[i].Waived = p.waiver(checks[i].Code)
		}
	}
}
