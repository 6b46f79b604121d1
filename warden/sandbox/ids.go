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

// errNoSuchID says that the user namespace maps no second id, as in a Keep that an
// ordinary user has started.
var errNoSuchID = errors.New("the user namespace has no such id")

// changeID takes the ids of o in all three forms, and no further groups. keep:
// without losing the capabilities by that.
func changeID(o Options, keep bool) error {
	if keep {
		if err := everyThread(unix.PR_SET_KEEPCAPS, 1); err != nil {
			return fmt.Errorf("keeping capabilities: %w", err)
		}
	}
	if o.GID != 0 {
		if err := syscall.Setresgid(o.GID, o.GID, o.GID); err != nil {
			return noSuchID("gid", o.GID, err)
		}
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("leaving all groups: %w", err)
		}
	}
	if o.UID != 0 {
		if err := syscall.Setresuid(o.UID, o.UID, o.UID); err != nil {
			return noSuchID("uid", o.UID, err)
		}
	}
	return nil
}

func noSuchID(what string, id int, err error) error {
	if errors.Is(err, unix.EINVAL) { // setresuid(2): not valid in this user namespace
		return errNoSuchID
	}
	return fmt.Errorf("taking %s %d: %w", what, id, err)
}

// capabilities is what capget and capset take in version 3: two words of each
// set.
type capabilities [2]unix.CapUserData

// dropCapabilities gives up all that this process holds, on each thread, but for
// CAP_KILL where keepKill says so; the ambient set goes with the permitted one. The bounding set stays: it limits only
// what execve gives, and here execve gives nothing (no_new_privs) and ends the
// process (docs/decisions/0006-sandbox.md).
func dropCapabilities(keepKill bool) error {
	var now, want capabilities
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&h, &now[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	if keepKill {
		const bit = 1 << unix.CAP_KILL
		want[0].Permitted = now[0].Permitted & bit
		want[0].Effective = want[0].Permitted
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&want)), 0)
	runtime.KeepAlive(&h)
	runtime.KeepAlive(&want)
	if errno != 0 {
		return fmt.Errorf("giving up capabilities: %w", explain(errno))
	}
	return nil
}
