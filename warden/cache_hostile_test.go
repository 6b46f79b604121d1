//go:build linux

package warden

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// sealed is an entry as put makes it, of chunks that put never makes.
func sealed(t testing.TB, c *codeCache, name string, parts ...[]byte) []byte {
	t.Helper()
	head := binary.BigEndian.AppendUint16(make([]byte, cacheSalt), uint16(len(name)))
	head = append(head, name...)
	ch, err := c.chunks(head)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		head = ch.seal(head, p, i == len(parts)-1)
	}
	return head
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
	const name = "dir/entry"
	const head, chunk = cacheSalt + 2 + len(name), cacheChunk + cacheTag
	want := machine(3*cacheChunk + 1000)
	put := func(c *codeCache, b []byte) []byte {
		if err := c.put(name, code(t, b)); err != nil {
			t.Fatal(err)
		}
		return s.stored(c.blob)
	}
	old := put(one, want)
	stored := put(one, want)
	other := put(two, want)
	if bytes.Contains(stored, want[:64]) {
		t.Error("the code lies open in the host's storage")
	}
	if bytes.Equal(old[head:], stored[head:]) {
		t.Error("the same code is sealed twice with one key")
	}
	if n, got, err := opened(t, one); err != nil || n != name || !bytes.Equal(got, want) {
		t.Fatalf("an entry that was just stored: found %q with %d bytes, %v", n, len(got), err)
	}
	// at gives chunk i of an entry, and of those chunks makes an entry.
	at := func(b []byte, i int) []byte { return b[head+i*chunk : min(head+(i+1)*chunk, len(b))] }
	of := func(parts ...[]byte) []byte { return slices.Concat(append([][]byte{stored[:head]}, parts...)...) }
	a, b, c, last := at(stored, 0), at(stored, 1), at(stored, 2), at(stored, 3)
	if !bytes.Equal(of(a, b, c, last), stored) {
		t.Fatal("an entry does not lie in chunks as this test believes")
	}
	change := func(at int) []byte { b := bytes.Clone(stored); b[at] ^= 0x80; return b }
	length := func(n uint16) []byte {
		b := bytes.Clone(stored)
		binary.BigEndian.PutUint16(b[cacheSalt:], n)
		return b
	}
	for what, bad := range map[string][]byte{
		"swapped": other, "nothing": {},
		"cut in the salt": stored[:cacheSalt-1], "cut in the length": stored[:cacheSalt+1], "cut in the name": stored[:head-1],
		"no code": stored[:head], "a byte of code": stored[:head+1], "a tag": stored[:head+cacheTag], "cut": stored[:len(stored)-1],
		"cut in a chunk": stored[:head+chunk+100], "cut in a tag": stored[:head+2*chunk-1],
		"cut after a chunk": of(a), "cut after two": of(a, b), "cut before the last": of(a, b, c),
		"longer": append(bytes.Clone(stored), 0), "longer by a tag": append(bytes.Clone(stored), make([]byte, cacheTag)...),
		"longer by a chunk": of(a, b, c, c, last), "the last twice": of(a, b, c, last, last),
		"the first missing": of(b, c, last), "one missing": of(a, c, last), "only the last": of(last),
		"reordered": of(b, a, c, last), "rotated": of(b, c, a, last), "the last first": of(last, a, b, c),
		"one twice": of(a, a, c, last), "one over the last": of(a, b, c, c),
		"a chunk of another module": of(a, at(other, 1), c, last), "the last of another module": of(a, b, c, at(other, 3)),
		"a chunk of an old entry": of(a, at(old, 1), c, last), "the head of an old entry": slices.Concat(old[:head], a, b, c, last),
		"the salt of an old entry": slices.Concat(old[:cacheSalt], stored[cacheSalt:]),
		"salt":                     change(0), "the salt's end": change(cacheSalt - 1), "name": change(cacheSalt + 3), "the name's end": change(head - 1),
		"no name": length(0), "a shorter name": length(uint16(len(name) - 1)), "a longer name": length(uint16(len(name) + 1)),
		"a name over the bound": length(maxCacheName + 1), "the longest name": length(math.MaxUint16),
		"code": change(head), "code in the middle": change(len(stored) / 2), "a tag changed": change(head + chunk - 1), "the last tag": change(len(stored) - 1),
		"sealed without code": sealed(t, one, name, nil), "an empty last chunk": sealed(t, one, name, want[:cacheChunk], nil),
		"a short chunk within": sealed(t, one, name, want[:100], want[:cacheChunk]),
	} {
		s.change(one.blob, bad)
		if n, got, err := opened(t, one); err == nil {
			t.Errorf("%s: opened as %q with %d bytes", what, n, len(got))
		}
	}
	// The control of what this test seals itself.
	s.change(one.blob, sealed(t, one, name, want[:cacheChunk], want[:100]))
	if _, got, err := opened(t, one); err != nil || len(got) != cacheChunk+100 {
		t.Errorf("found %d bytes, %v", len(got), err)
	}
	// An old entry of the very same module is as good as the last one.
	s.change(one.blob, old)
	if _, got, err := opened(t, one); err != nil || !bytes.Equal(got, want) {
		t.Errorf("found %d bytes, %v", len(got), err)
	}
}

