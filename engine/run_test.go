//go:build linux

package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cGuest builds testdata/<name>.c, or skips where there is no compiler for it.
func cGuest(t testing.TB, name string) []byte {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("no clang (Debian: clang lld wasi-libc libclang-rt-dev-wasm32)")
	}
	out := filepath.Join(t.TempDir(), "guest.wasm")
	if msg, err := exec.Command(clang, "--target=wasm32-wasi", "-O2", "-o", out, filepath.Join("testdata", name+".c")).CombinedOutput(); err != nil {
		if bytes.Contains(msg, []byte("file not found")) || bytes.Contains(msg, []byte("cannot open")) {
			t.Skipf("clang has no wasm32-wasi here (Debian: lld wasi-libc libclang-rt-dev-wasm32): %s", msg)
		}
		t.Fatalf("clang: %v\n%s", err, msg)
	}
	return readFile(t, out)
}

// goGuest builds the program in testdata/<name>.
func goGuest(t testing.TB, name string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	c := exec.Command("go", "build", "-trimpath", "-o", out, "./testdata/"+name)
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if msg, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return readFile(t, out)
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compile(t testing.TB, module []byte, o Options) *Program {
	t.Helper()
	o.Workers = 2
	p, err := Compile(context.Background(), module, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// output gives the guest a pipe to write to, and what it wrote.
func output(t testing.TB) (File, func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	got := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		r.Close()
		got <- string(b)
	}()
	return File{Name: "stdout", Kind: Output, FD: fd}, func() string { return <-got }
}

// input gives the guest a pipe to read from.
func input(t testing.TB, text string) File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	go func() {
		_, _ = io.WriteString(w, text)
		w.Close()
	}()
	return File{Name: "stdin", Kind: Input, FD: fd}
}

func null(name string) File { return File{Name: name, Kind: Null} }

func TestGoGuest(t *testing.T) {
	module := goGuest(t, "hello")
	for name, o := range map[string]Options{"compiled": {}, "interpreted": {Interpreter: true}} {
		t.Run(name, func(t *testing.T) {
			if o.Interpreter && testing.Short() {
				t.Skip("the interpreter is slow, and -short is set")
			}
			p := compile(t, module, o)
			in := strings.Repeat("some input\n", 20000) // more than a pipe holds
			out, got := output(t)
			res, err := p.Run(context.Background(), Guest{Args: []string{"main.wasm", "a b"}, Env: []string{"WHO=you"},
				Files: []File{input(t, in), out, null("stderr")}})
			if err != nil || res.Status != 7 || res.Trap != "" {
				t.Fatalf("outcome: found %+v, %v, wanted status 7", res, err)
			}
			if want := `["main.wasm" "a b"] you ` + in; got() != want {
				t.Error("the guest's output is not what it was given")
			}
		})
	}
}

func TestEnds(t *testing.T) {
	module := cGuest(t, "trap")
	for _, c := range []struct {
		how     string
		limit   uint64
		status  uint32
		trap    string
		refused bool
		out     string
	}{
		{how: "", status: 3, out: "hello you\n"},
		{how: "exit", status: 42},
		{how: "unreachable", trap: "unreachable"},
		{how: "bounds", trap: "out of bounds memory access"},
		{how: "divide", trap: "integer divide by zero"},
		{how: "recursion", trap: "*"}, // the guest's own stack or the engine's, whichever ends first
		{how: "hoard", limit: 16 << 20, status: 9, refused: true},
		{how: "", limit: 64 << 10, trap: "*", refused: true},
	} {
		t.Run(c.how, func(t *testing.T) {
			p := compile(t, module, Options{})
			out, got := output(t)
			res, err := p.Run(context.Background(), Guest{MaxMemory: c.limit, Args: []string{"trap", c.how}, Env: []string{"WHO=you"}, Files: []File{null("stdin"), out, null("stderr")}})
			if err != nil {
				t.Fatal(err)
			}
			if c.trap == "*" && res.Trap != "" {
				res.Trap = "*"
			}
			if want := (Outcome{Status: c.status, Trap: c.trap, MemoryRefused: c.refused}); res != want {
				t.Errorf("outcome: found %+v, wanted %+v", res, want)
			}
			if strings.Contains(res.Trap, "\n") {
				t.Errorf("a trap is told in one line: %q", res.Trap)
			}
			if s := got(); s != c.out {
				t.Errorf("output: found %q, wanted %q", s, c.out)
			}
		})
	}
}

// module assembles a module of sections; each body is shorter than 128 bytes.
func moduleOf(sections ...string) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		b = append(b, s[0], byte(len(s)-1))
		b = append(b, s[1:]...)
	}
	return b
}

