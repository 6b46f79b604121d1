//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A bench is a folder with the built programs and homes of its own: what donjon
// leaves behind is seen there.
type bench struct {
	dir   string
	cache string
	state string
	tmp   string
}

// newBench builds everything once; each test takes fresh homes from it.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir()}
	if err := build(b.dir); err != nil {
		t.Fatal(err)
	}
	b.cache, b.state, b.tmp = t.TempDir(), t.TempDir(), t.TempDir()
	return b
}

func (b *bench) command(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(b.dir, "donjon"), args...)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "XDG_CACHE_HOME="+b.cache, "XDG_STATE_HOME="+b.state, "TMPDIR="+b.tmp, "HOME=/dev/null")
	return c
}

// run runs donjon to its end and gives what it said. 128+n also stands for a
// death by signal n, as in a shell.
func (b *bench) run(t *testing.T, c *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &out
	}
	if c.Stderr == nil {
		c.Stderr = &errs
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return b.wait(t, c), out.String(), errs.String()
}

func (b *bench) wait(t *testing.T, c *exec.Cmd) int {
	t.Helper()
	guard := time.AfterFunc(2*time.Minute, func() { _ = c.Process.Kill() })
	defer guard.Stop()
	err := c.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ws := c.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return c.ProcessState.ExitCode()
}

// keeps are the processes that run this bench's donjon-keep.
func (b *bench) keeps() []int {
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	var pids []int
	for _, exe := range all {
		if p, err := os.Readlink(exe); err == nil && p == filepath.Join(b.dir, "donjon-keep") {
			pid, _ := strconv.Atoi(strings.Split(exe, "/")[2])
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// until waits for what must come soon.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come: %s", what)
		}
	}
}

// clean checks that no process and no file is left.
func (b *bench) clean(t *testing.T) {
	t.Helper()
	until(t, "the end of every donjon-keep", func() bool { return len(b.keeps()) == 0 })
	for _, dir := range []string{b.tmp, b.cache, b.state} {
		_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			name := filepath.Base(p)
			if err == nil && p != dir && (dir == b.tmp || strings.HasPrefix(name, ".put-") || strings.HasPrefix(name, ".new-")) {
				t.Errorf("left behind: %s", p)
			}
			return nil
		})
	}
}

// oneMessage checks that stderr is one message of ours that holds what it must,
// perhaps with a hint below it.
func oneMessage(t *testing.T, stderr, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "donjon: ") || !strings.Contains(lines[0], want) || len(lines) > 2 || len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ") {
		t.Errorf("found %q, wanted one message with %q", stderr, want)
	}
}

