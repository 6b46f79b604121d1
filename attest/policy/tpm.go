package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// TPM is the section [tpm]: a quote of a TPM 2.0, or of a virtual one beside a TEE's
// report. A composite needs both sections: the TEE's pins the paravisor that makes the
// virtual TPM, this one pins the guest.
//
// That the attestation key is a restricted one (check ak-restricted) is demanded;
// [[waive]] does without it by name, where the evidence cannot show it.
type TPM struct {
	// PCRs lists, by register ("0" to "23"), the values that are accepted, in
	// hexadecimal. Every register named must be quoted. Absent: none is named, and
	// nothing says which software runs (check runtime-pinned).
	PCRs map[string][]Digest `toml:"pcrs"`
	// Bank is the bank that must be quoted: "sha256" (the default), "sha384", "sha512".
	Bank string `toml:"bank"`
	// AttestationKeys lists the keys that may sign, by SHA-256 of their
	// SubjectPublicKeyInfo. A key named here needs no certificate: the policy vouches
	// for it. Absent: every key that a certificate or report vouches for; empty: none.
	AttestationKeys []Digest `toml:"attestation_keys"`
}

// pinnedByPCRs says which of the registers that held pin the program; "": they do not. 4 is
// what the firmware started: a unified kernel image, or a boot loader, which alone
// admits any kernel. So one of 9 (kernel and initial RAM disk, as the boot loader or
// the kernel's EFI stub read them) and 11 (a unified kernel image's parts, by
// systemd-stub) must be named too; and those are software's word, good only under 4.
// For a TPM on its own 0, the firmware that measures 4, must be named as well; in a
// composite the TEE's launch digest measures it. A register of zeros pins nothing:
// nobody measured into it.
//
// The others do not help: 1 to 3, 5 and 6 are settings and option code, 7 (Secure
// Boot's keys) admits any program that is signed, 8 holds a boot loader's commands, 10
// (IMA) and 12 to 15 grow while the machine runs, 16 and 23 anybody may reset.
// Sources: TCG PC Client Platform Firmware Profile, "PCR Usage"; GRUB manual,
// "Measured Boot"; systemd-stub(7).
func pinnedByPCRs(held map[int]bool, composite bool) string {
	switch firmware := composite || held[0]; {
	case firmware && held[4] && held[11]:
		return "by PCR 4 and 11"
	case firmware && held[4] && held[9]:
		return "by PCR 4 and 9"
	}
	return ""
}

func (s *TPM) bank() string {
	if s.Bank == "" {
		return "sha256"
	}
	return s.Bank
}

func (s *TPM) check() error {
	size := map[string]int{"sha256": 32, "sha384": 48, "sha512": 64}[s.bank()]
	if size == 0 {
		return fmt.Errorf("bank: found %q, wanted sha256, sha384 or sha512", s.Bank)
	}
	if err := checkPCRs(s.PCRs, 23, size); err != nil {
		return err
	}
	for _, d := range s.AttestationKeys {
		if len(d) != 32 {
			return fmt.Errorf("attestation_keys: found a digest of %d bytes, wanted 32", len(d))
		}
	}
	return nil
}

// checkPCRs checks the form of a table of registers.
func checkPCRs(pcrs map[string][]Digest, last, size int) error {
	for k, list := range pcrs {
		if i, err := strconv.Atoi(k); err != nil || i < 0 || i > last || strconv.Itoa(i) != k {
			return fmt.Errorf("pcrs: found the register %.20q, wanted 0 to %d", k, last)
		}
		for _, d := range list {
			if len(d) != size {
				return fmt.Errorf("pcrs: register %s: found a value of %d bytes, wanted %d", k, len(d), size)
			}
		}
	}
	return nil
}

