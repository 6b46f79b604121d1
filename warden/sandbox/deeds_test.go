//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deeds is all that a helper process can do; names are "profile: deed".
func deeds() map[string]func() error {
	m := map[string]func() error{
		"warden: be busy":       func() error { return wardenBusy(Options{}) },
		"warden: other uid":     func() error { return wardenBusy(Options{UID: WardenID, GID: WardenID}) },
		"child: be busy":        childBusy,
		"child: run guest":      runGuest,
		"child: run first":      func() error { return applied(Apply(ChildRun, Options{})) },
		"any: no such profile":  func() error { return applied(Apply(Profile(9), Options{})) },
		"any: inherit":          inherits,
		"any: enter root":       enterRoot,
		"any: sleep":            func() error { time.Sleep(time.Minute); return nil },
		"warden: report":        func() error { return report(Warden, 0) },
		"warden: report, moved": func() error { return report(Warden, WardenID) },
		"compile: report":       func() error { return report(ChildCompile, 0) },
	}
	for name, do := range crimes() {
		m["warden: "+name] = confinedTo(do, Warden)
		m["compile: "+name] = confinedTo(do, ChildCompile)
		m["run: "+name] = confinedTo(do, ChildCompile, ChildRun)
	}
	return m
}

func confinedTo(do func() error, profiles ...Profile) func() error {
	return func() error {
		for _, p := range profiles {
			if _, err := Apply(p, Options{CacheDir: os.Getenv("CACHE")}); err != nil {
				return err
			}
		}
		return do()
	}
}

func applied(_ Report, err error) error {
	var na *NotAppliedError
	if !errors.As(err, &na) {
		return fmt.Errorf("found error %v, wanted a NotAppliedError", err)
	}
	return nil
}

// crimes are what a guest that got out would try.
func crimes() map[string]func() error {
	raw := func(nr uintptr, args ...uintptr) func() error {
		var a [6]uintptr
		copy(a[:], args)
		return func() error {
			r, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
			if errno != 0 {
				return errno
			}
			return fmt.Errorf("it gave %d", int(r))
		}
	}
	return map[string]func() error{
		"open a file of the host": func() error {
			_, err := os.Open("/etc/passwd")
			return refusedWith(err, unix.EACCES)
		},
		"open a file in the cache": func() error {
			_, err := os.ReadDir(os.Getenv("CACHE"))
			return refusedWith(err, unix.EACCES)
		},
		"write a file outside the cache": func() error {
			err := os.WriteFile(filepath.Join(filepath.Dir(os.Getenv("CACHE")), "donjon-stray"), nil, 0o600)
			return refusedWith(err, unix.EACCES)
		},
		"use the cache": useCache,
		"socket": func() error {
			_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			return err
		},
		"unix socket": func() error {
			_, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			return err
		},
		"connect":          func() error { return unix.Connect(0, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}) },
		"execve":           func() error { return unix.Exec("/proc/self/exe", []string{"x"}, nil) },
		"fork":             raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
		"clone3":           func() error { return refusedWith(raw(unix.SYS_CLONE3, 0, 0)(), unix.ENOSYS) },
		"ptrace":           raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
		"kill its parent":  func() error { return unix.Kill(os.Getppid(), unix.SIGCONT) },
		"kill everyone":    func() error { return unix.Kill(-1, 0) },
		"mount":            func() error { return unix.Mount("x", "/", "tmpfs", 0, "") },
		"unshare":          func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"bpf":              raw(unix.SYS_BPF),
		"io_uring":         raw(unix.SYS_IO_URING_SETUP, 1),
		"userfaultfd":      raw(unix.SYS_USERFAULTFD),
		"keyctl":           raw(unix.SYS_KEYCTL),
		"process_vm_readv": raw(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid())),
		"become root":      raw(unix.SYS_SETRESUID, 0, 0, 0),
		"executable memory": func() error {
			m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			return unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC)
		},
		"memory file": func() error { _, err := unix.MemfdCreate("x", 0); return err },
	}
}

func refusedWith(err error, want unix.Errno) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("found %v, wanted %v", err, want)
}

// useCache does to the folder what compiling does.
func useCache() error {
	dir := filepath.Join(os.Getenv("CACHE"), "sub")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "x")
	if err != nil {
		return err
	}
	if _, err := f.WriteString("code"); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, "y")); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "y"))
	if err != nil || string(b) != "code" {
		return fmt.Errorf("read %q (%v)", b, err)
	}
	found := false
	err = filepath.WalkDir(os.Getenv("CACHE"), func(path string, _ os.DirEntry, err error) error {
		found = found || filepath.Base(path) == "y"
		return err
	})
	if err != nil || !found {
		return fmt.Errorf("walking the cache: found %t (%v)", found, err)
	}
	return os.Remove(filepath.Join(dir, "y"))
}

