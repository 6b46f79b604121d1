//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/vm"
)

// place is the kind of Keep that the flags ask for, checked against those that
// one kind alone has.
func (f *runFlags) place() (string, error) {
	tee := f.tee
	if tee == "" {
		tee = "sim"
		if f.arch != "" {
			tee = "vm" // no other kind runs another processor
		}
	}
	switch f.arch {
	case "", "amd64", "arm64", "ppc64le":
	default:
		return "", fmt.Errorf("--arch: found %q, wanted amd64, arm64 or ppc64le", f.arch)
	}
	if f.arch != "" && f.arch != runtime.GOARCH && tee != "vm" {
		return "", fmt.Errorf("--arch %s: found --tee %s, wanted vm: only a virtual machine can have another processor than this host's (%s)", f.arch, tee, runtime.GOARCH)
	}
	if f.kernel != "" && tee == "sim" {
		return "", errors.New("--kernel goes with --tee vm: a sim Keep boots no kernel of its own")
	}
	return tee, nil
}

func (f *runFlags) processor() string {
	if f.arch != "" {
		return f.arch
	}
	return runtime.GOARCH
}

// vmMemory is what a vm Keep of a module of that many bytes gets beside what its
// kernel and the warden need, and how much of it the guest may take. A limit or
// the host's ceiling (0: none) decides the guest's part; without either it grows
// with the module. The rest is for compiling and sealing the code, up to 40 times
// the module, and for the code in memory while it runs, up to 20 times, both as
// measured and with a margin (docs/images.md).
func vmMemory(module, limit, ceiling uint64) (machine, guest uint64) {
	guest = limit
	if guest == 0 {
		guest = 60<<20 + 16*module
	}
	if ceiling > 0 {
		guest = min(guest, ceiling)
	}
	guest = min(guest, 4<<30)
	return max(48*module, 24*module+guest), guest
}

// patience is how long a Keep may take to ask for its workload once it spoke.
func patience(tee, arch string) time.Duration {
	switch {
	case tee != "vm":
		return 0 // the default
	case arch != runtime.GOARCH:
		return 3 * time.Minute
	}
	return time.Minute
}

// errStopped: a signal came while the Keep was being launched.
var errStopped = errors.New("stopped")

// launchVM boots a vm Keep; a signal meanwhile ends the attempt.
func (a *app) launchVM(ctx context.Context, stop <-chan struct{}, spec keep.Spec) (keep.Machine, error) {
	ctx, cancel := context.WithCancel(ctx)
	booted := make(chan struct{})
	go func() {
		select {
		case <-stop:
			cancel()
		case <-booted:
		}
	}()
	machine, err := vm.Launch(ctx, spec, vm.Options{CacheDir: a.cacheDir()})
	close(booted)
	select {
	case <-stop:
		cancel()
		if err == nil {
			_ = machine.Kill()
			_ = machine.Wait()
		}
		return nil, errStopped
	default:
	}
	if err != nil {
		cancel()
		return nil, err
	}
	// The machine lives as long as ctx; what cancels it is the caller's context.
	context.AfterFunc(ctx, cancel)
	for _, n := range machine.Notes() {
		a.detail("%s", n)
	}
	return machine, nil
}
