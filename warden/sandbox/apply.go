//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Apply confines the whole process, all its threads, for good. It gives a
// [*NotAppliedError] where a mandatory part failed: no_new_privs and the system
// call filter. The rest is optional and in the report.
//
// Before it returns with an error it may have applied some parts; the process
// should end, or go on knowing that it is confined weakly.
//
// ChildRun is laid over ChildCompile and refused without it.
func Apply(p Profile, o Options) (Report, error) {
	var r Report
	switch p {
	case Warden, ChildCompile:
		if err := everyThread(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
			return r, &NotAppliedError{p, "no_new_privs", err}
		}
		r.note("no_new_privs", nil)
		r.confine(p, o)
	case ChildRun:
		if err := confined(); err != nil {
			return r, &NotAppliedError{p, "the profile before it", err}
		}
		r.land(p, "")
	default:
		return r, &NotAppliedError{p, "a list of system calls", errors.New("there is none")}
	}
	if err := install(rules(p, o, os.Getpid())); err != nil {
		return r, &NotAppliedError{p, "the system call filter", err}
	}
	r.note("system call filter", nil)
	return r, nil
}

// confine does what can be done once only, before system calls are filtered. The
// order matters: each step takes away what the ones before it needed.
func (r *Report) confine(p Profile, o Options) {
	none := unix.Rlimit{}
	r.note("no core dumps", unix.Setrlimit(unix.RLIMIT_CORE, &none))
	dir := ""
	if p == ChildCompile {
		dir = o.CacheDir
	}
	r.land(p, dir)
	keepKill := false
	if o.UID != 0 || o.GID != 0 {
		// A process may not signal one of another uid without this capability, and
		// the warden ends its child. The filter lets it signal no other.
		keepKill = p == Warden && o.UID != 0
		err := changeID(o, keepKill)
		keepKill = keepKill && err == nil
		if !errors.Is(err, errNoSuchID) {
			r.note("another uid", err)
		}
	}
	r.note("no capabilities", dropCapabilities(keepKill))
	// Changing ids resets both of these (prctl(2)).
	r.note("not dumpable", everyThreadOnce(unix.PR_SET_DUMPABLE, 0))
	if p == ChildCompile {
		r.note("ends with its parent", everyThread(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)))
	}
}

func (r *Report) land(p Profile, dir string) {
	what, err := landlock(p, dir)
	if err != nil {
		what = "landlock"
	}
	r.note(what, err)
}

// confined says whether ChildCompile is in force.
func confined() error {
	if v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || v != 1 {
		return fmt.Errorf("no_new_privs: found %d (%v), wanted 1", v, err)
	}
	if v, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || v != unix.SECCOMP_MODE_FILTER {
		return fmt.Errorf("seccomp mode: found %d (%v), wanted %d", v, err, unix.SECCOMP_MODE_FILTER)
	}
	return nil
}

// everyThread calls prctl on each thread of the process: what it sets belongs to
// a thread. New threads inherit it.
func everyThread(option, value uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, option, value, 0); errno != 0 {
		return explain(errno)
	}
	return nil
}

// everyThreadOnce is for what belongs to the process.
func everyThreadOnce(option int, value uintptr) error {
	return unix.Prctl(option, value, 0, 0, 0)
}

func explain(errno syscall.Errno) error {
	if errno == syscall.ENOTSUP {
		return errors.New("this program was built with cgo, whose threads cannot all be reached: build it with CGO_ENABLED=0")
	}
	return errno
}

// install puts the filter on all threads at once.
func install(r []rule) error {
	prog, err := assemble(auditArch, numberLimit, r)
	if err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(&fprog)
	runtime.KeepAlive(prog)
	if errno != 0 {
		return errno
	}
	if tid != 0 { // the thread that could not be brought along (seccomp(2))
		return fmt.Errorf("thread %d already has another filter", tid)
	}
	return nil
}
