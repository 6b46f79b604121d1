//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/connect"
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
	e, err := a.expectation(f.expectFlags)
	if err != nil {
		return err
	}
	var text []byte
	if f.fromKeep != "" {
		text, err = a.fitKeep(f, o, e)
	} else {
		var evidence []byte
		if evidence, err = a.judged(f.judgeFlags, f.from, &o); err != nil {
			return err
		}
		var v attest.Verifier
		a.addCached(&v, evidence, &o)
		text, _, err = e.fit(&v, evidence, o, policy.Draft{})
	}
	var refused *verdict.Error
	if errors.As(err, &refused) {
		for i, c := range refused.Verdict.Checks {
			if c.Code == verdict.TrustedRoot && c.Status == verdict.Failed && refused.Verdict.Simulated {
				refused.Verdict.Checks[i].Hint = c.Hint + ": --trust-root"
			}
		}
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
		return asFailure(err)
	}
	_, err = a.stdout.Write(text)
	return err
}

// asFailure is a failure of the status 1 where err has none.
func asFailure(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	return fail(statusFailed, err)
}

// fitKeep writes the policy for whoever answers at an address: trust on first use,
// where it is not compared (THREATS T14).
func (a *app) fitKeep(f policyInitFlags, o attest.Options, e *expectation) ([]byte, error) {
	address, err := connect.ParseAddress(f.fromKeep)
	if err != nil {
		return nil, usageError(fmt.Errorf("--from-keep: %w", err))
	}
	if o.Collateral, err = a.readCollateral(f.collateral); err != nil {
		return nil, err
	}
	save, err := a.seenCollateral("", &o)
	if err != nil {
		return nil, err
	}
	var v attest.Verifier
	var text []byte
	var admitted *policy.Policy
	d := connect.Dialer{Address: address, Config: atls.Config{Options: o, Timeout: f.timeout}}
	if f.identity != "" {
		if d.Config.Certificate, err = a.takeIdentity(f.identity); err != nil {
			return nil, err
		}
	}
	d.Config.Judge = func(_ context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
		a.addCached(&v, p.Evidence, &o)
		var err error
		if text, admitted, err = e.fit(&v, p.Evidence, o, policy.Draft{Trust: e.trust()}); err != nil {
			return nil, err
		}
		o.Policy = admitted
		return v.Verify(p.Evidence, o), nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := d.Dial(ctx)
	if serr := save(); serr != nil {
		a.note("what was seen of collateral could not be remembered: %v", serr)
	}
	var refused *verdict.Error
	var failed *failure
	if err != nil && !errors.As(err, &refused) && !errors.As(err, &failed) {
		return nil, unreached(address, err)
	}
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	a.note("the policy admits what answers at %s now:", address)
	for _, line := range admitted.Describe() {
		a.note("  %s", line)
	}
	if e.compared() != "" {
		a.note("compared: %s", e.compared())
	}
	switch e.trust() {
	case policy.TrustFirstUse:
		a.note("%s: --expect WORKLOAD and --expect-image compare it", policy.TrustNote(e.trust()))
	case policy.TrustFirstUseImage:
		a.note("%s: --expect-image compares it; until then the workload is the launcher's word", policy.TrustNote(e.trust()))
	case policy.TrustFirstUseWorkload:
		a.note("%s: --expect WORKLOAD compares it", policy.TrustNote(e.trust()))
	}
	return text, nil
}
