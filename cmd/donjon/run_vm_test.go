//go:build linux

package main

import "testing"

func TestVMMemory(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		what                                     string
		module, limit, ceiling                   uint64
		wantGuest, atLeastMachine, atMostMachine uint64
	}{
		{"a small program fits into 160 MiB with the machine's own 96", 4 << 10, 0, 0, 60*mib + 64<<10, 60 * mib, 63 * mib},
		{"compiling decides", 10 * mib, 0, 0, 220 * mib, 480 * mib, 480 * mib},
		{"a limit is there in full", 2 * mib, 512 * mib, 0, 512 * mib, 512*mib + 40*mib, 600 * mib},
		{"the host's ceiling is the lower one", 2 * mib, 512 * mib, 100 * mib, 100 * mib, 140 * mib, 160 * mib},
		{"a limit above the ceiling of WebAssembly", mib, 1 << 50, 0, 4 << 30, 4 << 30, 5 << 30},
	} {
		machine, guest := vmMemory(c.module, c.limit, c.ceiling)
		if guest != c.wantGuest || machine < c.atLeastMachine || machine > c.atMostMachine {
			t.Errorf("%s: found %d bytes of which the guest's are %d, wanted %d to %d and %d", c.what, machine, guest, c.atLeastMachine, c.atMostMachine, c.wantGuest)
		}
	}
}
