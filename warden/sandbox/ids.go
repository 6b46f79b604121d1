//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepsKill says whether the one capability is kept that lets the warden end a
// child of another uid. The filter lets it signal no process but that one.
func keepsKill(p Profile, o Options) bool { return p == Warden && o.UID != 0 }

// changeID takes the ids of o in all three forms, and no further groups.
func changeID(p Profile, o Options) error {
	if keepsKill(p, o) {
		if err := everyThread(unix.PR_SET_KEEPCAPS, 1); err != nil {
			return fmt.Errorf("keeping CAP_KILL: %w", err)
		}
	}
	if o.GID != 0 {
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("leaving all groups: %w", err)
		}
		if err := syscall.Setresgid(o.GID, o.GID, o.GID); err != nil {
			return fmt.Errorf("taking gid %d: %w", o.GID, err)
		}
	}
	if o.UID != 0 {
		if err := syscall.Setresuid(o.UID, o.UID, o.UID); err != nil {
			return fmt.Errorf("taking uid %d: %w", o.UID, err)
		}
	}
	return nil
}

// capget and capset speak version 3: 64 capabilities in two words each.
type capabilities [2]unix.CapUserData

func readCapabilities() (capabilities, error) {
	var c capabilities
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&h, &c[0]); err != nil {
		return c, fmt.Errorf("reading capabilities: %w", err)
	}
	return c, nil
}

func (c capabilities) has(n int) bool { return c[n/32].Effective&(1<<(n%32)) != 0 }

// dropBounding empties the bounding set: what no execve could ever give back. To
// do so takes CAP_SETPCAP; who has no capabilities at all needs nothing done,
// because no_new_privs keeps execve from giving any.
func dropBounding() error {
	c, err := readCapabilities()
	if err != nil {
		return err
	}
	if c[0].Permitted|c[1].Permitted == 0 {
		return nil
	}
	if !c.has(unix.CAP_SETPCAP) {
		return errors.New("the bounding set cannot be emptied without CAP_SETPCAP")
	}
	for n := 0; n < 64; n++ {
		v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		if err != nil {
			break // past the last that this kernel knows
		}
		if v == 0 {
			continue
		}
		if err := everyThread(unix.PR_CAPBSET_DROP, uintptr(n)); err != nil {
			return fmt.Errorf("dropping capability %d: %w", n, err)
		}
	}
	return nil
}

// dropCapabilities gives up all that this process holds, on each thread.
func dropCapabilities(p Profile, o Options) error {
	now, err := readCapabilities()
	if err != nil {
		return err
	}
	var want capabilities
	if keepsKill(p, o) {
		const bit = 1 << unix.CAP_KILL
		want[0].Permitted = now[0].Permitted & bit
		want[0].Effective = want[0].Permitted
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&want)), 0)
	runtime.KeepAlive(&h)
	runtime.KeepAlive(&want)
	if errno != 0 {
		return fmt.Errorf("giving up capabilities: %w", explain(errno))
	}
	return nil
}
