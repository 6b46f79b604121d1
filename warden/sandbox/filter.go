//go:build linux

package sandbox

import (
	"golang.org/x/sys/unix"
)

// threadFlags are the flags with which the Go runtime makes a thread
// (runtime/os_linux.go): everything shared. Any other clone is a new process.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES |
	unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// The operations of futex(2) that the runtime uses: wait and wake, private.
const (
	futexWaitPrivate = 0 | 128
	futexWakePrivate = 1 | 128
)

// rules gives what a profile permits; docs/sandbox.md has the reason for each
// group. self is this process's id. What is not listed ends the process.
func rules(p Profile, o Options, self int) []rule {
	r := runtimeRules(self)
	r = append(r, descriptorRules()...)
	switch p {
	case Warden:
		r = append(r, wardenRules(o.Child, self)...)
		r = append(r, noExec()...)
		r = append(r, noPaths()...)
	case ChildCompile:
		r = append(r, childRules()...)
		r = append(r, compileRules()...)
		if o.CacheDir != "" {
			r = append(r, pathRules()...)
		} else {
			r = append(r, noPaths()...)
		}
	case ChildRun:
		r = append(r, childRules()...)
		r = append(r, noExec()...)
		r = append(r, noPaths()...)
	}
	return r
}

func allows(numbers ...uint32) []rule {
	r := make([]rule, len(numbers))
	for i, n := range numbers {
		r[i] = rule{nr: n, then: allow}
	}
	return r
}

func refuses(errno unix.Errno, numbers ...uint32) []rule {
	r := make([]rule, len(numbers))
	for i, n := range numbers {
		r[i] = rule{nr: n, then: fails(errno)}
	}
	return r
}

// runtimeRules is what a Go program needs to live. The most frequent come first:
// older kernels walk the list.
func runtimeRules(self int) []rule {
	r := []rule{{nr: unix.SYS_FUTEX, when: anyOf(1, futexWaitPrivate, futexWakePrivate), then: allow, otherwise: kill}}
	r = append(r, allows(
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP, // see also descriptorRules
		unix.SYS_SCHED_YIELD, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_RT_SIGRETURN,
		unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGACTION, unix.SYS_SIGALTSTACK,
		unix.SYS_MUNMAP, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2,
		unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
		unix.SYS_RESTART_SYSCALL, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETRANDOM,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP, readLimits,
		unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	)...)
	return append(r,
		rule{nr: unix.SYS_MADVISE, then: allow, otherwise: fails(unix.EINVAL), when: anyOf(2,
			unix.MADV_DONTNEED, unix.MADV_FREE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
			unix.MADV_COLLAPSE, unix.MADV_DONTDUMP)},
		rule{nr: unix.SYS_TGKILL, when: anyOf(0, uint32(self)), then: allow, otherwise: kill},
		rule{nr: unix.SYS_CLONE, when: anyOf(0, threadFlags, threadFlags|unix.CLONE_SETTLS), then: allow, otherwise: kill},
		// The flags lie in memory where a filter cannot look. glibc falls back to
		// clone; the runtime never calls it here.
		rule{nr: unix.SYS_CLONE3, then: fails(unix.ENOSYS)},
	)
}

// descriptorRules is what every profile may do with descriptors that it holds.
func descriptorRules() []rule {
	r := allows(
		unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_PPOLL,
		unix.SYS_RECVMSG, unix.SYS_SENDMSG, unix.SYS_RECVFROM, unix.SYS_SENDTO, unix.SYS_SHUTDOWN,
		unix.SYS_FSTAT, unix.SYS_LSEEK,
		unix.SYS_GETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	)
	r = append(r, allows(legacyPoll()...)...)
	// Not F_SETOWN, F_SETSIG, F_SETLEASE or F_NOTIFY: they make signals.
	r = append(r, rule{nr: unix.SYS_FCNTL, then: allow, otherwise: kill, when: anyOf(1,
		unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC,
		unix.F_ADD_SEALS, unix.F_GET_SEALS)})
	// Answered as for something that is no terminal, which is what it is asked for.
	r = append(r, refuses(unix.ENOTTY, unix.SYS_IOCTL)...)
	// Ways of io.Copy that it tries first and does without.
	return append(r, refuses(unix.ENOSYS, unix.SYS_PIPE2, unix.SYS_SPLICE, unix.SYS_SENDFILE, unix.SYS_COPY_FILE_RANGE)...)
}

