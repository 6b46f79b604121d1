//go:build linux

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// expectFlags say what a policy that is written may admit.
type expectFlags struct {
	workloadFlags
	expect      string
	image       []string
	dir         []string
	keepProgram string

	args []string // behind --, nil: none were given
}

// thisRelease is --expect-image without a value.
const thisRelease = "release"

func (f *expectFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.expect, "expect", "", "the `WORKLOAD` it must run: a folder, a WebAssembly module or a digest")
	c.Flags().StringArrayVar(&f.image, "expect-image", nil, "what must have been measured at launch: this release's Keeps, or =sim, =vm, =`HEX` (repeatable)")
	c.Flags().Lookup("expect-image").NoOptDefVal = thisRelease
	f.workloadFlags.register(c)
	c.Flags().StringArrayVar(&f.dir, "dir", nil, "with --expect, a folder that run was given, `HOST::GUEST` (the guest's side is measured)")
	c.Flags().StringVar(&f.keepProgram, "keep", "", "with --expect-image, the donjon-keep to measure, `FILE` (default: beside donjon)")
	completeWorkload(c)
}

// take looks at what belongs together, and takes the arguments behind --.
func (f *expectFlags) take(c *cobra.Command, args []string) error {
	dash := c.ArgsLenAtDash()
	switch {
	case dash < 0 && len(args) > 0 || dash > 0:
		hint := "usage: " + c.UseLine()
		if b, err := hex.DecodeString(args[0]); len(f.image) > 0 && (err == nil && len(b) > 0 || args[0] == "sim" || args[0] == "vm") {
			hint = "--expect-image=" + args[0]
		}
		return failHint(statusUsage, hint, fmt.Errorf("found %q, wanted flags, and the workload's own arguments after --", args[0]))
	case dash == 0:
		f.args = append([]string{}, args...)
	}
	if f.expect == "" {
		for _, n := range []string{"env", "config", "memory", "cpu-time", "wall-time", "output", "dir"} {
			if c.Flags().Changed(n) {
				return usageError(fmt.Errorf("--%s: belongs to --expect WORKLOAD", n))
			}
		}
		if f.args != nil {
			return usageError(errors.New("arguments after --: they belong to --expect WORKLOAD"))
		}
	}
	if f.keepProgram != "" && len(f.image) == 0 {
		return usageError(errors.New("--keep: belongs to --expect-image"))
	}
	return nil
}

// An expectation is what evidence is compared with before a policy is written for it.
type expectation struct {
	workload policy.Digest // nil: any
	named    string        // the workload, in words
	images   []policy.Digest
	measured string // the images in words; "": any
}

// expectation finds out what the flags mean.
func (a *app) expectation(f expectFlags) (*expectation, error) {
	e := &expectation{}
	if f.expect != "" {
		w, err := nameWorkload(f.expect, f.flags(f.args), f.dir)
		if err != nil {
			return nil, err
		}
		if e.workload, err = hex.DecodeString(strings.TrimPrefix(w.subject, "sha256:")); err != nil {
			return nil, err
		}
		e.named = w.subject
		if w.name != "" {
			e.named = fmt.Sprintf("%q, %s", w.name, w.subject)
		}
	}
	var tees, words []string
	release := false
	for _, x := range f.image {
		b, err := hex.DecodeString(x)
		switch {
		case x == thisRelease:
			release = true
		case x == "sim" || x == "vm":
			tees = append(tees, x)
		case err == nil && (len(b) == 48 || len(b) == 32):
			e.images = append(e.images, b)
			words = append(words, "the digest "+x)
		default:
			return nil, usageError(fmt.Errorf("--expect-image: found %q, wanted sim, vm, 48 bytes (SEV-SNP, Nitro) or 32 (SGX) in hexadecimal, or nothing for this release's Keeps", x))
		}
	}
	if release || len(tees) > 0 {
		if release {
			tees = nil
		}
		digests, err := a.simulatedDigests(tees, f.keepProgram)
		if err != nil {
			return nil, err
		}
		for _, d := range digests {
			b, err := hex.DecodeString(d.digest)
			if err != nil {
				return nil, err
			}
			e.images = append(e.images, b)
			words = append(words, "this release's "+d.tee+" Keep, "+d.digest[:16]+"…")
		}
	}
	e.measured = strings.Join(words, ", or ")
	return e, nil
}

// trust is that of a policy for whoever answered.
func (e *expectation) trust() string {
	switch {
	case e.workload == nil && e.measured == "":
		return policy.TrustFirstUse
	case e.measured == "":
		return policy.TrustFirstUseImage
	case e.workload == nil:
		return policy.TrustFirstUseWorkload
	}
	return ""
}

// compared says what is compared with what.
func (e *expectation) compared() string {
	var out []string
	if e.workload != nil {
		out = append(out, "the workload with "+e.named)
	}
	if e.measured != "" {
		out = append(out, "what was measured at launch with "+e.measured)
	}
	return strings.Join(out, "; ")
}

// fit writes the policy for evidence that is as expected. Evidence that is not is
// refused like any that a policy does not admit: a *verdict.Error.
func (e *expectation) fit(v *attest.Verifier, evidence []byte, o attest.Options, d policy.Draft) ([]byte, *policy.Policy, error) {
	d.Compared = e.compared()
	text, err := attest.Fit(v, evidence, o, d)
	if err != nil {
		return nil, nil, err
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	if d.Compared == "" {
		return text, p, nil
	}
	narrow, err := policy.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	if e.workload != nil {
		narrow.Workloads = []policy.Digest{e.workload}
	}
	if e.measured != "" {
		if err := e.pin(narrow); err != nil {
			return nil, nil, err
		}
	}
	o.Policy = narrow
	return text, p, v.Verify(evidence, o).Err()
}

// pin narrows a policy to the images that are expected.
func (e *expectation) pin(p *policy.Policy) error {
	of := func(size int) []policy.Digest {
		out := []policy.Digest{} // empty: admits nothing
		for _, d := range e.images {
			if len(d) == size {
				out = append(out, d)
			}
		}
		return out
	}
	switch {
	case p.TPM != nil && p.SNP != nil:
		return cannotCompare("SEV-SNP with a virtual TPM: the launch digest is the paravisor's, and the guest's program is in PCRs of the TPM", "[tpm.pcrs]")
	case p.TPM != nil:
		return cannotCompare("a TPM: a program is several PCRs, and the machine's firmware decides some of them", "[tpm.pcrs]")
	case p.TDX != nil:
		return cannotCompare("TDX: a program is MRTD and RTMR0 to RTMR2 together", "[[tdx.measurements]]")
	case p.SNP != nil:
		p.SNP.LaunchDigests = of(48)
	case p.SGX != nil:
		p.SGX.Enclaves, p.SGX.Signers = of(32), nil
	case p.Nitro != nil:
		p.Nitro.PCRs = map[string][]policy.Digest{"0": of(48)}
	default:
		return cannotCompare("another TEE", "the policy")
	}
	return nil
}

// cannotCompare refuses evidence whose program no single digest names: what is not
// compared must not be taken for compared.
func cannotCompare(what, table string) error {
	return failHint(verdict.CannotTell.ExitStatus(), "without --expect-image the policy names what was measured, in "+table+": compare it there yourself",
		fmt.Errorf("--expect-image: cannot tell: found %s; wanted SEV-SNP alone, SGX or Nitro, where one digest names the image", what))
}
