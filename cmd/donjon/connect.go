//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

type connectFlags struct {
	policy, listen string
	collateral     []string
	asJSON         bool
}

func newConnectCommand(a *app) *cobra.Command {
	var f connectFlags
	c := &cobra.Command{
		Use:   "connect [flags] ADDRESS --policy POLICY",
		Short: "talk to a Keep through an attested connection",
		Long: `connect verifies the Keep at ADDRESS (HOST:PORT) over the connection itself, and
with --listen carries local connections to it: each one is verified afresh, and not
a byte is sent to a Keep that the policy does not admit.

exit status: 0 done, 1 failed or not reached, 2 wrong usage, 10 not genuine,
11 genuine and refused, 12 something demanded could not be checked.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := notEmpty(c, "policy", "listen"); err != nil {
				return err
			}
			return a.connect(f, args[0])
		},
	}
	c.Flags().StringVar(&f.policy, "policy", "", "what is demanded of the Keep, a policy `FILE`")
	c.Flags().StringVar(&f.listen, "listen", "", "carry the connections made to this local `ADDRESS`")
	c.Flags().StringArrayVar(&f.collateral, "collateral", nil, "vendor data: a bundle, a file or a folder of files (`PATH`, repeatable)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the verdict as JSON")
	return c
}

func (a *app) connect(f connectFlags, address string) error {
	if f.policy == "" {
		return failHint(statusUsage, "donjon policy init --from-keep "+address+" writes one", errors.New("--policy is missing: what is demanded of the Keep"))
	}
	p, err := readPolicy(f.policy)
	if err != nil {
		return err
	}
	d := atls.Dialer{}
	d.Options.Policy = p
	if d.Options.Collateral, err = a.readCollateral(f.collateral); err != nil {
		return err
	}
	var v attest.Verifier
	d.Judge = func(_ context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
		a.addCached(&v, p.Evidence, &o)
		return v.Verify(p.Evidence, o), nil
	}
	if p.Trust == policy.TrustFirstUse {
		a.note("%s was written at first contact and compared with nothing", f.policy)
	}
	ctx := context.Background()
	first, err := d.DialContext(ctx, "tcp", address)
	var refused *verdict.Error
	if errors.As(err, &refused) {
		if err := a.printVerdict(refused.Verdict, f.asJSON); err != nil {
			return err
		}
		return verdictStatus(refused.Verdict)
	}
	if err != nil {
		return fail(statusFailed, fmt.Errorf("%s: %w", address, err))
	}
	if err := a.printVerdict(first.(*atls.Conn).Verdict, f.asJSON); err != nil {
		return err
	}
	_ = first.Close()
	if f.listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fail(statusFailed, err)
	}
	a.note("listening on %s", l.Addr())
	for {
		local, err := l.Accept()
		if err != nil {
			return fail(statusFailed, err)
		}
		go func() {
			defer local.Close()
			keep, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				a.note("a connection was refused: %v", err)
				return
			}
			defer keep.Close()
			go func() {
				_, _ = io.Copy(keep, local)
				_ = keep.(*atls.Conn).CloseWrite()
			}()
			_, _ = io.Copy(local, keep)
		}()
	}
}