// noExec allows memory that cannot be executed.
func noExec() []rule {
	plain := [][]check{{bits(2, unix.PROT_EXEC, 0)}}
	return []rule{
		{nr: unix.SYS_MMAP, when: plain, then: allow, otherwise: kill},
		{nr: unix.SYS_MPROTECT, when: plain, then: allow, otherwise: kill},
		// Naming memory is of no use to anyone, and the runtime takes no for an
		// answer; the rest of prctl is not for this process.
		{nr: unix.SYS_PRCTL, when: anyOf(0, unix.PR_SET_VMA), then: fails(unix.EINVAL), otherwise: kill},
	}
}

// noPaths refuses names of files without killing: the standard library tries
// some on its own account (the time zone, when it first prints a local time) and
// does well without.
func noPaths() []rule {
	return refuses(unix.EACCES, append(pathStat(),
		unix.SYS_OPENAT, unix.SYS_STATX, unix.SYS_READLINKAT, unix.SYS_FACCESSAT,
		unix.SYS_FACCESSAT2, unix.SYS_GETCWD)...)
}

// wardenRules is what the warden may do beyond that: make socket pairs and
// memory files, and look after its child.
func wardenRules(child, self int) []rule {
	r := allows(
		unix.SYS_CLOCK_GETTIME, // of the child too: its processor time is limited
		unix.SYS_MEMFD_CREATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_PWRITE64,
		unix.SYS_DUP3, unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_PIDFD_SEND_SIGNAL,
	)
	mine := []uint32{uint32(self)}
	if child > 0 {
		mine = append(mine, uint32(child))
	}
	// Of prlimit64: its own number of descriptors, and to read its own limits.
	limits := [][]check{
		{is(0, 0), is(1, unix.RLIMIT_NOFILE)},
		append([]check{is(0, 0)}, null(2)...),
	}
	if child > 0 {
		limits = append(limits, []check{is(0, uint32(child))})
	}
	return append(r,
		rule{nr: unix.SYS_SOCKETPAIR, when: anyOf(0, unix.AF_UNIX), then: allow, otherwise: kill},
		rule{nr: unix.SYS_SETSOCKOPT, then: allow, otherwise: kill, when: [][]check{
			{is(1, unix.SOL_SOCKET), is(2, unix.SO_SNDBUF)},
			{is(1, unix.SOL_SOCKET), is(2, unix.SO_RCVBUF)},
		}},
		rule{nr: unix.SYS_KILL, when: anyOf(0, mine...), then: allow, otherwise: kill},
		rule{nr: unix.SYS_PRLIMIT64, when: limits, then: allow, otherwise: kill},
	)
}

// childRules is what the exec child may do in both its profiles.
func childRules() []rule {
	return []rule{
		{nr: unix.SYS_MREMAP, then: allow},
		// Positive ids only: negative ones are the clocks of other processes.
		{nr: unix.SYS_CLOCK_GETTIME, when: [][]check{{bits(0, ^uint32(0xf), 0)}}, then: allow, otherwise: fails(unix.EINVAL)},
		// Only to read its own limits.
		{nr: unix.SYS_PRLIMIT64, when: [][]check{append([]check{is(0, 0)}, null(2)...)}, then: allow, otherwise: kill},
	}
}

// compileRules is what compiling needs, and what the step to ChildRun needs.
func compileRules() []rule {
	return []rule{
		{nr: unix.SYS_MMAP, then: allow}, // machine code
		{nr: unix.SYS_MPROTECT, then: allow},
		{nr: unix.SYS_PRCTL, when: anyOf(0, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP), then: allow, otherwise: fails(unix.EINVAL)},
		{nr: unix.SYS_LANDLOCK_CREATE_RULESET, then: allow},
		{nr: unix.SYS_LANDLOCK_RESTRICT_SELF, then: allow},
		{nr: unix.SYS_SECCOMP, then: allow, otherwise: kill, when: [][]check{
			{is(0, unix.SECCOMP_SET_MODE_FILTER), is(1, unix.SECCOMP_FILTER_FLAG_TSYNC)},
		}},
	}
}

// pathRules is what the cache of compiled code needs; Landlock holds it beneath
// one folder.
func pathRules() []rule {
	return allows(append(pathStat(),
		unix.SYS_OPENAT, unix.SYS_STATX, unix.SYS_READLINKAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_GETCWD,
		unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT,
		unix.SYS_GETDENTS64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FTRUNCATE, unix.SYS_PWRITE64)...)
}
