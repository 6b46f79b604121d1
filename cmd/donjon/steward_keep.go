//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/sim"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/workload"
)

// sealerKeeps say how this program starts Keeps of the built-in sealer.
func (a *app) sealerKeeps(tee string, allowSimulated bool) *sealing.Keep {
	return &sealing.Keep{TEE: tee, AllowSimulated: allowSimulated, Use: a.useSealer, Expect: a.expectSealer}
}

// expectSealer says what the sealer's Keep of this machine and this donjon-keep shows.
func (a *app) expectSealer(_ context.Context, tee string) (sealing.Expected, error) {
	var x sealing.Expected
	digests, err := a.simulatedDigests([]string{tee}, "")
	if err != nil {
		return x, err
	}
	b, err := hex.DecodeString(digests[0].digest)
	if err != nil || len(b) != len(x.LaunchDigest) {
		return x, fmt.Errorf("the launch digest of a %s Keep: found %q", tee, digests[0].digest)
	}
	copy(x.LaunchDigest[:], b)
	sil, err := a.silicon()
	if err != nil {
		return x, err
	}
	x.SimulatedRoot = sil.RootFingerprint()
	return x, nil
}

func (a *app) silicon() (*silicon.Silicon, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	return silicon.Open(filepath.Join(dir, "silicon"))
}

// useSealer starts a Keep of the sealer, lets use ask it, and ends it.
func (a *app) useSealer(ctx context.Context, tee string, use func(sealing.SealerKeep) error) error {
	return a.useSealerOf(ctx, "", tee, use)
}

// useSealerOf is useSealer with the donjon-keep named; "": this release's.
func (a *app) useSealerOf(ctx context.Context, named, tee string, use func(sealing.SealerKeep) error) error {
	program, err := a.keepProgram(named)
	if err != nil {
		return err
	}
	sil, err := a.silicon()
	if err != nil {
		return err
	}
	w := workload.Sealer()
	spec := keep.Spec{HostData: w.Digest, Arch: runtime.GOARCH, KeepProgram: program, Verbose: a.verbose, Progress: a.progress}
	var machine keep.Machine
	switch tee {
	case "sim":
		machine, err = launchDumpable(func() (keep.Machine, error) { return sim.Launch(ctx, spec, nil) })
	case "vm":
		spec.Memory, _ = vmMemory(0, 0, 0)
		machine, err = a.launchVM(ctx, nil, spec)
	default:
		return fmt.Errorf("a Keep in %q cannot be started here, only sim and vm", tee)
	}
	if err != nil {
		return err
	}
	if tee == "sim" {
		for _, n := range machine.Notes() {
			a.note("the sealer Keep: sandbox: not applied: %s", n)
		}
	}
	a.detail("a %s Keep of the built-in sealer, simulated: workload digest %s", tee, w.Digest)
	guest := sil.Guest(silicon.Launch{HostData: w.Digest}, machine.Measurement)
	log := func(level int, text string) {
		if level == 0 {
			a.note("the sealer Keep: %s", oneLine(text))
		} else {
			a.detail("the sealer Keep: %s", oneLine(text))
		}
	}
	return keep.UseSealer(ctx, keep.Options{Workload: w, Machine: machine, TEE: tee, Silicon: guest, Patience: patience(tee, spec.Arch),
		Grace: time.Second, Verbose: a.verbose, Log: log}, func(s *keep.Sealer) error { return use(s) })
}

// launchDumpable launches while this process may be dumped: the ids of a child's user
// namespace are written by its parent, and the files in /proc of a child that may not be
// dumped are root's (proc(5)). It is milliseconds, and no core is written all the same.
func launchDumpable(launch func() (keep.Machine, error)) (keep.Machine, error) {
	if may, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && may == 0 {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		defer func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }()
	}
	return launch()
}

// recoveryHint is printed when a key was sealed in a Keep: the first, and each after it.
func (a *app) recoveryHint(dir string) {
	fmt.Fprintf(a.stderr, `The keys that seal secrets open in this machine's Keep of this donjon-keep alone: not
after an upgrade, nor on another machine. Make a copy under a passphrase, and keep it
elsewhere:
    donjon steward sealing copy --state %s --passphrase-file FILE FOLDER

`, printable(shellWord(dir)))
}

// saysWhy tells the user why a Keep could not be used: the Steward's own answer to a verb
// does not, for it may go to anybody.
func (a *app) saysWhy(start sealerUse) sealerUse {
	return func(ctx context.Context, tee string, use func(sealing.SealerKeep) error) error {
		err := start(ctx, tee, use)
		if err != nil {
			a.note("the keys that seal secrets: %v", err)
		}
		return err
	}
}

type sealerUse = func(context.Context, string, func(sealing.SealerKeep) error) error
