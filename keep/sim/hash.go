//go:build linux

package sim

import (
	"crypto/sha256"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Hash is the SHA-256 of a program's file, computed while something else is
// done: a launch needs it early, and has the time of a processor that idles before.
type Hash struct {
	done chan struct{}
	file unix.Stat_t
	sum  [32]byte
	err  error
}

// StartHash begins to hash the file of that path, or recalls its hash from the silicon's
// folder ("": none) where it is unchanged since. What is wrong with it shows when the hash
// is used.
func StartHash(path, silicon string) *Hash { return startHash(path, silicon, time.Now) }

func startHash(path, silicon string, now func() time.Time) *Hash {
	h := &Hash{done: make(chan struct{})}
	go func() {
		defer close(h.done)
		f, err := os.Open(path)
		if err != nil {
			h.err = err
			return
		}
		defer f.Close()
		var known bool
		if silicon != "" && unix.Fstat(int(f.Fd()), &h.file) == nil {
			h.sum, known = recall(silicon, h.file)
		}
		if known {
			return
		}
		began := now()
		if h.file, h.sum, h.err = hash(f); h.err == nil && silicon != "" {
			remember(silicon, h.file, h.sum, began)
		}
	}()
	return h
}

// hash gives a file's identity, as it was before the first byte was read, and its
// SHA-256.
func hash(f *os.File) (st unix.Stat_t, sum [32]byte, err error) {
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, sum, err
	}
	d := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{d}, struct{ io.Reader }{f}, make([]byte, 128<<10)); err != nil {
		return st, sum, err
	}
	d.Sum(sum[:0])
	return st, sum, nil
}

// of gives the hash of the open file f: the one computed before where it is of
// this very file, unchanged since, else a new one.
func (h *Hash) of(f *os.File) ([32]byte, error) {
	if h != nil {
		<-h.done
		var now unix.Stat_t
		if h.err == nil && unix.Fstat(int(f.Fd()), &now) == nil && unchanged(h.file, now) {
			return h.sum, nil
		}
	}
	_, sum, err := hash(f)
	return sum, err
}

// unchanged says whether two looks at a file saw the same contents: every write
// changes the time of the last change.
func unchanged(a, b unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}