// T16: the size of an entry is the host's word.
func TestT16CacheSizes(t *testing.T) {
	s := newStore(t)
	c, err := linked(t, s).openCache([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.put("entry", code(t, machine(cacheChunk+1000))); err != nil {
		t.Fatal(err)
	}
	const head = uint64(cacheSalt + 2 + len("entry"))
	for what, size := range map[string]uint64{
		"zero": 0, "one": 1, "the head": head, "a tag": head + cacheTag, "a chunk": head + cacheChunk + cacheTag, "a chunk and a tag": head + cacheChunk + 2*cacheTag,
		"less": head + cacheChunk + 1000 + 2*cacheTag - 1, "more": head + cacheChunk + 1000 + 2*cacheTag + 1,
		"most": link.MaxBlob, "over the bound": link.MaxBlob + 1, "huge": 1 << 62, "negative": 1 << 63, "all ones": math.MaxUint64,
		"just under 2^63": math.MaxInt64,
	} {
		s.announce(func(uint64) uint64 { return size })
		if n, got, err := opened(t, c); err == nil {
			t.Errorf("announced as %s: opened as %q with %d bytes", what, n, len(got))
		}
	}
	s.announce(nil)
	if _, _, err := opened(t, c); err != nil {
		t.Errorf("the control: %v", err)
	}
}

// T16, T7: another chip, another launch or another release of this program has
// another key, and entries of its own.
func TestT16CacheOfAnotherKeep(t *testing.T) {
	s := newStore(t)
	w := linked(t, s)
	processor, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	guest := func(l silicon.Launch, program byte) {
		l.HostData = digest
		s.keep(processor.Guest(l, func() [48]byte { return [48]byte{program} }))
		w.identity.local.Measurement = [48]byte{program}
	}
	cache := func() *codeCache {
		t.Helper()
		c, err := w.openCache([32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	guest(silicon.Launch{}, 7)
	one := cache()
	if err := one.put("entry", code(t, machine(1000))); err != nil {
		t.Fatal(err)
	}
	stored := s.stored(one.blob)

	guest(silicon.Launch{}, 7)
	if same := cache(); same.blob != one.blob {
		t.Error("a Keep like the first has another entry")
	} else if _, _, err := opened(t, same); err != nil {
		t.Errorf("the control: %v", err)
	}
	guest(silicon.Launch{}, 8)
	release := cache()
	if release.blob == one.blob {
		t.Error("another release of this program has the same entry")
	}
	s.change(release.blob, stored)
	if _, _, err := opened(t, release); err == nil {
		t.Error("an entry opens for another release")
	}
	guest(silicon.Launch{Policy: silicon.DefaultPolicy | 1<<19}, 7)
	if _, _, err := opened(t, cache()); err == nil {
		t.Error("an entry opens for another launch")
	}
	s.keep(newProcessor(t, digest).guest)
	if _, _, err := opened(t, cache()); err == nil {
		t.Error("an entry opens with another processor's key")
	}
}

// T19: what a child hands over as the slot may be any descriptor.
func TestT19OddSlot(t *testing.T) {
	s := newStore(t)
	c, err := linked(t, s).openCache([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.put("entry", code(t, machine(1000))); err != nil {
		t.Fatal(err)
	}
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer p.Close()
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	closed := slot(t)
	_ = closed.Close()
	for what, f := range map[string]*os.File{
		"a pipe": p, "a pipe's other end": r, "a socket": theirs, "a folder": dir, "a full device": full, "read-only": null, "sealed": code(t, []byte("x")), "closed": closed,
	} {
		if name, err := c.get(f); err == nil || name != "" {
			t.Errorf("%s: found %q, %v", what, name, err)
		}
	}
}

// FuzzCacheEntry is what the host may give for an entry, with a size of its own.
func FuzzCacheEntry(f *testing.F) {
	s := newStore(f)
	c, err := linked(f, s).openCache([32]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	want := machine(300)
	if err := c.put("entry", code(f, want)); err != nil {
		f.Fatal(err)
	}
	stored := s.stored(c.blob)
	f.Add(stored, uint64(len(stored)))
	f.Add(stored[:len(stored)-1], uint64(len(stored)))
	f.Add(stored, uint64(math.MaxUint64))
	f.Add([]byte(strings.Repeat("\x00", 40)), uint64(40))
	f.Add(sealed(f, c, "e", nil), uint64(cacheSalt+3+cacheTag))
	f.Fuzz(func(t *testing.T, b []byte, size uint64) {
		s.change(c.blob, b)
		s.announce(func(uint64) uint64 { return size })
		fd, err := unix.MemfdCreate("slot", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		slot := os.NewFile(uintptr(fd), "slot")
		defer slot.Close()
		name, err := c.get(slot)
		got, rerr := io.ReadAll(slot)
		if rerr != nil || err == nil && (name != "entry" || !bytes.Equal(got, want)) || err != nil && (name != "" || len(got) > 0) {
			t.Errorf("found %q with %d bytes, %v", name, len(got), err)
		}
	})
}
