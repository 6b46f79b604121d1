//go:build linux

package sim

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"
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
	h := StartHash(path)
	if of(h) != sha256.Sum256([]byte("one")) || of(nil) != sha256.Sum256([]byte("one")) {
		t.Error("a file's hash is another")
	}
	time.Sleep(20 * time.Millisecond) // file times are as fine as the kernel's tick
	write("two")
	if of(h) != sha256.Sum256([]byte("two")) {
		t.Error("the file was changed in place, and the old hash is given")
	}
	h = StartHash(path)
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
	if h = StartHash(filepath.Join(dir, "none")); of(h) != sha256.Sum256([]byte("tri")) {
		t.Error("a hash that failed is used")
	}
}
