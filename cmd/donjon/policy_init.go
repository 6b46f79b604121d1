//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest"
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
	evidence, err := a.judged(f.judgeFlags, f.from, &o)
	if err != nil {
		return err
	}
	var v attest.Verifier
	a.addCached(&v, evidence, &o)
	text, err := attest.Fit(&v, evidence, o)
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
