//go:build linux

package warden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
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
		s.mu.Lock()
		guest, key := s.guest, s.key
		s.mu.Unlock()
		k, err := guest.DeriveKey(b)
		if key != nil {
			k = key(k)
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
		size := s.size
		s.mu.Unlock()
		n := uint64(len(b))
		if size != nil {
			n = size(n)
		}
		_ = link.WriteRecord(st, link.BlobReply{OK: ok, Size: n})
		_, _ = st.Write(b)
	}
}

// linked gives a warden whose host is s.
func linked(t testing.TB, s *store) *warden {
	t.Helper()
	w := wardenAt(t, nil)
	host, guest := sessions(t)
	w.sess = guest
	go s.serve(t.Context(), host)
	return w
}

func sessions(t testing.TB) (host, guest *link.Session) {
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

func code(t testing.TB, b []byte) *os.File {
	t.Helper()
	f, err := child.Bytes("code", b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func newStore(t testing.TB) *store {
	t.Helper()
	return &store{guest: newProcessor(t, digest).guest, blobs: map[string][]byte{}}
}

// change puts b in the place of a blob.
func (s *store) change(name string, b []byte) {
	s.mu.Lock()
	s.blobs[name] = b
	s.mu.Unlock()
}

func (s *store) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.blobs))
}

// announce makes the sizes that are announced of the true ones.
func (s *store) announce(size func(uint64) uint64) {
	s.mu.Lock()
	s.size = size
	s.mu.Unlock()
}

// keep says whose key the processor derives.
func (s *store) keep(g *silicon.Guest) {
	s.mu.Lock()
	s.guest = g
	s.mu.Unlock()
}

func (s *store) stored(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.blobs[name])
}

// slot is an empty file, as the child gives one.
func slot(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "slot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// opened gives what get makes of the host's copy.
func opened(t testing.TB, c *codeCache) (name string, code []byte, err error) {
	t.Helper()
	f := slot(t)
	if name, err = c.get(f); err != nil {
		return name, nil, err
	}
	if code, err = io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	return name, code, nil
}

// machine is n bytes of code of which no two chunks are alike.
func machine(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "code %08x ", i)
	}
	return b[:n]
}

// An entry comes back as it was stored, whatever its size.
func TestCacheGivesBack(t *testing.T) {
	s := newStore(t)
	c, err := linked(t, s).openCache([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := opened(t, c); !errors.Is(err, errNoBlob) {
		t.Errorf("an empty storage: found %v", err)
	}
	long := strings.Repeat("n", maxCacheName)
	for _, n := range []int{1, cacheTag, cacheTag + 1, cacheChunk - 1, cacheChunk, cacheChunk + 1, cacheChunk + cacheTag, 2 * cacheChunk, 3*cacheChunk + 1000} {
		for _, name := range []string{"e", long} {
			want := machine(n)
			if err := c.put(name, code(t, want)); err != nil {
				t.Fatal(err)
			}
			chunks := (n + cacheChunk - 1) / cacheChunk
			if got := len(s.stored(c.blob)); got != cacheSalt+2+len(name)+n+chunks*cacheTag {
				t.Errorf("%d bytes are stored as %d", n, got)
			}
			got, code, err := opened(t, c)
			if err != nil || got != name || !bytes.Equal(code, want) {
				t.Errorf("%d bytes named by %d: found %d named by %d, %v", n, len(name), len(code), len(got), err)
			}
		}
	}
}

// Where no key can be had there is no cache, and nothing is stored in the clear.
func TestT16NoKeyNoCache(t *testing.T) {
	s := newStore(t)
	w := linked(t, s)
	for name, key := range map[string]func([]byte) []byte{
		"none": func([]byte) []byte { return nil }, "short": func(k []byte) []byte { return k[:31] }, "long": func(k []byte) []byte { return append(k, 0) },
	} {
		s.mu.Lock()
		s.key = key
		s.mu.Unlock()
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
