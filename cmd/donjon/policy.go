//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/atls"
)

func newPolicyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "write and explain policies: what verify demands of evidence",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPolicyInitCommand(a), newPolicyCheckCommand(a))
	return c
}

func newPolicyCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check POLICY",
		Short: "check a policy file and explain it in words",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.stdout, printable(strings.Join(p.Describe(), "\n")+"\n"))
			return err
		},
	}
}

type policyInitFlags struct {
	judgeFlags
	expectFlags
	from, nonce string
	fromKeep    string
	identity    string
	timeout     time.Duration
	trustRoot   []string
}

func newPolicyInitCommand(a *app) *cobra.Command {
	var f policyInitFlags
	c := &cobra.Command{
		Use:   "init {--from EVIDENCE | --from-keep ADDRESS} [--expect WORKLOAD [-- ARGS]]",
		Short: "print a policy that admits exactly this evidence, or this Keep",
		Long: `init judges EVIDENCE, or what the Keep at ADDRESS shows of itself now, and prints a
commented policy that admits what it shows and nothing else. What has to be waived for
that (a missing revocation list, a TCB status, Milan) stands in it by name, with the
reason. Debugging, revocation and a signature that does not hold are never waived, nor
is what Intel says of quoting enclave and platform: then nothing is printed, and the
status is verify's. A simulated root other than this machine's is named by --trust-root
or refused.

The policy says what the evidence says, and with --from-keep whoever answers there is
believed: trust on first use. Whether the workload and the program that was measured
are those you want is for you to say: --expect compares the workload, with the flags
that are measured, and --expect-image what was measured at launch. With both, nothing
is taken on first use.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := notEmpty(c, "nonce", "at", "from", "from-keep", "identity", "expect"); err != nil {
				return err
			}
			if (f.from == "") == (f.fromKeep == "") {
				return usageError(fmt.Errorf("wanted one of --from and --from-keep: which evidence is the policy for"))
			}
			if f.fromKeep != "" && (f.at != "" || f.nonce != "") {
				return usageError(fmt.Errorf("--from-keep: the Keep is asked now, with a nonce of its own: --at and --nonce belong to --from"))
			}
			if f.from != "" && f.identity != "" {
				return usageError(fmt.Errorf("--identity: belongs to --from-keep"))
			}
			if f.timeout <= 0 {
				return usageError(fmt.Errorf("--timeout: wanted a time above 0"))
			}
			if err := f.expectFlags.take(c, args); err != nil {
				return err
			}
			return a.policyInit(f)
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.from, "from", "", "the `EVIDENCE` to admit (- is stdin)")
	c.Flags().StringVar(&f.fromKeep, "from-keep", "", "the `ADDRESS` of a Keep to admit: what answers there now")
	c.Flags().StringVar(&f.nonce, "nonce", "", "the nonce the evidence holds, in `HEX`: the policy then demands one")
	c.Flags().DurationVar(&f.timeout, "timeout", atls.DefaultTimeout, "with --from-keep, a `TIME` for connecting and attesting")
	c.Flags().StringVar(&f.identity, "identity", "", "with --from-keep, show the client identity in this `FOLDER` to a Keep that asks for it")
	c.Flags().StringArrayVar(&f.trustRoot, "trust-root", nil, "a simulated root that may be named, its certificate's `FILE` or fingerprint (default: this machine's)")
	f.expectFlags.register(c)
	for _, n := range []string{"from-keep", "timeout"} {
		_ = c.RegisterFlagCompletionFunc(n, cobra.NoFileCompletions)
	}
	_ = c.MarkFlagDirname("identity")
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

func (f *policyInitFlags) register(c *cobra.Command) { f.judgeFlags.register(c) }
