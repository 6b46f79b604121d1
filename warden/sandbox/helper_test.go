//go:build linux

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the confined program: with this in its environment it
// applies profiles and does one thing, named in deeds.
const helperVar = "DONJON_SANDBOX_TEST"

func TestMain(m *testing.M) {
	if deed := os.Getenv(helperVar); deed != "" {
		os.Exit(helper(deed))
	}
	status := m.Run()
	if path, err := helperProgram(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// Exit statuses of the helper.
const (
	statusDone     = 0
	statusFailed   = 1
	statusNotThere = 77 // the deed cannot be tried here
)

func helper(deed string) int {
	do, ok := deeds()[deed]
	if !ok {
		fmt.Fprintf(os.Stderr, "no deed %q\n", deed)
		return statusFailed
	}
	err := do()
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, errNotThere):
		fmt.Fprintln(os.Stderr, err)
		return statusNotThere
	}
	fmt.Fprintln(os.Stderr, err)
	return statusFailed
}

var errNotThere = errors.New("not to be tried here")

// helperProgram gives a path of this test binary built without cgo, in a place
// that all users can read: with cgo not all threads can be reached, and
// donjon-keep is never built with it.
var helperProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "donjon-sandbox")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	out := filepath.Join(dir, "sandbox.test")
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno == 0 {
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			return "", err
		}
		return out, os.WriteFile(out, self, 0o755)
	}
	cmd := exec.Command("go", "test", "-c", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building without cgo: %w\n%s", err, b)
	}
	return out, nil
})

// start says how a helper is started.
type start struct {
	deed  string
	procs int    // GOMAXPROCS; 0: as many as there are
	uid   int    // 0: as it is
	cache string // folder for ChildCompile
	attr  *syscall.SysProcAttr
}

func (s start) run(t *testing.T) (*os.ProcessState, string) {
	t.Helper()
	path, err := helperProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = []string{helperVar + "=" + s.deed, "CACHE=" + s.cache, "GOTRACEBACK=all"}
	if s.procs > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(s.procs))
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = s.attr
	if s.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("starting the helper: %v", err)
	}
	if cmd.ProcessState.ExitCode() == statusNotThere {
		t.Skip(strings.TrimSpace(out.String()))
	}
	return cmd.ProcessState, out.String()
}

// lives fails the test unless the deed is done.
func (s start) lives(t *testing.T) string {
	t.Helper()
	state, out := s.run(t)
	if !state.Success() {
		t.Fatalf("%s: found %s, wanted success\n%s", s.deed, state, out)
	}
	return out
}

// dies fails the test unless the filter ends the process.
func (s start) dies(t *testing.T) {
	t.Helper()
	state, out := s.run(t)
	ws := state.Sys().(syscall.WaitStatus)
	if !ws.Signaled() || ws.Signal() != syscall.SIGSYS {
		t.Fatalf("%s: found %s, wanted it killed by SIGSYS\n%s", s.deed, state, out)
	}
	if ws.CoreDump() {
		t.Errorf("%s: it left a core dump", s.deed)
	}
}

// users runs a test as whoever runs it and, where that is root, as an ordinary
// user too.
func users(t *testing.T, do func(t *testing.T, uid int)) {
	t.Run("self", func(t *testing.T) { do(t, 0) })
	if os.Getuid() == 0 {
		t.Run("nobody", func(t *testing.T) { do(t, 65534) })
	}
}

// cacheFor makes a folder that uid can write to.
func cacheFor(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "donjon-cache")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if uid != 0 {
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
