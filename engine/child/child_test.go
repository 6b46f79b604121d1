//go:build linux

package child

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
)

// module is a WebAssembly module whose _start has this body.
func module(body ...byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00")
	b = append(b, 10, byte(4+len(body)), 1, byte(2+len(body)), 0)
	return append(append(b, body...), 0x0b)
}

// The real child, up to its end, and what it refuses of a warden's own mistakes.
func TestChild(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     string
		job      Job
		spec     Spec
		module   []byte
		guest    int // descriptors that come along
		notes    int // what could not be applied
		compiled string
		end      string
		trap     string
	}{
		{name: "ends", module: module()},
		{name: "traps", module: module(0), trap: "unreachable"},
		{name: "no module", module: []byte("text"), compiled: "no WebAssembly"},
		{name: "an empty module", compiled: "is empty"},
		{name: "fewer descriptors", module: module(), spec: Spec{Files: []File{{Name: "in", Kind: uint8(engine.Input)}}}, end: "fewer"},
		{name: "more descriptors", module: module(), guest: 2, end: "2 descriptors more"},
		{name: "odd mount", module: module(), spec: Spec{Mounts: []Mount{{"/x", 9, 0}}}, end: "kind 9"},
		{name: "an archive that is none", module: module(), guest: 1, spec: Spec{Mounts: []Mount{{"/x", MountArchive, 0}}}, end: "data for /x"},
		{name: "the first wall is missing", mode: "no first wall", module: module(), compiled: "not implemented"},
		{name: "the first wall is missing, weak to run alone", mode: "no first wall", module: module(), spec: Spec{Weak: true}, compiled: "not implemented"},
		{name: "the first wall is missing, and may be", mode: "no first wall", module: module(), job: Job{Weak: true}, notes: 1},
		{name: "the last wall is missing", mode: "no last wall", module: module(), end: "not implemented"},
		{name: "the last wall is missing, weak to compile alone", mode: "no last wall", module: module(), job: Job{Weak: true}, end: "not implemented"},
		{name: "the last wall is missing, and may be", mode: "no last wall", module: module(), spec: Spec{Weak: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mode == "" {
				c.mode = "child"
			}
			p := spawn(t, c.mode+"|"+t.TempDir())
			var guest []*os.File
			for range c.guest {
				guest = append(guest, memory(t, []byte("x")))
			}
			if c.spec.MaxMemory == 0 {
				c.spec.MaxMemory = 1 << 20
			}
			if err := errors.Join(p.Confine(false), p.Compile(c.job, memory(t, c.module))); err != nil {
				t.Fatal(err)
			}
			_, _, notes, err := p.Compiled()
			var ge *GuestError
			if c.compiled != "" {
				if !errors.As(err, &ge) || !strings.Contains(ge.Text, c.compiled) {
					t.Errorf("found %v, wanted %q", err, c.compiled)
				}
				return
			}
			if err != nil || len(notes) != c.notes {
				t.Fatalf("found %q, %v", notes, err)
			}
			if err := p.Start(c.spec, guest); err != nil {
				t.Fatal(err)
			}
			out, err := p.Wait()
			if c.end == "" && (err != nil || !strings.Contains(out.Trap, c.trap) || c.trap == "" && out.Trap != "") || c.end != "" && (!errors.As(err, &ge) || !strings.Contains(ge.Text, c.end)) {
				t.Errorf("found %+v, %v", out, err)
			}
		})
	}
}

