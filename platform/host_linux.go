package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxNames  = 4096
	maxOutput = 1 << 20
)

// NewHost is the machine that this process runs on. launches names the backends
// that this build can launch.
func NewHost(launches ...string) *Host {
	return &Host{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernelRelease(), Launches: launches,
		CPUID: hostCPUID(), ReadFile: readFile, List: listNames, Stat: os.Stat, Access: access,
		LookPath: exec.LookPath, Run: run, Getenv: os.Getenv, Now: time.Now,
		KVMVersion: kvmVersion, LandlockABI: landlockABI, UserNamespace: userNamespace,
		NoNewPrivs: noNewPrivs, Memlock: memlock,
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func readFile(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(limit)))
}

func listNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxNames)
	if err != nil && err != io.EOF {
		return nil, err
	}
	sort.Strings(names)
	return names, nil
}

// access opens the file, because the mode bits say nothing about access lists,
// device cgroups or a driver that refuses.
func access(path string, a Access) error {
	flags := unix.O_NONBLOCK
	switch a {
	case Read | Write:
		flags |= os.O_RDWR
	case Write:
		flags |= os.O_WRONLY
	default:
		flags |= os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	out := &limited{left: maxOutput}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return out.Bytes(), nil
}

// limited keeps the first bytes written to it and swallows the rest, so that a
// program that floods its output still ends.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.Buffer.Write(p[:n])
	return len(p), nil
}

func kvmVersion() (int, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	v, err := unix.IoctlRetInt(int(f.Fd()), kvmGetAPIVersion)
	if err != nil {
		return 0, fmt.Errorf("KVM_GET_API_VERSION: %w", err)
	}
	return v, nil
}

func landlockABI() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(v), nil
	case unix.ENOSYS:
		return 0, errors.New("the kernel has none")
	case unix.EOPNOTSUPP:
		return 0, errors.New("switched off at boot")
	}
	return 0, errno
}

// userNamespace starts a program that does nothing in a user namespace; that it
// could be started is the answer.
func userNamespace(ctx context.Context) error {
	program, err := exec.LookPath("true")
	if err != nil {
		return fmt.Errorf("nothing to start in a namespace: %w", fs.ErrNotExist)
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd.Run()
}

// noNewPrivs only asks: setting it would bind this process for good.
func noNewPrivs() error {
	_, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err
}

func memlock() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		return 0, err
	}
	return r.Cur, nil
}
