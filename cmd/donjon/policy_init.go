//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// policyInit prints a policy that admits what one piece of evidence shows. A
// simulated root is named in it only where it is this machine's or was named on the
// command line (THREATS T14).
func (a *app) policyInit(f policyInitFlags) error {
	o := attest.Options{}
	var err error
	if o.Nonce, err = nonceFlag(f.nonce); err != nil {
		return err
	}
	named := f.trustRoot
	if len(named) == 0 {
		named = []string{""}
	}
	for _, r := range named {
		roots, err := a.namedRoots(r)
		if err != nil {
			return err
		}
		o.SimulatedRoots = append(o.SimulatedRoots, roots...)
	}
	var text []byte
	if f.fromKeep != "" {
		text, err = a.fitKeep(f, o)
	} else {
		var evidence []byte
		if evidence, err = a.judged(f.judgeFlags, f.from, &o); err != nil {
			return err
		}
		var v attest.Verifier
		a.addCached(&v, evidence, &o)
		text, err = attest.Fit(&v, evidence, o, policy.Draft{})
	}
	var refused *verdict.Error
	if errors.As(err, &refused) {
		if f.asJSON {
			if err := a.printJSON(refused.Verdict); err != nil {
				return err
			}
		}
		for i, c := range refused.Verdict.Deciding() {
			if i > 0 {
				a.note("also: the check %s %s: found %s", c.Code, strings.ReplaceAll(string(c.Status), "_", " "), c.Found)
			}
		}
		return fmt.Errorf("no policy is written: %w", verdictStatus(refused.Verdict))
	}
	if err != nil {
		return fail(statusFailed, err)
	}
	_, err = a.stdout.Write(text)
	return err
}

// fitKeep writes the policy for whoever answers at an address: trust on first use.
func (a *app) fitKeep(f policyInitFlags, o attest.Options) ([]byte, error) {
	var err error
	if o.Collateral, err = a.readCollateral(f.collateral); err != nil {
		return nil, err
	}
	var v attest.Verifier
	var text []byte
	d := atls.Dialer{Config: atls.Config{Options: o}}
	d.Judge = func(_ context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
		a.addCached(&v, p.Evidence, &o)
		var err error
		if text, err = attest.Fit(&v, p.Evidence, o, policy.Draft{FirstUse: true}); err != nil {
			return nil, err
		}
		if o.Policy, err = policy.Parse(text); err != nil {
			return nil, err
		}
		return v.Verify(p.Evidence, o), nil
	}
	conn, err := d.DialContext(context.Background(), "tcp", f.fromKeep)
	if err != nil {
		return nil, err
	}
	admitted, _ := policy.Parse(text)
	a.note("the policy admits what answers at %s now; it is compared with nothing:", f.fromKeep)
	for _, line := range admitted.Describe() {
		a.note("  %s", line)
	}
	return text, conn.Close()
}
