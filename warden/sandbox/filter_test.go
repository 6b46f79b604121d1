//go:build linux

package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilters asks each profile's filter about calls that matter; the columns are
// Warden, ChildCompile, ChildRun.
func TestFilters(t *testing.T) {
	eacces, einval, enosys, enotty := fails(unix.EACCES), fails(unix.EINVAL), fails(unix.ENOSYS), fails(unix.ENOTTY)
	const (
		r  = unix.PROT_READ
		rw = unix.PROT_READ | unix.PROT_WRITE
		rx = unix.PROT_READ | unix.PROT_EXEC
	)
	all := func(a action) [3]action { return [3]action{a, a, a} }
	for _, c := range []struct {
		name string
		nr   uint32
		args [6]uint64
		want [3]action
	}{
		{"read", unix.SYS_READ, [6]uint64{}, all(allow)},
		{"readv", unix.SYS_READV, [6]uint64{}, all(allow)},
		{"recvmsg", unix.SYS_RECVMSG, [6]uint64{}, all(allow)},
		{"ppoll", unix.SYS_PPOLL, [6]uint64{}, all(allow)},
		{"exit_group", unix.SYS_EXIT_GROUP, [6]uint64{}, all(allow)},
		{"getrandom", unix.SYS_GETRANDOM, [6]uint64{}, all(allow)},
		{"futex wait", unix.SYS_FUTEX, [6]uint64{0, 128}, all(allow)},
		{"futex requeue pi", unix.SYS_FUTEX, [6]uint64{0, 12}, all(kill)},

		{"thread", unix.SYS_CLONE, [6]uint64{0x50f00}, all(allow)},
		{"process", unix.SYS_CLONE, [6]uint64{uint64(unix.SIGCHLD)}, all(kill)},
		{"thread in a new user namespace", unix.SYS_CLONE, [6]uint64{0x50f00 | unix.CLONE_NEWUSER}, all(kill)},
		{"clone3", unix.SYS_CLONE3, [6]uint64{}, all(enosys)},
		{"execve", unix.SYS_EXECVE, [6]uint64{}, all(kill)},
		{"execveat", unix.SYS_EXECVEAT, [6]uint64{}, all(kill)},

		{"mmap rw", unix.SYS_MMAP, [6]uint64{0, 4096, rw}, all(allow)},
		{"mmap rx", unix.SYS_MMAP, [6]uint64{0, 4096, rx}, [3]action{kill, allow, kill}},
		{"mprotect r", unix.SYS_MPROTECT, [6]uint64{0, 4096, r}, all(allow)},
		{"mprotect rx", unix.SYS_MPROTECT, [6]uint64{0, 4096, rx}, [3]action{kill, allow, kill}},
		{"mprotect rx, high word set", unix.SYS_MPROTECT, [6]uint64{0, 4096, rx | 1<<32}, [3]action{kill, allow, kill}},
		{"pkey_mprotect", unix.SYS_PKEY_MPROTECT, [6]uint64{0, 4096, rx}, all(kill)},
		{"mremap", unix.SYS_MREMAP, [6]uint64{}, [3]action{kill, allow, allow}},
		{"madvise dontneed", unix.SYS_MADVISE, [6]uint64{0, 0, unix.MADV_DONTNEED}, all(allow)},
		{"madvise hwpoison", unix.SYS_MADVISE, [6]uint64{0, 0, unix.MADV_HWPOISON}, all(einval)},
		{"remap_file_pages", unix.SYS_REMAP_FILE_PAGES, [6]uint64{}, all(kill)},

		{"openat", unix.SYS_OPENAT, [6]uint64{}, [3]action{eacces, allow, eacces}},
		{"openat2", unix.SYS_OPENAT2, [6]uint64{}, all(kill)},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [6]uint64{}, all(kill)},
		{"unlinkat", unix.SYS_UNLINKAT, [6]uint64{}, [3]action{kill, allow, kill}},
		{"symlinkat", unix.SYS_SYMLINKAT, [6]uint64{}, all(kill)},
		{"linkat", unix.SYS_LINKAT, [6]uint64{}, all(kill)},
		{"fchmodat", unix.SYS_FCHMODAT, [6]uint64{}, all(kill)},
		{"memfd_create", unix.SYS_MEMFD_CREATE, [6]uint64{}, [3]action{allow, kill, kill}},
		{"ftruncate", unix.SYS_FTRUNCATE, [6]uint64{}, [3]action{allow, allow, kill}},
		{"ioctl FIONREAD", unix.SYS_IOCTL, [6]uint64{0, unix.TIOCINQ}, all(enotty)},
		{"ioctl TIOCSTI", unix.SYS_IOCTL, [6]uint64{0, unix.TIOCSTI}, all(enotty)},
		{"fcntl getfl", unix.SYS_FCNTL, [6]uint64{0, unix.F_GETFL}, all(allow)},
		{"fcntl setown", unix.SYS_FCNTL, [6]uint64{0, unix.F_SETOWN}, all(kill)},
		{"splice", unix.SYS_SPLICE, [6]uint64{}, all(enosys)},
		{"vmsplice", unix.SYS_VMSPLICE, [6]uint64{}, all(kill)},

		{"socket", unix.SYS_SOCKET, [6]uint64{unix.AF_INET}, all(kill)},
		{"socket unix", unix.SYS_SOCKET, [6]uint64{unix.AF_UNIX}, all(kill)},
		{"connect", unix.SYS_CONNECT, [6]uint64{}, all(kill)},
		{"bind", unix.SYS_BIND, [6]uint64{}, all(kill)},
		{"listen", unix.SYS_LISTEN, [6]uint64{}, all(kill)},
		{"accept4", unix.SYS_ACCEPT4, [6]uint64{}, all(kill)},
		{"socketpair unix", unix.SYS_SOCKETPAIR, [6]uint64{unix.AF_UNIX}, [3]action{allow, kill, kill}},
		{"socketpair tipc", unix.SYS_SOCKETPAIR, [6]uint64{unix.AF_TIPC}, all(kill)},
		{"attach a filter", unix.SYS_SETSOCKOPT, [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, all(kill)},

		{"tgkill itself", unix.SYS_TGKILL, [6]uint64{testSelf}, all(allow)},
		{"tgkill another", unix.SYS_TGKILL, [6]uint64{1}, all(kill)},
		{"kill its child", unix.SYS_KILL, [6]uint64{testChild, 9}, [3]action{allow, kill, kill}},
		{"kill another", unix.SYS_KILL, [6]uint64{1, 9}, all(kill)},
		{"kill all", unix.SYS_KILL, [6]uint64{^uint64(0), 9}, all(kill)},
		{"kill its group", unix.SYS_KILL, [6]uint64{0, 9}, all(kill)},
		{"pidfd_send_signal", unix.SYS_PIDFD_SEND_SIGNAL, [6]uint64{}, [3]action{allow, kill, kill}},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, [6]uint64{1}, all(kill)},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uint64{}, all(kill)},
		{"own clock", unix.SYS_CLOCK_GETTIME, [6]uint64{unix.CLOCK_MONOTONIC}, all(allow)},
		{"another's clock", unix.SYS_CLOCK_GETTIME, [6]uint64{0xffffffffffff7782}, [3]action{allow, einval, einval}},
		{"read own limits", unix.SYS_PRLIMIT64, [6]uint64{0, unix.RLIMIT_AS}, all(allow)},
		{"raise descriptors", unix.SYS_PRLIMIT64, [6]uint64{0, unix.RLIMIT_NOFILE, 1 << 40}, [3]action{allow, kill, kill}},
		{"allow core dumps", unix.SYS_PRLIMIT64, [6]uint64{0, unix.RLIMIT_CORE, 1 << 40}, all(kill)},
		{"limits of the child", unix.SYS_PRLIMIT64, [6]uint64{testChild, unix.RLIMIT_AS, 1 << 40}, [3]action{allow, kill, kill}},

		{"more filter", unix.SYS_SECCOMP, [6]uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC}, [3]action{kill, allow, kill}},
		{"filter with a listener", unix.SYS_SECCOMP, [6]uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, all(kill)},
		{"dumpable again", unix.SYS_PRCTL, [6]uint64{unix.PR_SET_DUMPABLE, 1}, [3]action{kill, einval, kill}},
		{"name memory", unix.SYS_PRCTL, [6]uint64{unix.PR_SET_VMA}, all(einval)},
		{"ptrace", unix.SYS_PTRACE, [6]uint64{}, all(kill)},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uint64{}, all(kill)},
		{"mount", unix.SYS_MOUNT, [6]uint64{}, all(kill)},
		{"chroot", unix.SYS_CHROOT, [6]uint64{}, all(kill)},
		{"unshare", unix.SYS_UNSHARE, [6]uint64{}, all(kill)},
		{"setns", unix.SYS_SETNS, [6]uint64{}, all(kill)},
		{"setresuid", unix.SYS_SETRESUID, [6]uint64{}, all(kill)},
		{"capset", unix.SYS_CAPSET, [6]uint64{}, all(kill)},
		{"bpf", unix.SYS_BPF, [6]uint64{}, all(kill)},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uint64{}, all(kill)},
		{"io_uring_enter", unix.SYS_IO_URING_ENTER, [6]uint64{}, all(kill)},
		{"userfaultfd", unix.SYS_USERFAULTFD, [6]uint64{}, all(kill)},
		{"keyctl", unix.SYS_KEYCTL, [6]uint64{}, all(kill)},
		{"add_key", unix.SYS_ADD_KEY, [6]uint64{}, all(kill)},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uint64{}, all(kill)},
		{"personality", unix.SYS_PERSONALITY, [6]uint64{}, all(kill)},
		{"syslog", unix.SYS_SYSLOG, [6]uint64{}, all(kill)},
		{"finit_module", unix.SYS_FINIT_MODULE, [6]uint64{}, all(kill)},
		{"a number of tomorrow", 4000, [6]uint64{}, all(kill)},
	} {
		for i, p := range []Profile{Warden, ChildCompile, ChildRun} {
			prog := program(t, p)
			if got := decide(t, prog, call{auditArch, c.nr, c.args}); got != c.want[i] {
				t.Errorf("%s: %s: found %#x, wanted %#x", p, c.name, got, c.want[i])
			}
			// The same call by any other convention dies.
			for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_PPC64, 0} {
				if got := decide(t, prog, call{arch, c.nr, c.args}); got != kill {
					t.Errorf("%s: %s by architecture %#x: found %#x, wanted it killed", p, c.name, arch, got)
				}
			}
			if numberLimit != 0 {
				if got := decide(t, prog, call{auditArch, c.nr | numberLimit, c.args}); got != kill {
					t.Errorf("%s: %s as x32: found %#x, wanted it killed", p, c.name, got)
				}
			}
		}
	}
}

// TestNoCacheFolder: without a folder to write to, compiling opens nothing.
func TestNoCacheFolder(t *testing.T) {
	prog, err := assemble(auditArch, numberLimit, rules(ChildCompile, Options{}, testSelf))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := decide(t, prog, call{auditArch, unix.SYS_OPENAT, [6]uint64{}}), fails(unix.EACCES); got != want {
		t.Errorf("openat: found %#x, wanted %#x", got, want)
	}
	if got := decide(t, prog, call{auditArch, unix.SYS_UNLINKAT, [6]uint64{}}); got != kill {
		t.Errorf("unlinkat: found %#x, wanted it killed", got)
	}
}

// TestWardenWithoutChild: with no child named, no process can be signalled by
// number.
func TestWardenWithoutChild(t *testing.T) {
	prog, err := assemble(auditArch, numberLimit, rules(Warden, Options{}, testSelf))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []uint64{0, 1, testChild, ^uint64(0)} {
		if got := decide(t, prog, call{auditArch, unix.SYS_KILL, [6]uint64{pid, 9}}); got != kill {
			t.Errorf("kill(%d): found %#x, wanted it killed", int64(pid), got)
		}
	}
}
