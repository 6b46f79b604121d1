package sealing

import (
	"errors"
	"slices"
	"testing"
)

// A copy is a folder of its own, and opens where the Keep is lost.
func TestCopy(t *testing.T) {
	b, dir, copied := newBench(t), folder(t), folder(t)
	r := must(t, b.config(dir))
	first, _, err := r.Seal([]byte("one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	to := Config{Kind: KindPassphrase, Dir: copied, Passphrase: []byte("correct horse battery"), WorkFactor: 10}
	if err := Copy(r, to); err != nil {
		t.Fatal(err)
	}
	if err := Copy(r, to); !errors.Is(err, ErrKeyFile) {
		t.Errorf("over a copy: %v", err)
	}
	must(t, b.config(dir)) // it stays
	c := must(t, to)
	if got, err := c.Open(first, nil); err != nil || string(got) != "one" {
		t.Errorf("found %q, %v", got, err)
	}
	if got, _ := c.KeyID(); got != id {
		t.Errorf("found the current key %s, wanted %s", got, id)
	}
	weak := to
	weak.Passphrase, weak.Dir = []byte("short"), folder(t)
	if err := Copy(r, weak); !errors.Is(err, ErrWeak) {
		t.Error(err)
	}
	// Nor is a copy made that lacks keys: these are moved half.
	half := folder(t)
	must(t, Config{Dir: half})
	under := Config{Kind: KindPassphrase, Dir: half, Passphrase: to.Passphrase, WorkFactor: 10, From: &Config{}}
	if _, err := must(t, under).Rotate(); err != nil {
		t.Fatal(err)
	}
	under.From, to.Dir = nil, folder(t)
	if err := Copy(must(t, under), to); !errors.Is(err, ErrKind) {
		t.Errorf("of keys that are moved half: %v", err)
	}
	// Keys that do not open make no copy.
	b.lie = &liar{launch: errors.New("no room")}
	lazy := b.config(dir)
	lazy.Lazy = true
	to.Dir = folder(t)
	if err := Copy(must(t, lazy), to); !errors.Is(err, ErrKeep) {
		t.Error(err)
	}
	if kinds, _ := Kinds(to.Dir); len(kinds) > 0 {
		t.Errorf("found keys of the kinds %q", kinds)
	}
}

// Keys move into a Keep and out of it, and into that of another release by way of a
// passphrase; what was sealed opens throughout.
func TestMoveKeep(t *testing.T) {
	b, dir := newBench(t), folder(t)
	file, under, vm, both := Config{Dir: dir}, rings(t)[KindPassphrase], b.config(dir), b.config(dir)
	under.Dir = dir
	vm.Keep.TEE = "vm"
	both.Passphrase, both.WorkFactor = under.Passphrase, 10
	sealed, first, err := must(t, file).Seal([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sim := b.config(dir)
	for i, step := range []struct {
		from, to Config
		kind     string
	}{{file, sim, KindKeep}, {sim, vm, KindKeep}, {vm, both, KindKeep}, {both, sim, KindKeep}, {sim, under, KindPassphrase}, {under, sim, KindKeep}, {sim, file, KindFile}} {
		if i == 5 {
			b.program[0]++ // an upgrade
		}
		from, to := step.from, step.to
		to.From = &from
		r := must(t, to)
		plain, err := r.Open(sealed, nil)
		if err != nil || string(plain) != "secret" {
			t.Fatalf("step %d: found %q, %v", i, plain, err)
		}
		next, err := r.Rotate()
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if sealed, _, err = r.Seal(plain, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := must(t, to).Open(sealed, nil); err != nil || string(got) != "secret" { // cut off here, it goes on
			t.Errorf("step %d: %q, %v", i, got, err)
		}
		if err := r.Retire(first); err != nil {
			t.Fatal(err)
		}
		first = next
		to.From = nil
		must(t, to)
		if kinds, err := Kinds(dir); err != nil || !slices.Equal(kinds, []string{step.kind}) {
			t.Errorf("step %d: found %q, %v", i, kinds, err)
		}
	}
}

// Keys of another kind are not used: who can write to the folder puts in none.
func TestKeepAndOtherKinds(t *testing.T) {
	b, dir := newBench(t), folder(t)
	must(t, b.config(dir))
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrKind) {
		t.Errorf("as files: %v", err)
	}
	other := folder(t)
	must(t, Config{Dir: other})
	for _, lazy := range []bool{false, true} {
		c := b.config(other)
		c.Lazy = lazy
		if _, err := Open(c); !errors.Is(err, ErrKind) {
			t.Errorf("files, as a Keep's (lazy %t): %v", lazy, err)
		}
	}
}