const (
	typeVoid   = "\x01\x01\x60\x00\x00"
	oneFunc    = "\x03\x01\x00"
	emptyBody  = "\x0a\x01\x02\x00\x0b"
	startIsF0  = "\x07\x01\x06_start\x00\x00"
	startIsF1  = "\x07\x01\x06_start\x00\x01"
	recurses   = "\x0a\x01\x04\x00\x10\x00\x0b"
	badBody    = "\x0a\x01\x03\x00\x6a\x0b" // i32.add on an empty stack
	hugeMemory = "\x05\x01\x00\x80\x10"     // 2048 pages, 128 MiB
)

func importOf(module, name string) string {
	return "\x02\x01" + string(rune(len(module))) + module + string(rune(len(name))) + name + "\x00\x00"
}

func TestRefusedModules(t *testing.T) {
	for name, c := range map[string]struct {
		module []byte
		says   string
	}{
		"empty":            {nil, "the module is empty"},
		"magic alone":      {[]byte("\x00asm"), "cut short: found 4 bytes"},
		"a head cut short": {[]byte("\x00asm\x01\x00\x00"), "cut short"},
		"text":             {[]byte("#!/bin/sh\n"), `begins with "#!/bin/s"`},
		"elf":              {[]byte("\x7fELF\x02\x01\x01\x00"), `\x7fELF`},
		"component":        {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
		"other version":    {[]byte("\x00asm\x02\x00\x00\x00"), "02 00 00 00"},
		"truncated":        {moduleOf(typeVoid, oneFunc, startIsF0, emptyBody)[:34], "cut short"},
		"truncated length": {append(moduleOf(typeVoid), 3, 0x80), "cut short"},
		"no _start":        {moduleOf(typeVoid, oneFunc, emptyBody), "_start"},
		"invalid code":     {moduleOf(typeVoid, oneFunc, startIsF0, badBody), "does not compile"},
		"missing module":   {moduleOf(typeVoid, importOf("env", "abort"), oneFunc, startIsF1, emptyBody), "env.abort"},
		"missing function": {moduleOf(typeVoid, importOf("wasi_snapshot_preview1", "sock_open"), oneFunc, startIsF1, emptyBody), "wasi_snapshot_preview1.sock_open"},
		"forerunner":       {moduleOf(typeVoid, importOf("wasi_unstable", "fd_read"), oneFunc, startIsF1, emptyBody), "wasi_unstable.fd_read"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(context.Background(), c.module, Options{})
			if err == nil {
				p.Close()
				t.Fatal("found no error")
			}
			var m *ModuleError
			if !errors.As(err, &m) {
				t.Fatalf("found %T %v, wanted *ModuleError", err, err)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("found %q, wanted one line with %q", err, c.says)
			}
			if m.Hint() == "" {
				t.Error("no hint")
			}
		})
	}
}

// TestImportOfWrongType: a module may name a function that exists and give it
// another type; that must end as an error about the module, not as a trap.
func TestImportOfWrongType(t *testing.T) {
	p, err := Compile(context.Background(), moduleOf(typeVoid, importOf("wasi_snapshot_preview1", "fd_read"), oneFunc, startIsF1, emptyBody), Options{})
	if err == nil {
		defer p.Close()
		res, err := p.Run(context.Background(), Guest{})
		if err == nil && res.Trap == "" {
			t.Error("a module with a wrongly typed import ran")
		}
	}
}