// A module that ends early, at any section's edge or within one, is not run.
func TestTruncatedModule(t *testing.T) {
	b := newBench(t)
	whole, err := os.ReadFile(filepath.Join(b.dir, "hello.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	lengths := []int{0, 1, 4, 7, 8, 9, 100, 10_000, len(whole) / 2, len(whole) - 1}
	for at := 8; at < len(whole); { // each section is an id, a length and that many bytes
		n, used := binary.Uvarint(whole[at+1:])
		if at += 1 + used + int(n); whole[at-1-int(n)-used] == 10 {
			break // the rest, behind the code, may be missing: names and data
		}
		lengths = append(lengths, at)
	}
	file := filepath.Join(b.dir, "cut.wasm")
	for _, n := range lengths {
		if err := os.WriteFile(file, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		status, stdout, stderr := b.run(t, b.command("run", "-q", file))
		if status != 126 || stdout != "" {
			t.Errorf("%d bytes: found status %d, %q", n, status, stdout)
		}
		oneMessage(t, stderr, "module")
	}
	b.clean(t)
}

// What the workload writes cannot be handed on.
func TestBrokenOutput(t *testing.T) {
	b := newBench(t)
	t.Run("the reader has gone", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := b.command("run", "-q", "act.wasm", "--", "flood")
		c.Stdout = w
		var errs bytes.Buffer
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
			t.Error(err)
		}
		_ = r.Close()
		if status := b.wait(t, c); status != 128+int(unix.SIGPIPE) || errs.Len() > 0 {
			t.Errorf("found status %d, %q", status, errs.String())
		}
	})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	defer full.Close()
	for _, act := range []string{"flood", "spin"} {
		c := b.command("run", "-q", "act.wasm", "--", act)
		c.Stdout = full
		status, _, stderr := b.run(t, c)
		if status != 125 {
			t.Errorf("%s onto a full disk: found status %d", act, status)
		}
		oneMessage(t, stderr, "stdout cannot be written: no space left on device")
	}
	b.clean(t)
}

// A limit ends a flooding guest although nobody reads what it writes.
func TestLimitWithStalledReader(t *testing.T) {
	b := newBench(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := b.command("run", "-q", "--wall-time", "1s", "act.wasm", "--", "flood")
	c.Stdout = w
	status, _, stderr := b.run(t, c)
	if status != 125 {
		t.Errorf("found status %d", status)
	}
	oneMessage(t, stderr, "limit of 1s of wall time")
	b.clean(t)
}

// Closed standard streams are empty or lost, never another file's.
func TestClosedStreams(t *testing.T) {
	b := newBench(t)
	for script, want := range map[string]string{
		`exec "$0" run -q act.wasm -- cat <&-`:                            "",
		`exec "$0" run act.wasm -- cat <&- 2>&-`:                          "",
		`echo in | "$0" run act.wasm -- cat 2>&-`:                         "in\n",
		`exec "$0" run -q --evidence e.cbor act.wasm -- cat <&- >&- 2>&-`: "",
	} {
		c := b.command()
		c.Args = []string{"sh", "-c", script, c.Path}
		c.Path = "/bin/sh"
		if status, stdout, stderr := b.run(t, c); status != 0 || stdout != want || stderr != "" {
			t.Errorf("%s: found status %d, %q, %q", script, status, stdout, stderr)
		}
	}
	b.clean(t)
}

// ready starts donjon and waits for the guest's first line.
func (b *bench) ready(t *testing.T, stderr io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	c := b.command(args...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		_ = c.Process.Kill()
		t.Fatalf("found %q (%v), wanted the guest's first line", line, err)
	}
	return c
}

// Whoever is killed, the rest ends with it.
func TestKilledParts(t *testing.T) {
	b := newBench(t)
	t.Run("donjon, at any moment", func(t *testing.T) {
		for i := range 6 {
			c := b.command("run", "-q", "--no-cache", "server.wasm")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			switch i {
			case 0:
			case 1:
				until(t, "a Keep", func() bool { return len(b.keeps()) > 0 })
			default:
				until(t, "warden and child", func() bool { return len(b.keeps()) > 1 })
				time.Sleep(time.Duration(i-2) * 150 * time.Millisecond) // anywhere between hello, compiling and running
			}
			_ = c.Process.Kill()
			b.wait(t, c)
			b.clean(t)
		}
	})
	t.Run("donjon, while the guest spins", func(t *testing.T) {
		c := b.ready(t, nil, "run", "-q", "act.wasm", "--", "spin")
		_ = c.Process.Kill()
		b.wait(t, c)
		b.clean(t)
	})
	for _, who := range []string{"warden", "child"} {
		t.Run(who, func(t *testing.T) {
			var errs bytes.Buffer
			c := b.ready(t, &errs, "run", "-q", "act.wasm", "--", "spin")
			victim := b.keeps()[0]
			if parent(victim) != c.Process.Pid {
				victim = b.keeps()[1]
			}
			if who == "child" {
				for _, p := range b.keeps() {
					if p != victim {
						victim = p
						break
					}
				}
			}
			if err := unix.Kill(victim, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if status := b.wait(t, c); status != 125 {
				t.Errorf("found status %d", status)
			}
			want := "the Keep failed"
			if who == "child" {
				want = "the process that runs the guest ended (signal: killed)"
			}
			oneMessage(t, errs.String(), want)
			b.clean(t)
		})
	}
}

// Full and unusable disks: what is only a cache does not matter, the rest is said.
func TestDisks(t *testing.T) {
	b := newBench(t)
	if status, _, stderr := b.run(t, b.command("run", "-q", "hello.wasm")); status != 0 {
		t.Fatalf("found status %d, %q", status, stderr) // and now there is a simulated root
	}
	with := func(c *exec.Cmd, variable, dir string) *exec.Cmd {
		c.Env = append(c.Env, variable+"="+dir)
		return c
	}
	t.Run("a cache that cannot be", func(t *testing.T) {
		status, stdout, stderr := b.run(t, with(b.command("run", "-q", "hello.wasm"), "XDG_CACHE_HOME", "/dev/null"))
		if status != 0 || !strings.HasPrefix(stdout, "hello") || stderr != "" {
			t.Errorf("found status %d, %q, %q", status, stdout, stderr)
		}
	})
	t.Run("state that cannot be", func(t *testing.T) {
		status, _, stderr := b.run(t, with(b.command("run", "-q", "hello.wasm"), "XDG_STATE_HOME", "/dev/null"))
		if status != 125 {
			t.Errorf("found status %d", status)
		}
		oneMessage(t, stderr, "simulated silicon")
	})
	t.Run("full", func(t *testing.T) {
		full := t.TempDir()
		if err := unix.Mount("none", full, "tmpfs", 0, "size=64k"); err != nil {
			t.Skip("a full disk needs a file system of its own, which this user cannot mount: ", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(full, unix.MNT_DETACH) })
		_ = os.WriteFile(filepath.Join(full, "fill"), make([]byte, 1<<20), 0o644)
		left := func(want ...string) {
			t.Helper()
			var got []string
			_ = filepath.WalkDir(full, func(p string, d os.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && d.Name() != ".lock" {
					got = append(got, d.Name())
				}
				return nil
			})
			if !slices.Equal(got, want) {
				t.Errorf("left on the full disk: %q, wanted %q", got, want)
			}
		}
		status, stdout, stderr := b.run(t, with(b.command("run", "-q", "hello.wasm"), "XDG_CACHE_HOME", full))
		if status != 0 || !strings.HasPrefix(stdout, "hello") || stderr != "" {
			t.Errorf("cache: found status %d, %q, %q", status, stdout, stderr)
		}
		left("fill")
		status, _, stderr = b.run(t, with(b.command("run", "-q", "hello.wasm"), "XDG_STATE_HOME", full))
		if status != 125 {
			t.Errorf("state: found status %d", status)
		}
		oneMessage(t, stderr, "no space left on device")
		left("fill")
		status, _, stderr = b.run(t, b.command("run", "-q", "--evidence", filepath.Join(full, "e.cbor"), "hello.wasm"))
		if status != 125 {
			t.Errorf("evidence: found status %d", status)
		}
		oneMessage(t, stderr, "no space left on device")
		left("fill")
	})
	b.clean(t)
}

// Several first runs at once agree on one simulated root and one cache.
func TestFirstRunsAtOnce(t *testing.T) {
	b := newBench(t)
	const runs = 4
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			file := filepath.Join(b.dir, "evidence"+strconv.Itoa(i))
			out, err := b.command("run", "-q", "--evidence", file, "hello.wasm").CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), "hello") {
				t.Errorf("found %v, %q", err, out)
			}
		})
	}
	wg.Wait()
	for i := range runs {
		if status, _, stderr := b.run(t, b.command("inspect", "evidence"+strconv.Itoa(i))); status != 0 {
			t.Errorf("run %d made evidence under another root: status %d, %s", i, status, stderr)
		}
	}
	stored, _ := filepath.Glob(filepath.Join(b.cache, "donjon", "blobs", "*"))
	if len(stored) != 1 {
		t.Errorf("found %q, wanted one entry of compiled code", stored)
	}
	b.clean(t)
}