// What the warden would never say ends the child before guest code runs: in
// silence, or with a word about it where it can tell.
func TestChildHearsTheWrongWord(t *testing.T) {
	job := []byte{0xa0}
	mod := func(t *testing.T) int { return keep(t, memory(t, module())) }
	say := func(t *testing.T, p *Process, word byte, body []byte, fds ...int) {
		t.Helper()
		if err := p.tell(word, body, fds...); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		say  func(t *testing.T, p *Process)
		want string // "": it ends in silence
	}{
		{"no word", func(t *testing.T, p *Process) { say(t, p, 'z', nil) }, ""},
		{"a zero", func(t *testing.T, p *Process) { say(t, p, 0, nil) }, ""},
		{"compile first", func(t *testing.T, p *Process) { say(t, p, wordCompile, job, mod(t)) }, ""},
		{"run first", func(t *testing.T, p *Process) { say(t, p, wordRun, nil, mod(t)) }, ""},
		{"confine with a descriptor", func(t *testing.T, p *Process) { say(t, p, wordConfine, nil, mod(t)) }, ""},
		{"too long", func(t *testing.T, p *Process) { say(t, p, wordConfine, make([]byte, maxMessage)) }, ""},
		{"confine twice", func(t *testing.T, p *Process) { say(t, p, wordConfine, nil); say(t, p, wordConfine, nil) }, ""},
		{"code before the job", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCode, []byte{0xa1, 1, 0x61, 'x'})
		}, ""},
		{"run before the job", func(t *testing.T, p *Process) { say(t, p, wordConfine, nil); say(t, p, wordRun, nil, mod(t)) }, ""},
		{"no module", func(t *testing.T, p *Process) { say(t, p, wordConfine, nil); say(t, p, wordCompile, job) }, ""},
		{"two modules", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, job, mod(t), mod(t))
		}, ""},
		{"no job", func(t *testing.T, p *Process) { say(t, p, wordConfine, nil); say(t, p, wordCompile, nil, mod(t)) }, "does not decode"},
		{"a garbage job", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, []byte("\xff\x00garbage"), mod(t))
		}, "does not decode"},
		{"a job and more", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, []byte{0xa0, 0}, mod(t))
		}, "does not decode"},
		{"a job of another kind", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, []byte{0xa1, 9, 0xf5}, mod(t))
		}, "does not decode"},
		{"a key of a job twice", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, []byte{0xa2, 2, 0xf4, 2, 0xf5}, mod(t))
		}, "does not decode"},
		{"a huge module", func(t *testing.T, p *Process) {
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, job, keep(t, huge(t, maxModule+1)))
		}, "at most"},
		{"a module that is a pipe", func(t *testing.T, p *Process) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			keep(t, w)
			say(t, p, wordConfine, nil)
			say(t, p, wordCompile, job, keep(t, r))
		}, "is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := spawn(t, "child|"+t.TempDir())
			c.say(t, p)
			_, f, _, err := p.Compiled()
			var ge *GuestError
			if c.want == "" && (errors.As(err, &ge) || err == nil || !strings.Contains(err.Error(), "ended")) || c.want != "" && (!errors.As(err, &ge) || !strings.Contains(ge.Text, c.want)) || f != nil {
				t.Errorf("found %v, wanted %q", err, c.want)
			}
			<-p.Ended()
		})
	}
	for _, c := range []struct {
		name string
		say  func(t *testing.T, p *Process)
		want string
	}{
		{"nothing to run", func(t *testing.T, p *Process) { say(t, p, wordRun, nil) }, ""},
		{"code that was not asked for", func(t *testing.T, p *Process) { say(t, p, wordCode, []byte{0xa1, 1, 0x61, 'x'}) }, ""},
		{"compile again", func(t *testing.T, p *Process) { say(t, p, wordCompile, job, mod(t)) }, ""},
		{"confine again", func(t *testing.T, p *Process) { say(t, p, wordConfine, []byte("cache")) }, ""},
		{"garbage to run", func(t *testing.T, p *Process) { say(t, p, wordRun, nil, keep(t, memory(t, []byte("garbage")))) }, "does not decode"},
		{"an empty file to run", func(t *testing.T, p *Process) { say(t, p, wordRun, nil, keep(t, memory(t, nil))) }, "does not decode"},
		{"a huge file to run", func(t *testing.T, p *Process) { say(t, p, wordRun, nil, keep(t, huge(t, maxSpec+1))) }, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := spawn(t, "child|"+t.TempDir())
			if err := errors.Join(p.Confine(false), p.Compile(Job{}, memory(t, module()))); err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := p.Compiled(); err != nil {
				t.Fatal(err)
			}
			c.say(t, p)
			_, err := p.Wait()
			var ge *GuestError
			if c.want == "" && (errors.As(err, &ge) || err == nil || !strings.Contains(err.Error(), "ended")) || c.want != "" && (!errors.As(err, &ge) || !strings.Contains(ge.Text, c.want)) {
				t.Errorf("found %v, wanted %q", err, c.want)
			}
		})
	}
}

// keep gives the descriptor of f, which is closed at the test's end.
func keep(t *testing.T, f *os.File) int {
	t.Helper()
	t.Cleanup(func() { _ = f.Close() })
	return rawFD(f)
}

// huge is a memory file of n bytes that takes no memory.
func huge(t *testing.T, n int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "huge")
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	return f
}

