//go:build linux

// Package e2e runs the built programs as a user would: one script a story, in
// testdata/script. Guests are built from testdata/guest.
package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/donjon-tee/donjon/attest/published"
)

func build(dir string) error {
	run := func(env []string, args ...string) error {
		c := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}, args...)...)
		c.Env = append(os.Environ(), env...)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %v: %w\n%s", args, err, out)
		}
		return nil
	}
	for _, p := range []string{"donjon", "donjon-keep"} {
		if err := run([]string{"CGO_ENABLED=0"}, "-o", filepath.Join(dir, p), "../cmd/"+p); err != nil {
			return err
		}
	}
	for _, arch := range []string{"arm64", "ppc64le"} { // as make cross leaves them
		if err := run([]string{"CGO_ENABLED=0", "GOARCH=" + arch}, "-o", filepath.Join(dir, "donjon-keep-"+arch), "../cmd/donjon-keep"); err != nil {
			return err
		}
	}
	for _, g := range []string{"hello", "act", "server"} {
		if err := run([]string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}, "-o", filepath.Join(dir, g+".wasm"), "./testdata/guest/"+g); err != nil {
			return err
		}
	}
	return nil
}

func TestScripts(t *testing.T) {
	dir := t.TempDir()
	if err := build(dir); err != nil {
		t.Fatal(err)
	}
	// One cache for all scripts: each module is compiled once.
	cache := filepath.Join(dir, "cache")
	evidence := published.Dir(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"PORT", "PORT2"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				e.Setenv(name, port)
			}
			e.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("GUESTS", dir)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CACHE_HOME", cache)
			e.Setenv("EVIDENCE", evidence)
			// Kernels are large: they stay in the user's own cache.
			user, err := os.UserCacheDir()
			if err != nil {
				return err
			}
			e.Setenv("VMCACHE", user)
			for name, b := range map[string]string{"component.wasm": "\x00asm\x0d\x00\x01\x00", "short.wasm": "\x00asm\x01\x00\x00\x00\x01\x7f",
				// ()→() alone; one that imports env.foo; one whose _start is unreachable
				"library.wasm": "\x00asm\x01\x00\x00\x00",
				"import.wasm":  "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x0b\x01\x03env\x03foo\x00\x00",
				"trap.wasm":    "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x05\x01\x03\x00\x00\x0b",
			} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(b), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status},
		Condition: func(cond string) (bool, error) {
			if cond == "evidence" { // published evidence is at hand (docs/testing.md)
				_, err := os.Stat(evidence)
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// status WANT CMD ARGS: runs a command and compares its exit status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command args")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if err != nil {
		var ok bool
		if exit, ok = err.(*exec.ExitError); !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status: found %d, wanted %d", got, want)
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
