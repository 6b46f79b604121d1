//go:build linux

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// evil runs donjon with a Keep that attacks it and gives what donjon said.
func (l *lab) evil(t *testing.T, toml string, flags ...string) (stdout, stderr string, status int, most int64) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(l.dir, "evilkeep")); err != nil {
		goBuild(t, []string{"CGO_ENABLED=0"}, filepath.Join(l.dir, "evilkeep"), "./testdata/evilkeep")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.wasm": "\x00asm\x01\x00\x00\x00", "Donjon.toml": toml} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := append([]string{"run", "-v", "--tee", "sim", "--keep", filepath.Join(l.dir, "evilkeep")}, flags...)
	c := exec.Command(filepath.Join(l.dir, "donjon"), append(args, dir)...)
	c.Env = append(os.Environ(), "HOME="+l.dir, "XDG_CACHE_HOME=", "XDG_STATE_HOME=")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	// The kernel counts what this process had at its peak as the child's, until exec.
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(2*time.Minute, func() { _ = c.Process.Kill() })
	_ = c.Wait()
	if !hung.Stop() {
		t.Fatalf("donjon hangs; it said %.2000q", errs.String())
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode(), maxRSS(c.ProcessState)
}

// unsafeRune gives a rune that a terminal would obey.
func unsafeRune(s string) (rune, bool) {
	for _, r := range s {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return r, true
		}
	}
	return 0, false
}

// T30: what a Keep says is shown, escaped, on lines that begin with our word; the
// workload's own output passes untouched.
func TestT30TextOfAKeepIsEscaped(t *testing.T) {
	l := newLab(t)
	const toml = "args = [\"escapes\"]\n"
	for _, flags := range [][]string{nil, {"--json"}} {
		stdout, stderr, status, _ := l.evil(t, toml, flags...)
		if status != 125 {
			t.Errorf("status: found %d, wanted 125", status)
		}
		if !strings.Contains(stdout, "\x1b[2J\x1b]0;owned\x07\u202eevil") {
			t.Errorf("the workload's own output was changed: %q", stdout)
		}
		if r, bad := unsafeRune(stderr); bad {
			t.Errorf("found %q in %q", r, stderr)
		}
		shown := strings.ReplaceAll(stderr, `\\u`, `\u`) // JSON carries the words as they are shown
		for _, part := range []string{"log ", "trap ", "hint "} {
			if !strings.Contains(shown, part+`\u001b[2J\u001b]0;owned`) {
				t.Errorf("found no escaped %q in %q", part, stderr)
			}
		}
		for line := range strings.Lines(stderr) {
			if strings.HasPrefix(line, "donjon: evidence ok") || strings.HasPrefix(line, "✔") {
				t.Errorf("a line was forged: %q", line)
			}
		}
	}
}

// T28, T30: a flooded console costs no memory, and its last lines are shown escaped.
func TestT28ConsoleFlood(t *testing.T) {
	l := newLab(t)
	_, stderr, status, most := l.evil(t, "args = [\"console\"]\n")
	if status != 125 || !strings.Contains(stderr, "the Keep's process ended") {
		t.Errorf("found %d, %.500q", status, stderr)
	}
	if r, bad := unsafeRune(stderr); bad {
		t.Errorf("found %q in %.500q", r, stderr)
	}
	if n := strings.Count(stderr, "\n  | "); n == 0 || n > 12 {
		t.Errorf("found %d lines of the console, wanted 1 to 12", n)
	}
	bounded(t, most)
}

// bounded holds a process's memory against what the link alone may buffer.
func bounded(t *testing.T, rss int64) {
	t.Helper()
	if rss > 256<<20 {
		t.Errorf("donjon used %d MiB of memory, wanted at most 256", rss>>20)
	}
}

// T28: the log of a Keep ends at its bound, empty lines too.
func TestT28LogFlood(t *testing.T) {
	l := newLab(t)
	_, stderr, status, most := l.evil(t, "args = [\"log\"]\n")
	if status != 0 || !strings.Contains(stderr, "over its bound") {
		t.Errorf("found %d, %.500q", status, stderr)
	}
	if n := strings.Count(stderr, "\n"); n > 1<<15 {
		t.Errorf("found %d lines", n)
	}
	bounded(t, most)
}

// T28: 100,000 streams opened and reset leave nothing behind: the Keep's last word
// is heard, and memory is bounded.
func TestT28HundredThousandStreams(t *testing.T) {
	l := newLab(t)
	_, stderr, status, most := l.evil(t, "args = [\"streams\"]\n")
	if status != 0 && (status != 125 || !strings.Contains(stderr, "protocol")) {
		t.Errorf("found %d, %.500q", status, stderr)
	}
	bounded(t, most)
}

// T28: a listener is opened once.
func TestT28OneListenerEach(t *testing.T) {
	l := newLab(t)
	_, stderr, status, _ := l.evil(t, "args = [\"listeners\"]\n[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"tcp\"\n", "--bind", "web=127.0.0.1:0")
	if status != 1 {
		t.Errorf("found %d listeners, wanted 1: %.500q", status, stderr)
	}
}

func maxRSS(p *os.ProcessState) int64 {
	if u, ok := p.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}