func (s *TPM) appraise(c *claims.Claims, d Demand, p *Policy) []verdict.Check {
	if c.TPM == nil {
		return []verdict.Check{verdict.Fail(verdict.PCRs, "no quote", "a TPM quote").From("policy: [tpm]")}
	}
	out := s.keys(c.TPM)
	if c.TPM.Bank != s.bank() {
		out = append(out, verdict.Fail(verdict.PCRs, "a quote of the bank "+c.TPM.Bank, s.bank()).From("policy: [tpm] bank"))
		return append(out, d.unpinned("the bank "+c.TPM.Bank))
	}
	checks, held := comparePCRs(s.PCRs, c.TPM.PCRs, "policy: [tpm] pcrs")
	out = append(out, checks...)
	if by := pinnedByPCRs(held, c.TEE != claims.TPM); by != "" {
		return append(out, verdict.Pass(verdict.RuntimePinned, by).From("policy: [tpm] pcrs"))
	}
	return append(out, d.unpinned(measuredPCRs(c.TPM.PCRs, 0, 4, 9, 11)))
}

// keys judges the attestation key. A key that the list names is endorsed by it, and
// attest lets that take the place of the verifier's word that nothing else does.
func (s *TPM) keys(c *claims.TPMClaims) []verdict.Check {
	if s.AttestationKeys == nil {
		return nil
	}
	const source = "policy: [tpm] attestation_keys"
	if !contains(s.AttestationKeys, c.AKSHA256) {
		return []verdict.Check{verdict.Fail(verdict.Platforms, "the attestation key "+c.AKSHA256.String(), oneOf(s.AttestationKeys)).From(source)}
	}
	out := []verdict.Check{verdict.Pass(verdict.Platforms, "the attestation key "+c.AKSHA256.String()).From(source)}
	if c.Endorsed == "" {
		out = append(out, verdict.Pass(verdict.AKEndorsed, "the policy names the key "+c.AKSHA256.String()).From(source))
	}
	return out
}

// comparePCRs compares the registers that a policy names with those that were signed.
// held are the ones that agree and are not zero.
func comparePCRs(want map[string][]Digest, found map[int]claims.Hex, source string) (out []verdict.Check, held map[int]bool) {
	held = map[int]bool{}
	var same []string
	for _, i := range pcrIndexes(want) {
		list := want[strconv.Itoa(i)]
		switch v := found[i]; {
		case v == nil:
			out = append(out, verdict.Fail(verdict.PCRs, fmt.Sprintf("PCR %d is not among those signed", i), oneOf(list)).From(source))
		case !contains(list, v):
			out = append(out, verdict.Fail(verdict.PCRs, fmt.Sprintf("PCR %d: %s", i, v), oneOf(list)).From(source))
		default:
			same = append(same, strconv.Itoa(i))
			held[i] = !claims.Zero(v)
		}
	}
	if len(same) > 0 {
		out = append(out, verdict.Pass(verdict.PCRs, "as the policy lists: "+strings.Join(same, ", ")).From(source))
	}
	return out, held
}

// pcrIndexes are the registers that a policy names, ascending.
func pcrIndexes(pcrs map[string][]Digest) []int {
	out := make([]int, 0, len(pcrs))
	for k := range pcrs {
		if i, err := strconv.Atoi(k); err == nil { // checkPCRs saw to it
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// measuredPCRs prints registers that a policy could name.
func measuredPCRs(pcrs map[int]claims.Hex, which ...int) string {
	var out []string
	for _, i := range which {
		if v := pcrs[i]; v != nil {
			out = append(out, fmt.Sprintf("PCR %d %s", i, v))
		}
	}
	if out == nil {
		return "nothing that was quoted"
	}
	return strings.Join(out, ", ")
}

func (s *TPM) describe() []string {
	out := []string{"a TPM 2.0 quote of the bank " + s.bank() + " by a restricted attestation key"}
	switch {
	case s.AttestationKeys == nil:
		out = append(out, "the key is certified under a named root, or named by a TEE's report")
	default:
		out = append(out, "the attestation key is "+oneOf(s.AttestationKeys))
	}
	return append(out, describePCRs(s.PCRs)...)
}

func describePCRs(pcrs map[string][]Digest) []string {
	if len(pcrs) == 0 {
		return []string{"no register is named: which program runs is not judged"}
	}
	var out []string
	for _, i := range pcrIndexes(pcrs) {
		out = append(out, fmt.Sprintf("PCR %d is %s", i, oneOf(pcrs[strconv.Itoa(i)])))
	}
	return out
}
