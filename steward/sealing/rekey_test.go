package sealing

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// moves are the kinds in one folder.
func moves(b *bench, dir string) map[string]Config {
	return map[string]Config{
		KindFile:       {Kind: KindFile, Dir: dir},
		KindPassphrase: {Kind: KindPassphrase, Dir: dir, Passphrase: []byte("correct horse battery"), WorkFactor: 10},
		KindKeep:       b.config(dir),
	}
}

// Keys move between all kinds; what they sealed opens, and no old file is left.
func TestRekey(t *testing.T) {
	b, dir := newBench(t), folder(t)
	kind := moves(b, dir)
	r := must(t, kind[KindFile])
	first, _, err := r.Seal([]byte("one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rotate(); err != nil {
		t.Fatal(err)
	}
	second, current, err := r.Seal([]byte("two"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{KindKeep, KindPassphrase, KindKeep, KindFile, KindPassphrase, KindFile} {
		if err := Rekey(r, kind[to]); err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		r = must(t, kind[to])
		for sealed, want := range map[string]string{string(first): "one", string(second): "two"} {
			if got, err := r.Open([]byte(sealed), nil); err != nil || string(got) != want {
				t.Fatalf("%s: found %q, %v", to, got, err)
			}
		}
		if got, _ := r.KeyID(); got != current {
			t.Errorf("%s: found the current key %s, wanted %s", to, got, current)
		}
		if found, err := Kinds(dir); err != nil || !slices.Equal(found, []string{to}) {
			t.Errorf("%s: found the kinds %q, %v", to, found, err)
		}
		policies, _ := filepath.Glob(filepath.Join(dir, "keep-*"))
		if want := to == KindKeep; want != (len(policies) == 1) {
			t.Errorf("%s: found %q", to, policies)
		}
		for other, c := range kind {
			if _, err := Open(c); (other == to) != (err == nil) || err != nil && !errors.Is(err, ErrKind) {
				t.Errorf("of the kind %s, opened as %s: %v", to, other, err)
			}
		}
		if err := Rekey(r, kind[to]); !errors.Is(err, ErrKind) {
			t.Errorf("%s to itself: %v", to, err)
		}
	}
}

// A Keep of another release: the keys go by way of a passphrase, and the policy of the
// Keep before does not stay.
func TestRekeyToAnotherRelease(t *testing.T) {
	b, dir := newBench(t), folder(t)
	kind := moves(b, dir)
	r := must(t, kind[KindKeep])
	sealed, _, err := r.Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Rekey(r, kind[KindPassphrase]); err != nil {
		t.Fatal(err)
	}
	b.program[0]++
	if err := Rekey(must(t, kind[KindPassphrase]), kind[KindKeep]); err != nil {
		t.Fatal(err)
	}
	if got, err := must(t, kind[KindKeep]).Open(sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("found %q, %v", got, err)
	}
}

// A copy is a folder of its own, and opens where the Keep is lost.
func TestRecoveryCopy(t *testing.T) {
	b, dir, copied := newBench(t), folder(t), folder(t)
	r := must(t, b.config(dir))
	sealed, id, err := r.Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	to := moves(b, copied)[KindPassphrase]
	if err := Rekey(r, to); err != nil {
		t.Fatal(err)
	}
	if err := Rekey(r, to); !errors.Is(err, ErrKeyFile) {
		t.Errorf("over a copy: %v", err)
	}
	must(t, b.config(dir)) // it stays
	c := must(t, to)
	if got, err := c.Open(sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("found %q, %v", got, err)
	}
	if got, _ := c.KeyID(); got != id {
		t.Errorf("found %s, wanted %s", got, id)
	}
}

// A move that was cut off: nothing opens as if all were well, and the same move ends it.
func TestRekeyCutOff(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, dir string, ids []string){
		"one key of two is in the Keep": func(t *testing.T, dir string, ids []string) { remove(t, dir, ids[0]+".keep") },
		"one old file is gone":          func(t *testing.T, dir string, ids []string) { remove(t, dir, ids[1]+".key") },
		"a file is not whole": func(t *testing.T, dir string, ids []string) {
			write(t, filepath.Join(dir, ids[0]+".keep"), []byte{1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, dir := newBench(t), folder(t)
			kind := moves(b, dir)
			r := must(t, kind[KindFile])
			sealed, _, err := r.Seal([]byte("x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Rotate(); err != nil {
				t.Fatal(err)
			}
			old := map[string][]byte{}
			ids, _ := r.KeyIDs()
			for _, id := range ids {
				old[id], _ = os.ReadFile(filepath.Join(dir, id+".key"))
			}
			if err := Rekey(r, kind[KindKeep]); err != nil {
				t.Fatal(err)
			}
			for id, content := range old {
				write(t, filepath.Join(dir, id+".key"), content)
			}
			cut(t, dir, ids)
			for what, c := range kind {
				if _, err := Open(c); !errors.Is(err, ErrKind) {
					t.Errorf("opened as %s: %v", what, err)
				}
			}
			again := kind[KindFile]
			again.Mixed, again.Lazy = true, true
			if err := Rekey(must(t, again), kind[KindKeep]); err != nil {
				t.Fatal(err)
			}
			if got, err := must(t, kind[KindKeep]).Open(sealed, nil); err != nil || string(got) != "x" {
				t.Errorf("found %q, %v", got, err)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// A Keep that cannot be had leaves everything as it is.
func TestRekeyThatFails(t *testing.T) {
	b, dir := newBench(t), folder(t)
	kind := moves(b, dir)
	r := must(t, kind[KindFile])
	b.lie = &liar{launch: errors.New("no room")}
	if err := Rekey(r, kind[KindKeep]); !errors.Is(err, ErrKeep) {
		t.Fatalf("found %v", err)
	}
	must(t, kind[KindFile])
}
