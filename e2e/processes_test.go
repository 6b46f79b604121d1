//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// T32: the processes of a Keep leave no core, trace nothing, and were given
// nothing of the environment that donjon runs in.
func TestT32ProcessesOfAKeep(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may look into the processes of a Keep")
	}
	const marker = "SECRET-IN-THE-ENVIRONMENT"
	t.Setenv("DONJON_TEST_SECRET", marker)
	t.Setenv("GOTRACEBACK", "all")
	l := newLab(t, "relay")
	r := l.run(t, l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls")}), nil)
	conn, err := tls.Dial("tcp", r.address(t), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ask(conn, "are you there"); err != nil { // the guest runs: everything is applied
		t.Fatal(err)
	}
	pids := processesOf(t, filepath.Join(l.dir, "donjon-keep"))
	if len(pids) != 2 {
		t.Fatalf("found %d processes, wanted warden and child", len(pids))
	}
	for _, pid := range pids {
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join("/proc", pid, name))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if env := read("environ"); env != "GOTRACEBACK=none\x00" {
			t.Errorf("environment: found %q", env)
		}
		if args := read("cmdline"); args != "donjon-keep\x00exec\x00" && args != filepath.Join(l.dir, "donjon-keep")+"\x00sim\x00" && !strings.HasSuffix(args, "shared-mounts\x00") {
			t.Errorf("arguments: found %q", args)
		}
		fields := func(file, name string) []string {
			for line := range strings.Lines(read(file)) {
				if rest, ok := strings.CutPrefix(line, name); ok {
					return strings.Fields(rest)
				}
			}
			return nil
		}
		for _, want := range [][2]string{{"NoNewPrivs:", "1"}, {"Seccomp:", "2"}, {"CoreDumping:", "0"}, {"TracerPid:", "0"}} {
			if got := fields("status", want[0]); len(got) != 1 || got[0] != want[1] {
				t.Errorf("%s found %q, wanted %s", want[0], got, want[1])
			}
		}
		if got := fields("limits", "Max core file size"); len(got) < 2 || got[0] != "0" || got[1] != "0" {
			t.Errorf("core file size: found %q, wanted 0", got)
		}
	}
}

// processesOf gives the processes that run program.
func processesOf(t *testing.T, program string) []string {
	t.Helper()
	want, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if got, err := os.Stat(filepath.Join("/proc", e.Name(), "exe")); err == nil && os.SameFile(got, want) {
			out = append(out, e.Name())
		}
	}
	return out
}

// noSeccomp, in the environment, makes the test binary forbid itself the seccomp
// system call and become the program that follows.
const noSeccomp = "DONJON_TEST_NO_SECCOMP"

func TestBecomeWithoutSeccomp(t *testing.T) {
	list := os.Getenv(noSeccomp)
	if list == "" {
		return // it is a helper of the test below
	}
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SECCOMP, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		t.Fatal(errno)
	}
	args := strings.Split(list, "\n")
	t.Fatal(syscall.Exec(args[0], args, slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, noSeccomp+"=") })))
}

// T32: where the system call filter cannot be applied nothing runs, unless the
// user says so by name; then the lack is printed.
func TestT32NoSeccomp(t *testing.T) {
	l := newLab(t, "hello")
	for _, c := range []struct {
		flags  []string
		status int
		stdout string
		stderr string
	}{
		{nil, 125, "", "system call filter"},
		{[]string{"--weak-sandbox"}, 0, "hello", "system call filter"},
	} {
		args := append([]string{filepath.Join(l.dir, "donjon"), "run", "--tee", "sim"}, c.flags...)
		args = append(args, filepath.Join(l.dir, "hello.wasm"))
		cmd := exec.Command(os.Args[0], "-test.run=^TestBecomeWithoutSeccomp$")
		cmd.Env = append(os.Environ(), noSeccomp+"="+strings.Join(args, "\n"), "HOME="+l.dir, "XDG_CACHE_HOME=", "XDG_STATE_HOME=")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.status || !strings.HasPrefix(out.String(), c.stdout) || c.stdout == "" && out.Len() > 0 || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: found %d, %q, %q; wanted %d, %q, %q", c.flags, got, out.String(), errs.String(), c.status, c.stdout, c.stderr)
		}
	}
}
