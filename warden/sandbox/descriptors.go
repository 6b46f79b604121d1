//go:build linux

package sandbox

import (
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// InheritNothing marks every descriptor of this process from 3 up as closed on
// execve, so that a program started from here on gets those alone that it is
// handed by name. What Go opens is marked already; what the process was started
// with is not, and shells and supervisors leave descriptors open. The host calls
// it before it starts donjon-keep, donjon-keep before it spawns the exec child:
// THREATS T19 allows the child no descriptor but its socket pair.
func InheritNothing() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	// Before Linux 5.11: one after the other.
	dir, derr := os.ReadDir("/proc/self/fd")
	if derr != nil {
		return fmt.Errorf("sandbox: marking descriptors: %w, and without it: %w", err, derr)
	}
	for _, e := range dir {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