func TestHandmadeModules(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		res, err := compile(t, moduleOf(typeVoid, oneFunc, startIsF0, emptyBody), Options{}).Run(context.Background(), Guest{})
		if err != nil || res != (Outcome{}) {
			t.Errorf("found %+v, %v, wanted a quiet end", res, err)
		}
	})
	t.Run("endless recursion", func(t *testing.T) {
		res, err := compile(t, moduleOf(typeVoid, oneFunc, startIsF0, recurses), Options{}).Run(context.Background(), Guest{})
		if err != nil || res.Trap != "stack overflow" {
			t.Errorf("found %+v, %v, wanted stack overflow", res, err)
		}
	})
	t.Run("first memory over the limit", func(t *testing.T) {
		res, err := compile(t, moduleOf(typeVoid, oneFunc, hugeMemory, startIsF0, emptyBody), Options{}).Run(context.Background(), Guest{MaxMemory: 64 << 20})
		if err != nil || !res.MemoryRefused || res.Trap == "" {
			t.Errorf("found %+v, %v, wanted memory refused", res, err)
		}
	})
}

func TestCacheDir(t *testing.T) {
	dir := t.TempDir()
	module := moduleOf(typeVoid, oneFunc, startIsF0, emptyBody)
	for range 2 {
		res, err := compile(t, module, Options{CacheDir: dir}).Run(context.Background(), Guest{})
		if err != nil || res != (Outcome{}) {
			t.Fatalf("found %+v, %v", res, err)
		}
	}
	n := 0
	if err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if Compiles() && n == 0 {
		t.Error("nothing was kept in the cache")
	}
}

// Code that comes while the module is being checked is used: the engine looks into
// its cache no earlier than the gate opens.
func TestCacheReady(t *testing.T) {
	if !Compiles() {
		t.Skip("no compiler for this processor, so nothing is cached")
	}
	module := moduleOf(typeVoid, oneFunc, startIsF0, emptyBody)
	dir := t.TempDir()
	compile(t, module, Options{CacheDir: dir})
	code, err := CodeDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(code, "*"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("found %q, %v, wanted one entry", entries, err)
	}
	entry, aside := entries[0], filepath.Join(dir, "aside")
	if err := os.Rename(entry, aside); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(aside)
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	done := make(chan *Program)
	go func() {
		p, err := Compile(context.Background(), module, Options{CacheDir: dir, CacheReady: ready})
		if err != nil {
			t.Error(err)
		}
		done <- p
	}()
	select {
	case <-done:
		t.Fatal("the engine did not wait")
	case <-time.After(200 * time.Millisecond): // long over if it did not
	}
	if err := os.Rename(aside, entry); err != nil {
		t.Fatal(err)
	}
	close(ready)
	p := <-done
	defer p.Close()
	// A miss writes the entry anew, as another file.
	if after, err := os.Stat(entry); err != nil || !os.SameFile(before, after) {
		t.Errorf("the entry was not used: %v", err)
	}
}

func FuzzPrecheck(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Add(moduleOf(typeVoid, oneFunc, startIsF0, emptyBody))
	f.Add(moduleOf("\x00\x0ago:buildid", typeVoid))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := precheck(b)
		var m *ModuleError
		if err != nil && (!errors.As(err, &m) || m.Hint() == "" || len(err.Error()) > 300) {
			t.Errorf("an unclear refusal: %v", err)
		}
		if err == nil && !bytes.HasPrefix(b, []byte("\x00asm\x01\x00\x00\x00")) {
			t.Error("passed without the module's magic")
		}
	})
}

func TestGoModulesAreKnown(t *testing.T) {
	for name, c := range map[string]struct {
		module []byte
		isGo   bool
	}{
		"buildid":   {moduleOf("\x00\x0ago:buildid"), true},
		"producers": {moduleOf("\x00\x09producers\x01\x08language\x01\x02Go\x00"), true},
		"c":         {moduleOf("\x00\x09producers\x01\x08language\x01\x03C11\x00"), false},
	} {
		if got, err := precheck(c.module); err != nil || got != c.isGo {
			t.Errorf("%s: found %v, %v, wanted %v", name, got, err, c.isGo)
		}
	}
}
