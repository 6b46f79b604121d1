//go:build linux

package sim

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHashIsOfTheFileThatRuns(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	of := func(h *Hash) [32]byte {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		sum, err := h.of(f)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	write("one")
	h := StartHash(path, "")
	if of(h) != sha256.Sum256([]byte("one")) || of(nil) != sha256.Sum256([]byte("one")) {
		t.Error("a file's hash is another")
	}
	time.Sleep(20 * time.Millisecond) // file times are as fine as the kernel's tick
	write("two")
	if of(h) != sha256.Sum256([]byte("two")) {
		t.Error("the file was changed in place, and the old hash is given")
	}
	h = StartHash(path, "")
	<-h.done
	if err := os.WriteFile(path+".new", []byte("tri"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if of(h) != sha256.Sum256([]byte("tri")) {
		t.Error("another file lies there, and the old hash is given")
	}
	if h = StartHash(filepath.Join(dir, "none"), ""); of(h) != sha256.Sum256([]byte("tri")) {
		t.Error("a hash that failed is used")
	}
}

// A hash is kept from one start to the next, for the file that it is of and no other, and
// what was kept and is damaged is not used.
func TestHashIsRemembered(t *testing.T) {
	dir, silicon := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "program")
	write := func(s string) unix.Stat_t {
		t.Helper()
		var st unix.Stat_t
		if err := os.WriteFile(path, []byte(s), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := write("one")
	sum := sha256.Sum256([]byte("one"))
	changed := time.Unix(0, st.Ctim.Nano())
	remember(silicon, st, sum, changed.Add(settled-1))
	if _, ok := recall(silicon, st); ok {
		t.Error("the hash of a file that has just been changed is kept")
	}
	remember(silicon, st, sum, changed.Add(settled))
	if got, ok := recall(silicon, st); !ok || got != sum {
		t.Errorf("found %x, %v, wanted what was kept", got, ok)
	}
	if got, err := StartHash(path, silicon).wait(); err != nil || got != sum {
		t.Errorf("found %x, %v", got, err)
	}
	// What is kept is what is used: no second hash would be seen otherwise.
	other := sha256.Sum256([]byte("what a forger would like"))
	remember(silicon, st, other, changed.Add(settled))
	if got, _ := StartHash(path, silicon).wait(); got != other {
		t.Error("the file was hashed again")
	}
	time.Sleep(20 * time.Millisecond) // file times are as fine as the kernel's tick
	write("two")
	if got, _ := StartHash(path, silicon).wait(); got != sha256.Sum256([]byte("two")) {
		t.Error("the file was changed in place, and the kept hash is given")
	}
	for _, bad := range []string{"", "{", "null", `{"dev":1}`, `{"x":1}`, strings.Repeat(" ", 2000) + "{}"} {
		if err := os.WriteFile(filepath.Join(silicon, rememberedFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := StartHash(path, silicon).wait(); err != nil || got != sha256.Sum256([]byte("two")) {
			t.Errorf("%.20q is kept: found %x, %v", bad, got, err)
		}
	}
}

// A kept hash is believed where nobody else can have written it, and where it is kept
// nowhere none is.
func TestHashOfSomebodyElse(t *testing.T) {
	dir, silicon := t.TempDir(), t.TempDir()
	path, kept := filepath.Join(dir, "program"), filepath.Join(silicon, rememberedFile)
	if err := os.WriteFile(path, []byte("one"), 0o700); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	want, forged := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("what a forger would like"))
	place := func() {
		t.Helper()
		remember(silicon, st, forged, time.Unix(0, st.Ctim.Nano()).Add(settled))
		if got, ok := recall(silicon, st); !ok || got != forged {
			t.Fatalf("found %x, %v", got, ok)
		}
	}
	not := func(name string) {
		t.Helper()
		h := StartHash(path, silicon)
		select {
		case <-h.done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it waits", name)
		}
		if h.err != nil || h.sum != want {
			t.Errorf("%s: found %x, %v", name, h.sum, h.err)
		}
	}
	place()
	if err := os.Chmod(kept, 0o620); err != nil {
		t.Fatal(err)
	}
	not("a group may write it")
	if os.Geteuid() == 0 {
		place()
		if err := os.Chown(kept, 65534, -1); err != nil {
			t.Fatal(err)
		}
		not("another's")
	}
	place()
	b, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, append(b, "{}"...), 0o600); err != nil {
		t.Fatal(err)
	}
	not("more behind it")
	place()
	if err := os.Rename(kept, kept+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kept+".old", kept); err != nil {
		t.Fatal(err)
	}
	not("a link")
	_ = os.Remove(kept)
	if err := unix.Mkfifo(kept, 0o600); err != nil {
		t.Fatal(err)
	}
	not("a pipe")

	_ = os.Remove(kept)
	place()
	t.Chdir(silicon)
	if got, err := StartHash(path, "").wait(); err != nil || got != want {
		t.Errorf("no folder, and this one's is taken: found %x, %v", got, err)
	}
}

// How long a file has rested counts from before it was read: what changes it meanwhile
// must not pass for older.
func TestHashBeginsWithTheTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o700); err != nil {
			t.Error(err)
		}
	}
	write("one")
	h := startHash(path, t.TempDir(), func() time.Time { write("two"); return time.Now() })
	if got, err := h.wait(); err != nil || got != sha256.Sum256([]byte("two")) {
		t.Errorf("found %x, %v: the time was taken after the file was read", got, err)
	}
}

func (h *Hash) wait() ([32]byte, error) {
	<-h.done
	return h.sum, h.err
}
