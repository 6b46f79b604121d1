//go:build linux

package warden

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// A store is the host's end of a link: storage and key derivation, and lies.
type store struct {
	guest *silicon.Guest
	mu    sync.Mutex
	blobs map[string][]byte
	size  func(uint64) uint64 // of what a get announces
	key   func([]byte) []byte
}

func (s *store) serve(ctx context.Context, sess *link.Session) {
	for {
		st, err := sess.Accept()
		if err != nil {
			return
		}
		go s.one(st)
	}
}

func (s *store) one(st *link.Stream) {
	defer st.Close()
	switch st.Service() {
	case link.ServiceDeriveKey:
		b, err := link.ReadRaw(st, 256)
		if err != nil {
			return
		}
		k, err := s.guest.DeriveKey(b)
		if s.key != nil {
			k = s.key(k)
		}
		r := link.KeyReply{Key: k}
		if err != nil {
			r = link.KeyReply{Error: err.Error()}
		}
		_ = link.WriteRecord(st, r)
	case link.ServiceBlobs:
		var q link.BlobRequest
		if link.Unmarshal(st.Params(), &q) != nil {
			return
		}
		if q.Op == link.BlobPut {
			b, err := io.ReadAll(st)
			s.mu.Lock()
			s.blobs[q.Name] = b
			s.mu.Unlock()
			_ = link.WriteRecord(st, link.BlobReply{OK: err == nil})
			return
		}
		s.mu.Lock()
		b, ok := s.blobs[q.Name]
		s.mu.Unlock()
		n := uint64(len(b))
		if s.size != nil {
			n = s.size(n)
		}
		_ = link.WriteRecord(st, link.BlobReply{OK: ok, Size: n})
		_, _ = st.Write(b)
	}
}

// linked gives a warden whose host is s.
func linked(t *testing.T, s *store) *warden {
	t.Helper()
	w := wardenAt(t, nil)
	host, guest := sessions(t)
	w.sess = guest
	go s.serve(t.Context(), host)
	return w
}

func sessions(t *testing.T) (host, guest *link.Session) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]io.ReadWriteCloser
	for i := range ends {
		if ends[i], err = OpenLink(fds[i]); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		var err error
		guest, err = link.Guest(ends[1])
		done <- err
	}()
	host, err = link.Host(ends[0])
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close(); _ = guest.Close() })
	return host, guest
}

func code(t *testing.T, b []byte) *os.File {
	t.Helper()
	f, err := child.Memory("code", len(b), func(m []byte) error { copy(m, b); return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func newStore(t *testing.T) *store {
	t.Helper()
	return &store{guest: newProcessor(t, digest).guest, blobs: map[string][]byte{}}
}

// T16: an entry opens for the module it was made of, and as it was stored, or not
// at all.
func TestT16CacheOpensOnlyItsOwn(t *testing.T) {
	s := newStore(t)
	w := linked(t, s)
	one, err := w.openCache([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	two, err := w.openCache([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	if one.blob == two.blob {
		t.Fatal("two modules have one entry")
	}
	machine := bytes.Repeat([]byte("machine code "), 1000)
	if err := one.put("dir/entry", code(t, machine)); err != nil {
		t.Fatal(err)
	}
	if err := two.put("dir/entry", code(t, []byte("other code"))); err != nil {
		t.Fatal(err)
	}
	stored := s.blobs[one.blob]
	if bytes.Contains(stored, machine[:64]) {
		t.Error("the code lies open in the host's storage")
	}
	name, f := one.get()
	if f == nil || name != "dir/entry" {
		t.Fatal("an entry that was just stored does not open")
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	_ = f.Close()
	if err != nil || !bytes.Equal(got, machine) {
		t.Fatalf("found %d bytes, %v", len(got), err)
	}
	change := func(at int) []byte { b := bytes.Clone(stored); b[at] ^= 0x80; return b }
	for name, bad := range map[string][]byte{
		"swapped": s.blobs[two.blob], "nothing": {}, "short": stored[:cacheNonce+17], "cut": stored[:len(stored)-1],
		"longer": append(bytes.Clone(stored), 0), "nonce": change(0), "name": change(cacheNonce + 3), "code": change(len(stored) / 2), "tag": change(len(stored) - 1),
	} {
		s.mu.Lock()
		s.blobs[one.blob] = bad
		s.mu.Unlock()
		if _, f := one.get(); f != nil {
			t.Errorf("%s: opened", name)
		}
	}
	s.mu.Lock()
	s.blobs[one.blob] = stored
	s.mu.Unlock()
	for name, size := range map[string]func(uint64) uint64{
		"less": func(n uint64) uint64 { return n - 1 }, "more": func(n uint64) uint64 { return n + 1 }, "huge": func(uint64) uint64 { return 1 << 62 },
	} {
		s.size = size
		if _, f := one.get(); f != nil {
			t.Errorf("announced as %s: opened", name)
		}
	}
	s.size = nil
	// Another chip, or another launch, has another key.
	s.guest = newProcessor(t, digest).guest
	other, err := w.openCache([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, f := other.get(); f != nil {
		t.Error("an entry opens with another processor's key")
	}
}

// Where no key can be had there is no cache, and nothing is stored in the clear.
func TestT16NoKeyNoCache(t *testing.T) {
	s := newStore(t)
	w := linked(t, s)
	for name, key := range map[string]func([]byte) []byte{
		"none": func([]byte) []byte { return nil }, "short": func(k []byte) []byte { return k[:31] }, "long": func(k []byte) []byte { return append(k, 0) },
	} {
		s.key = key
		if c, err := w.openCache([32]byte{1}); err == nil {
			t.Errorf("%s: found a cache at %s", name, c.blob)
		}
	}
}

// T19: what a child hands over as compiled code may be any descriptor.
func TestT19OddCompiledCode(t *testing.T) {
	w := linked(t, newStore(t))
	c, err := w.openCache([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer p.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	long := string(bytes.Repeat([]byte("n"), maxCacheName+1))
	for name, x := range map[string]struct {
		name string
		f    *os.File
	}{"a pipe": {"n", r}, "a folder": {"n", dir}, "a device": {"n", zero}, "empty": {"n", code(t, nil)}, "a long name": {long, code(t, []byte("x"))}} {
		if err := c.put(x.name, x.f); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
}