// wardenBusy does all that a warden does: look after a child that it started
// before, move bytes with many goroutines, make memory files, keep time, collect
// garbage.
func wardenBusy(o Options) error {
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	child, err := os.StartProcess("/proc/self/exe", []string{"child"}, &os.ProcAttr{
		Env: []string{helperVar + "=any: sleep"}, Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return err
	}
	o.Child = child.Pid
	r, err := Apply(Warden, o)
	if err != nil {
		return err
	}
	if o.UID != 0 {
		for _, m := range r.Missing {
			if m.What == "another uid" {
				return fmt.Errorf("%w: %s", errNotThere, m)
			}
		}
		if os.Getuid() != o.UID || os.Getgid() != o.GID {
			return fmt.Errorf("uid %d gid %d, wanted %d and %d", os.Getuid(), os.Getgid(), o.UID, o.GID)
		}
	}
	if err := busy(pipe); err != nil {
		return err
	}
	if err := memoryFile(); err != nil {
		return err
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	var ts unix.Timespec // the child's processor time, as engine/child asks for it
	if err := unix.ClockGettime(int32(^child.Pid)<<3|2, &ts); err != nil {
		return fmt.Errorf("the child's clock: %w", err)
	}
	if err := child.Kill(); err != nil {
		return fmt.Errorf("ending the child: %w", err)
	}
	st, err := child.Wait()
	if err != nil {
		return fmt.Errorf("waiting for the child: %w", err)
	}
	if ws := st.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		return fmt.Errorf("the child: found %s, wanted it killed", st)
	}
	return nil
}

func memoryFile() error {
	fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 1<<20); err != nil {
		return err
	}
	m, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	m[12345] = 7
	if err := unix.Munmap(m); err != nil {
		return err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	return err
}

func childBusy() error {
	// The pairs are made before: a child makes none.
	var made [pairs][2]*os.File
	for i := range made {
		a, b, err := pipe()
		if err != nil {
			return err
		}
		made[i] = [2]*os.File{a, b}
	}
	o := Options{CacheDir: os.Getenv("CACHE")}
	for _, p := range []Profile{ChildCompile, ChildRun} {
		if _, err := Apply(p, o); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	next := 0
	return busy(func() (*os.File, *os.File, error) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return made[next-1][0], made[next-1][1], nil
	})
}

func pipe() (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b"), nil
}

const (
	pairs    = 16
	messages = 200
)

// busy is a Go program at work: goroutines in the network poller, threads bound
// and new, timers, garbage, signals of preemption, local time.
func busy(pipe func() (*os.File, *os.File, error)) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2*pairs+8)
	for range pairs {
		a, b, err := pipe()
		if err != nil {
			return err
		}
		wg.Go(func() { errs <- talk(a, true) })
		wg.Go(func() { errs <- talk(b, false) })
	}
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() { // a thread each
			runtime.LockOSThread()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if i%64 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 20 {
		heap := make([][]byte, 0, 256)
		for range 256 {
			heap = append(heap, make([]byte, 64<<10))
		}
		runtime.GC()
		runtime.KeepAlive(heap)
	}
	debug.FreeOSMemory()
	close(stop)
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	// The runtime looks for the time zone's file here and must live without.
	if s := time.Now().Local().String(); !strings.Contains(s, "UTC") && !strings.Contains(s, "+") && !strings.Contains(s, "-") {
		return fmt.Errorf("local time %q", s)
	}
	return nil
}

func talk(f *os.File, first bool) error {
	defer f.Close()
	buf := make([]byte, 4096)
	for range messages {
		for _, write := range []bool{first, !first} {
			var err error
			if write {
				_, err = f.Write(buf)
			} else {
				_ = f.SetReadDeadline(time.Now().Add(30 * time.Second))
				err = readFull(f, buf)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func readFull(f *os.File, b []byte) error {
	for n := 0; n < len(b); {
		m, err := f.Read(b[n:])
		if err != nil {
			return err
		}
		n += m
	}
	return nil
}

// report prints what was applied, and checks it against the kernel's own view.
func report(p Profile, id int) error {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	r, err := Apply(p, Options{CacheDir: os.Getenv("CACHE"), UID: id, GID: id})
	if err != nil {
		return err
	}
	var buf [8192]byte
	n, err := unix.Pread(int(status.Fd()), buf[:], 0)
	if err != nil {
		return err
	}
	fmt.Printf("applied: %s\n", strings.Join(r.Applied, ", "))
	for _, m := range r.Missing {
		fmt.Printf("missing: %s\n", m)
	}
	fmt.Printf("%s", buf[:n])
	return nil
}
