//go:build linux

package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// collateralAge is for how long vendor data that was read from disk is used again:
// a newer revocation list there must be seen.
const collateralAge = time.Minute

// A connectJudge judges one connection after the other. What it remembers is vendor
// data and which of its signatures hold, and never a verdict.
type connectJudge struct {
	a     *app // says nothing
	v     attest.Verifier
	paths []string // --collateral
	seen  *collateral.HighWater
	save  func() error
	note  func(string, ...any)

	mu   sync.Mutex
	read time.Time
	set  *collateral.Set // nil: nothing was wanted yet
}

func (a *app) newConnectJudge(paths []string) (*connectJudge, error) {
	// Once aloud: what cannot be read is wrong usage.
	if _, err := a.readCollateral(paths); err != nil {
		return nil, err
	}
	j := &connectJudge{paths: paths, note: a.note, a: &app{stdin: a.stdin, stdout: io.Discard, stderr: io.Discard, getenv: a.getenv, quiet: true}}
	var o attest.Options
	var err error
	if j.save, err = a.seenCollateral("", &o); err != nil {
		return nil, err
	}
	j.seen = o.Seen
	return j, nil
}

// judge is the judge of an atls.Config. Vendor data is read where the evidence is not
// admitted without it.
func (j *connectJudge) judge(_ context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
	o.Collateral = j.remembered(o.At)
	out := j.v.Verify(p.Evidence, o)
	if out.Outcome == verdict.Admitted || out.Claims == nil {
		return out, nil
	}
	set, err := j.a.readCollateral(j.paths)
	if err != nil { // the verdict stands as it is
		j.note("%v", err)
		return out, nil
	}
	o.Collateral = collateral.Merge(set, j.a.cachedCollateral(out.Claims))
	out = j.v.Verify(p.Evidence, o)
	if out.Outcome == verdict.Admitted {
		j.mu.Lock()
		j.set, j.read = o.Collateral, o.At
		j.mu.Unlock()
	}
	return out, nil
}

func (j *connectJudge) remembered(at time.Time) *collateral.Set {
	j.mu.Lock()
	defer j.mu.Unlock()
	if age := at.Sub(j.read); age < 0 || age > collateralAge {
		j.set = nil
	}
	return j.set
}

// remember saves what was seen of collateral (THREATS T25).
func (j *connectJudge) remember() {
	if err := j.save(); err != nil {
		j.note("what was seen of collateral could not be remembered: %v", err)
	}
}
