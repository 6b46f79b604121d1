package policy

import (
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Nitro is the section [nitro]: attestation documents of AWS Nitro Enclaves.
type Nitro struct {
	// PCRs lists, by register ("0" to "31"), the values that are accepted, 48 bytes in
	// hexadecimal: 0 the enclave image, 1 its kernel and boot ramdisk, 2 its
	// application, 3 the parent instance's IAM role, 4 the parent instance, 8 the
	// image's signing certificate. Every register named must be in the document. Absent:
	// none is named, and nothing says which software runs (check runtime-pinned).
	PCRs map[string][]Digest `toml:"pcrs"`
	// AllowDebug admits enclaves in debug mode, whose registers 0 to 2 are zero and
	// whose console the parent instance reads. Default: refused.
	AllowDebug bool `toml:"allow_debug"`
	// MaxAge is how old a document may be, by its own timestamp, at the time of judging;
	// one from more than 5 minutes in the future is refused with it. 0: any age, and
	// freshness is the nonce's.
	MaxAge Duration `toml:"max_age"`
	// ModuleIDs lists the enclaves that are accepted, as "i-…-enc…". Absent: any; empty:
	// none.
	ModuleIDs []string `toml:"module_ids"`
}

// nitroClockSkew is how far a document's clock may be ahead of the verifier's.
const nitroClockSkew = 5 * time.Minute

func (s *Nitro) check() error {
	if err := checkPCRs(s.PCRs, 31, 48); err != nil {
		return err
	}
	for _, m := range s.ModuleIDs {
		if m == "" || len(m) > 256 {
			return fmt.Errorf("module_ids: found %d bytes, wanted 1 to 256", len(m))
		}
	}
	return nil
}

// A Nitro document has no host data; the program is pinned by the image (PCR 0), or by
// kernel and application together (PCR 1 and 2), which are the image's two parts. PCR 8
// names who signed an image, and so any image of his.
func (s *Nitro) appraise(c *claims.Claims, d Demand, p *Policy) []verdict.Check {
	n := c.Nitro
	if n == nil {
		return []verdict.Check{verdict.Fail(verdict.PCRs, "no document", "an attestation document of a Nitro enclave").From("policy: [nitro]")}
	}
	out := []verdict.Check{s.debug(n)}
	checks, held := comparePCRs(s.PCRs, n.PCRs, "policy: [nitro] pcrs")
	out = append(out, checks...)
	// In debug mode they are zero for every image, and pin none, whatever is listed.
	switch {
	case held[0]:
		out = append(out, verdict.Pass(verdict.RuntimePinned, "by PCR 0").From("policy: [nitro] pcrs"))
	case held[1] && held[2]:
		out = append(out, verdict.Pass(verdict.RuntimePinned, "by PCR 1 and 2").From("policy: [nitro] pcrs"))
	default:
		out = append(out, d.unpinned(measuredPCRs(n.PCRs, 0, 1, 2)))
	}
	if s.MaxAge > 0 {
		out = append(out, s.age(n, d))
	}
	if s.ModuleIDs != nil {
		out = append(out, s.module(n))
	}
	return out
}

func (s *Nitro) debug(n *claims.NitroClaims) verdict.Check {
	const source = "policy: [nitro] allow_debug"
	switch {
	case !n.Debug:
		return verdict.Pass(verdict.Debug, "PCR 0 is not zero").From(source)
	case s.AllowDebug:
		return verdict.Pass(verdict.Debug, "PCR 0 is zero, debug mode; the policy allows it").From(source)
	}
	return verdict.Fail(verdict.Debug, "PCR 0 is zero: the enclave runs in debug mode", "PCR 0 of an image").From(source).
		Advise("start the enclave without --debug-mode")
}

func (s *Nitro) age(n *claims.NitroClaims, d Demand) verdict.Check {
	const source = "policy: [nitro] max_age"
	found := "made at " + n.Timestamp.UTC().Format(time.RFC3339)
	limit := time.Duration(s.MaxAge)
	switch {
	case n.Timestamp.After(d.At.Add(nitroClockSkew)):
		return verdict.Fail(verdict.Age, found, "no later than "+d.At.UTC().Format(time.RFC3339)).From(source).Advise("a clock is wrong")
	case d.At.Sub(n.Timestamp) > limit:
		return verdict.Fail(verdict.Age, found, "at most "+limit.String()+" before "+d.At.UTC().Format(time.RFC3339)).From(source)
	}
	return verdict.Pass(verdict.Age, found).From(source)
}

func (s *Nitro) module(n *claims.NitroClaims) verdict.Check {
	const source = "policy: [nitro] module_ids"
	for _, m := range s.ModuleIDs {
		if m == n.ModuleID {
			return verdict.Pass(verdict.Platforms, n.ModuleID).From(source)
		}
	}
	return verdict.Fail(verdict.Platforms, n.ModuleID, fmt.Sprintf("one of %d that the policy lists", len(s.ModuleIDs))).From(source)
}

func (s *Nitro) describe() []string {
	out := []string{"an attestation document under AWS's Nitro Enclaves root"}
	if s.AllowDebug {
		out = append(out, "debug mode is allowed: the parent instance reads the console")
	} else {
		out = append(out, "debug mode is refused")
	}
	if s.MaxAge > 0 {
		out = append(out, "at most "+time.Duration(s.MaxAge).String()+" old")
	}
	if s.ModuleIDs != nil {
		out = append(out, fmt.Sprintf("the enclave is one of %d listed", len(s.ModuleIDs)))
	}
	return append(out, describePCRs(s.PCRs)...)
}