// compileCached lets a child with a cache folder compile: fill writes to the slot
// and names what it wrote.
func compileCached(t *testing.T, dir string, fill func(slot *os.File) string) (p *Process, name string, made []byte, err error) {
	t.Helper()
	p = spawn(t, "child|"+dir)
	if err := errors.Join(p.Confine(true), p.Compile(Job{Cache: true}, memory(t, module()))); err != nil {
		t.Fatal(err)
	}
	slot, err := p.Slot()
	if err != nil {
		t.Fatal(err)
	}
	said := fill(slot)
	if slot != nil {
		_ = slot.Close()
	}
	if err := p.Code(said); err != nil {
		t.Fatal(err)
	}
	name, f, _, err := p.Compiled()
	if f != nil {
		var rerr error
		if made, rerr = io.ReadAll(io.NewSectionReader(f, 0, 1<<20)); rerr != nil {
			t.Fatal(rerr)
		}
		_ = f.Close()
	}
	return p, name, made, err
}

// runs says that the guest of a compiled child runs to its end.
func runs(t *testing.T, p *Process) {
	t.Helper()
	if err := p.Start(Spec{MaxMemory: 1 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	if out, err := p.Wait(); err != nil || out != (Outcome{}) {
		t.Errorf("found %+v, %v", out, err)
	}
}

// T16: machine code is taken under the engine's own name alone, and whatever the
// name, nothing outside the engine's folder is touched.
func TestT16CodeNames(t *testing.T) {
	if !engine.Compiles() {
		t.Skip("the engine of this processor compiles nothing")
	}
	none := func(*os.File) string { return "" }
	p, entry, made, err := compileCached(t, t.TempDir(), none)
	if err != nil || entry == "" || len(made) == 0 {
		t.Fatalf("found %q with %d bytes, %v", entry, len(made), err)
	}
	runs(t, p)

	with := func(name string, code []byte) func(*os.File) string {
		return func(slot *os.File) string {
			if _, err := slot.WriteAt(code, 0); err != nil {
				t.Error(err)
			}
			return name
		}
	}
	// The control: what one child made, another one takes.
	p, name, again, err := compileCached(t, t.TempDir(), with(entry, made))
	if err != nil || name != "" || again != nil {
		t.Errorf("code under its own name is compiled anew: found %q with %d bytes, %v", name, len(again), err)
	}
	runs(t, p)

	for _, bad := range []string{"../evil", "../../evil", "/etc/evil", "slot", ".", "..", "/", "a/b", "x\x00y", strings.Repeat("n", 300), "another"} {
		t.Run(clip(bad, 20), func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "cache")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			p, name, again, err := compileCached(t, dir, with(bad, []byte("evil code")))
			switch {
			case err != nil:
				t.Fatal(err)
			case bad == "another": // a name like any other: nobody asks for it
			case name != entry || !bytes.Equal(again, made):
				t.Errorf("found %q with %d bytes, wanted %q with %d", name, len(again), entry, len(made))
			}
			runs(t, p)
			code, err := engine.CodeDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{dir, code, filepath.Join(code, entry)}
			if bad == "another" {
				want = append(want, filepath.Join(code, bad))
			}
			var found []string
			if err := filepath.WalkDir(parent, func(p string, _ os.DirEntry, err error) error {
				if p != parent {
					found = append(found, p)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if len(found) != len(want) {
				t.Errorf("found %q, wanted %q", found, want)
			}
			if _, err := os.Lstat("/etc/evil"); !errors.Is(err, os.ErrNotExist) {
				t.Error("the child wrote to /etc")
			}
		})
	}
}

// Machine code that is none is not taken in silence.
func TestT16GarbageUnderTheRightName(t *testing.T) {
	if !engine.Compiles() {
		t.Skip("the engine of this processor compiles nothing")
	}
	_, entry, made, err := compileCached(t, t.TempDir(), func(*os.File) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{"nothing": nil, "text": []byte("evil code"), "head": made[:10], "half": made[:len(made)/2]} {
		_, name, _, err := compileCached(t, t.TempDir(), func(slot *os.File) string {
			_, _ = slot.WriteAt(bad, 0)
			return entry
		})
		if err == nil && name == "" {
			t.Errorf("%s: taken as machine code", what)
		}
	}
}

// A cache folder that cannot be used costs the cache and not the run.
func TestChildWithoutItsCacheFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file": file, "none": ""} {
		p, entry, made, err := compileCached(t, dir, func(slot *os.File) string {
			if slot != nil {
				t.Errorf("%s: there is a slot", name)
			}
			return ""
		})
		if err != nil || entry != "" || made != nil {
			t.Errorf("%s: found %q with %d bytes, %v", name, entry, len(made), err)
			continue
		}
		runs(t, p)
	}
}
