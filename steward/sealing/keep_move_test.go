package sealing

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Keys move from the Keep of one program to that of another in one step, wherever it is
// cut off before; each Keep is judged by what was written down for it, and afterwards the
// one before opens nothing.
func TestKeepToKeep(t *testing.T) {
	for _, tee := range []string{"sim", "vm"} { // to
		t.Run(tee, func(t *testing.T) {
			old, dir := newBench(t), folder(t)
			fresh := *old
			fresh.program = [48]byte{2}
			r := must(t, old.config(dir))
			sealed, first, err := r.Seal([]byte("secret"), nil)
			if err != nil {
				t.Fatal(err)
			}
			to := fresh.config(dir)
			to.Keep.TEE = tee
			move := func() *Ring {
				t.Helper()
				c, from := to, old.config(dir)
				c.From = &from
				return must(t, c)
			}
			// The Keep before alone does not do: the new one is said.
			if _, err := Open(to); !errors.Is(err, ErrKeepRefused) && tee == "sim" {
				t.Fatalf("without the Keep before: found %v", err)
			}
			// Cut off before the file that names the current key.
			m := move()
			half, err := m.add()
			if err != nil {
				t.Fatal(err)
			}
			// And, once more, after it.
			m = move()
			second, err := m.Rotate()
			if err != nil {
				t.Fatal(err)
			}
			m = move()
			if got, err := m.Open(sealed, nil); err != nil || string(got) != "secret" {
				t.Fatalf("what the key before sealed: found %q, %v", got, err)
			}
			for _, id := range []string{half, second} {
				if _, err := m.key(id); err != nil {
					t.Fatalf("a key of a move that was cut off: %v", err)
				}
			}
			last, err := m.Rotate()
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{first, half, second} {
				if err := m.Retire(id); err != nil {
					t.Fatal(err)
				}
			}
			if names, _ := filepath.Glob(filepath.Join(dir, "*.before.toml")); len(names) > 0 {
				t.Errorf("found %q", names)
			}
			resealed, id, err := m.Seal([]byte("secret"), nil)
			if err != nil || id != last {
				t.Fatal(id, err)
			}
			after := must(t, to)
			if got, err := after.Open(resealed, nil); err != nil || string(got) != "secret" {
				t.Errorf("found %q, %v", got, err)
			}
			_, err = Open(old.config(dir))
			var v *verdict.Error
			if !errors.Is(err, ErrKeepRefused) || !errors.As(err, &v) || !decided(v.Verdict, verdict.RuntimePinned) {
				t.Errorf("the Keep before: found %v", err)
			}
		})
	}
}

// A move that is cut off at its last key leaves nothing that would judge the next one:
// the Keep moved to is then the one before, and has its own policy.
func TestKeepToKeepEnds(t *testing.T) {
	old, dir := newBench(t), folder(t)
	fresh, third := *old, *old
	fresh.program, third.program = [48]byte{2}, [48]byte{3}
	first, err := must(t, old.config(dir)).KeyID()
	if err != nil {
		t.Fatal(err)
	}
	c, from := fresh.config(dir), old.config(dir)
	c.From = &from
	m := must(t, c)
	if _, err := m.Rotate(); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(dir, asideFile("sim"))
	if _, err := os.Lstat(aside); err != nil {
		t.Fatal(err)
	}
	// The file of the key before cannot be removed.
	file := filepath.Join(dir, first+extensions[KindKeep])
	if err := errors.Join(os.Rename(file, file+".kept"), os.MkdirAll(filepath.Join(file, "in"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := m.Retire(first); err == nil {
		t.Fatal("the key before was removed")
	}
	if err := errors.Join(os.RemoveAll(file), os.Remove(file+".kept")); err != nil {
		t.Fatal(err)
	}
	c, from = third.config(dir), fresh.config(dir)
	c.From = &from
	if m, err = Open(c); err != nil {
		t.Fatalf("the next move: %v", err)
	}
	defer m.Close()
	if _, err := m.Rotate(); err != nil {
		t.Error(err)
	}
}

// What was written down for the Keep before is what judges it: one that is neither is
// given no key.
func TestKeepToKeepJudged(t *testing.T) {
	old, dir := newBench(t), folder(t)
	must(t, old.config(dir))
	fresh, third := *old, *old
	fresh.program, third.program = [48]byte{2}, [48]byte{3}
	before := read(t, dir)
	c, from := fresh.config(dir), third.config(dir)
	c.From = &from
	if _, err := Open(c); !errors.Is(err, ErrKeepRefused) {
		t.Fatalf("from a Keep that the keys were not sealed in: found %v", err)
	}
	// A new one that is not what is expected gets no key either.
	c, from = fresh.config(dir), old.config(dir)
	c.Keep.Use = third.config(dir).Keep.Use
	c.From = &from
	m := must(t, c)
	if _, err := m.Rotate(); !errors.Is(err, ErrKeepRefused) {
		t.Errorf("to another Keep than is expected: found %v", err)
	}
	if after := read(t, dir); !maps.Equal(before, after) {
		t.Errorf("found the files %q, wanted %q", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
	must(t, old.config(dir))
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[n.Name()] = string(b)
	}
	return out
}
