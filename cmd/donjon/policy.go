//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
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
	from, nonce string
	fromKeep    string
	trustRoot   []string
}

func newPolicyInitCommand(a *app) *cobra.Command {
	var f policyInitFlags
	c := &cobra.Command{
		Use:   "init --from EVIDENCE",
		Short: "print a policy that admits exactly this evidence",
		Long: `init judges EVIDENCE and prints a commented policy that admits what it shows and
nothing else. What has to be waived for that (a missing revocation list, a TCB
status, Milan) stands in it by name, with the reason. Debugging, revocation and a
signature that does not hold are never waived, nor is what Intel says of quoting
enclave and platform: then nothing is printed, and the status is verify's.

The policy says what the evidence says. Whether the program that was measured is the
one you want is for you to find out: donjon image measure predicts it.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := notEmpty(c, "nonce", "at"); err != nil {
				return err
			}
			if (f.from == "") == (f.fromKeep == "") {
				return usageError(fmt.Errorf("wanted one of --from and --from-keep: which evidence is the policy for"))
			}
			return a.policyInit(f)
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.from, "from", "", "the `EVIDENCE` to admit (- is stdin)")
	c.Flags().StringVar(&f.fromKeep, "from-keep", "", "the `ADDRESS` of a Keep to admit: what answers there now")
	c.Flags().StringVar(&f.nonce, "nonce", "", "the nonce the evidence holds, in `HEX`: the policy then demands one")
	c.Flags().StringArrayVar(&f.trustRoot, "trust-root", nil, "a simulated root that may be named, its certificate's `FILE` or fingerprint (default: this machine's)")
	return c
}
