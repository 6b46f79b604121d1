//go:build linux

package vfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// A host folder with links that lead out of it, made by somebody else: a guest
// reads, writes and makes nothing behind them (T19).
func TestLinksOutOfTheFolder(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := t.TempDir()
	rel, err := filepath.Rel(inside, outside)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": outside, "rel": rel, "absfile": secret, "proc": "/proc/self/root" + secret} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := serveDir(t, inside)
	put(t, d, "mine", "mine")
	all := OpenOptions{Read: true, Write: true, Create: true, Follow: true}
	for _, p := range []string{"abs/secret", "rel/secret", "absfile", "proc", "abs/new", "rel/new", "rel/../x", "abs", "rel"} {
		if _, e := d.Open(p, all); e != ErrnoPerm {
			t.Errorf("open %q: errno %d, wanted %d", p, e, ErrnoPerm)
		}
		if _, e := d.StatAt(p, true); e != ErrnoPerm {
			t.Errorf("stat %q: errno %d, wanted %d", p, e, ErrnoPerm)
		}
		if e := d.SetTimesAt(p, true, Times{Mtim: new(int64)}); e != ErrnoPerm {
			t.Errorf("times of %q: errno %d, wanted %d", p, e, ErrnoPerm)
		}
	}
	for _, p := range []string{"abs/new", "rel/new"} {
		for what, e := range map[string]Errno{
			"mkdir": d.Mkdir(p), "symlink": d.Symlink("x", p), "link": d.Link("mine", false, d, p),
			"rename": d.Rename("mine", d, p), "unlink": d.Unlink(p), "rmdir": d.Rmdir(p),
		} {
			if e != ErrnoPerm {
				t.Errorf("%s %q: errno %d, wanted %d", what, p, e, ErrnoPerm)
			}
		}
	}
	if e := d.Link("rel/secret", false, d, "stolen"); e != ErrnoPerm {
		t.Errorf("link from outside: errno %d", e)
	}
	names, err := os.ReadDir(outside)
	if err != nil || len(names) != 1 {
		t.Errorf("outside there is now %v, %v", names, err)
	}
	if b, err := os.ReadFile(secret); string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
}

// A folder inside is exchanged for a link out of the tree, and back, while the
// guest uses it: it reaches one or the other, never the outside.
func TestLinkSwappedUnderway(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	for dir, data := range map[string]string{outside: "secret", filepath.Join(inside, "dir"): "public"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link, dir := filepath.Join(inside, "link"), filepath.Join(inside, "dir")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	var swaps atomic.Int64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := exchange(link, dir); err != nil {
				done <- err
				return
			}
			swaps.Add(1)
		}
	}()
	d := serveDir(t, inside)
	reached := 0
	for i := 0; i < 2000; i++ {
		if h, e := d.Open("dir/file", OpenOptions{Read: true, Follow: true}); e == 0 {
			b := make([]byte, 16)
			if n, e := h.(File).ReadAt(b, 0); e != 0 || string(b[:n]) != "public" {
				t.Fatalf("read %q, errno %d", b[:n], e)
			}
			reached++
			h.Close()
		}
		if h, e := d.Open("dir/made", OpenOptions{Create: true, Write: true}); e == 0 {
			h.Close()
		}
		_ = d.Rename("dir/made", d, "dir/again")
	}
	close(stop)
	if err := <-done; err != nil {
		t.Skipf("this file system cannot exchange two names: %v", err)
	}
	if reached == 0 || swaps.Load() == 0 {
		t.Skipf("nothing raced: %d reads, %d swaps", reached, swaps.Load())
	}
	names, err := os.ReadDir(outside)
	if err != nil || len(names) != 1 || names[0].Name() != "file" {
		t.Errorf("outside there is now %v, %v", names, err)
	}
}

// A pipe in a host folder must not hold the server: nobody writes to it.
func TestPipesAndDevices(t *testing.T) {
	inside := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(inside, "pipe"), 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	d := serveDir(t, inside)
	for _, o := range []OpenOptions{{Read: true}, {Write: true}, {Read: true, Write: true, Follow: true}} {
		if _, e := d.Open("pipe", o); e != ErrnoNotsup {
			t.Errorf("open %+v: errno %d, wanted %d", o, e, ErrnoNotsup)
		}
	}
	ok(t, "times", d.SetTimesAt("pipe", true, Times{Mtim: new(int64)}))
}

// A name that is no UTF-8 cannot be said in WASI; it must not cost the folder.
func TestNamesThatAreNoText(t *testing.T) {
	inside := t.TempDir()
	if err := os.WriteFile(filepath.Join(inside, "a\xff"), nil, 0o600); err != nil {
		t.Skip("this file system wants text:", err)
	}
	if err := os.Symlink("b\xff", filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	d := serveDir(t, inside)
	if l, e := d.ReadDir(); e != 0 || len(l) != 1 || l[0].Name != "link" {
		t.Errorf("entries %v, errno %d", l, e)
	}
	if _, e := d.Readlink("link"); e != ErrnoIlseq {
		t.Errorf("readlink: errno %d, wanted %d", e, ErrnoIlseq)
	}
	if e := d.Mkdir("a\xff"); e != ErrnoIlseq {
		t.Errorf("mkdir: errno %d, wanted %d", e, ErrnoIlseq)
	}
	ok(t, "mkdir afterwards", d.Mkdir("a"))
}

func TestHandlesAreBounded(t *testing.T) {
	d := serveDir(t, t.TempDir())
	put(t, d, "file", "x")
	var open []Handle
	for {
		h, e := d.Open("file", OpenOptions{Read: true})
		if e != 0 {
			if e != ErrnoNfile && e != ErrnoMfile {
				t.Errorf("errno %d, wanted %d", e, ErrnoNfile)
			}
			break
		}
		if open = append(open, h); len(open) > maxHandles {
			t.Fatalf("%d handles", len(open))
		}
	}
	for _, h := range open {
		ok(t, "close", h.Close())
	}
	get(t, d, "file")
	if e := open[0].Close(); e != ErrnoBadf {
		t.Errorf("a second close: errno %d, wanted %d", e, ErrnoBadf)
	}
}

// script is a peer that has said all it will say.
type script struct {
	io.Reader
	io.Writer
}

func (script) Close() error { return nil }

func record(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeRecord(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a host may not answer, and that nothing is asked after it.
func TestAnswersThatAreNone(t *testing.T) {
	raw := func(b string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	for name, said := range map[string][]byte{
		"nothing":           nil,
		"cut short":         record(t, answer{})[:5],
		"too long":          {0xff, 0xff, 0xff, 0xff},
		"an empty record":   raw(""),
		"no CBOR":           raw("hello"),
		"trailing bytes":    raw(string(record(t, answer{})[4:]) + "\x00"),
		"unknown field":     raw("\xa1\x18\x63\x01"),
		"two of a field":    raw("\xa2\x01\x00\x01\x00"),
		"unknown errno":     record(t, answer{Errno: 77}),
		"unknown type":      record(t, answer{Stat: Stat{Type: 8}}),
		"a name with slash": record(t, answer{Entries: []Entry{{Name: "../x"}}}),
		"a name of dots":    record(t, answer{Entries: []Entry{{Name: ".."}}}),
		"an empty name":     record(t, answer{Entries: []Entry{{}}}),
	} {
		t.Run(name, func(t *testing.T) {
			if len(said) > 0 { // and a good answer, which comes too late
				said = append(bytes.Clone(said), record(t, answer{})...)
			}
			d := Dial(script{bytes.NewReader(said), io.Discard})
			if l, e := d.ReadDir(); e != ErrnoIo {
				t.Errorf("%v, errno %d, wanted %d", l, e, ErrnoIo)
			}
			if e := d.Mkdir("x"); e != ErrnoIo {
				t.Errorf("the next call: errno %d, wanted %d", e, ErrnoIo)
			}
		})
	}
	all := bytes.Join([][]byte{
		record(t, answer{Handle: 1}), record(t, answer{Data: []byte("four+")}), // more than was asked
		record(t, answer{N: 5}), record(t, answer{N: -1}), // wrote more than there was, and less than nothing
	}, nil)
	d := Dial(script{bytes.NewReader(all), io.Discard})
	h, e := d.Open("x", OpenOptions{Read: true})
	ok(t, "open", e)
	f := h.(File)
	if n, e := f.ReadAt(make([]byte, 4), 0); n != 0 || e != ErrnoIo {
		t.Errorf("read: %d, errno %d", n, e)
	}
	for range 2 {
		if n, e := f.WriteAt([]byte("four"), 0); n != 0 || e != ErrnoIo {
			t.Errorf("write: %d, errno %d", n, e)
		}
	}
	d = Dial(script{bytes.NewReader(record(t, answer{Handle: 1})), io.Discard})
	if _, e := d.Open("x", OpenOptions{Directory: true}); e != ErrnoIo {
		t.Errorf("a file where a folder was asked for: errno %d", e)
	}
}

// FuzzServe sends any bytes to the host's side: it must end, and nothing may
// appear or change outside the folder.
func FuzzServe(f *testing.F) {
	for _, q := range []request{
		{Op: opOpen, Path: "file", Open: OpenOptions{Read: true, Write: true, Create: true}},
		{Op: opRead, Handle: 1, N: 10}, {Op: opWrite, Handle: 1, Data: []byte("x")}, {Op: opReadDir, Off: 1},
		{Op: opLink, Path: "file", To: "../x"}, {Op: opRename, Path: "file", Other: 1, To: "x"},
		{Op: opSymlink, Path: "l", To: "../../x"}, {Op: opRead, Handle: 1, N: -1}, {Op: 99}, {Op: opClose},
		{Op: opAllocate, Handle: 1, Off: -1, N: 4}, {Op: opSetTimesAt, Path: "/", Follow: true},
	} {
		open := record(f, request{Op: opOpen, Path: "file", Open: OpenOptions{Read: true, Write: true}})
		f.Add(append(open, record(f, q)...))
	}
	f.Add([]byte{0, 0, 0, 1, 0xff})
	f.Fuzz(func(t *testing.T, said []byte) {
		if tooBig(said) {
			t.Skip("asks for a large file")
		}
		around := t.TempDir()
		inside := filepath.Join(around, "inside")
		if err := errors.Join(os.Mkdir(inside, 0o700), os.WriteFile(filepath.Join(inside, "file"), []byte("data"), 0o600),
			os.WriteFile(filepath.Join(around, "x"), []byte("other"), 0o600)); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inside)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = Serve(context.Background(), root, script{bytes.NewReader(said), io.Discard})
		names, err := os.ReadDir(around)
		b, rerr := os.ReadFile(filepath.Join(around, "x"))
		if err != nil || rerr != nil || len(names) != 2 || string(b) != "other" {
			t.Errorf("outside the folder: %v, %v, %q, %v", names, err, b, rerr)
		}
	})
}

// tooBig keeps the fuzzer from filling a file system that has no sparse files.
func tooBig(said []byte) bool {
	r := bytes.NewReader(said)
	for {
		var q request
		if err := readRecord(r, &q); err != nil {
			return false
		}
		if q.Off > 1<<20 || q.N > 1<<20 {
			return true
		}
	}
}

// FuzzDial lets the host answer anything: each call must end without a panic and
// give back no more than was asked.
func FuzzDial(f *testing.F) {
	h := record(f, answer{Handle: 1})
	for _, a := range []answer{{}, {Data: []byte("abcd")}, {N: 3}, {Errno: 44}, {Entries: []Entry{{Name: "x"}}, More: true}} {
		f.Add(append(bytes.Clone(h), record(f, a)...))
	}
	dir, err := cbor.Marshal(answer{Handle: 2, IsDir: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dir)
	f.Fuzz(func(t *testing.T, said []byte) {
		d := Dial(script{bytes.NewReader(said), io.Discard})
		h, _ := d.Open("x", OpenOptions{})
		b := make([]byte, 8)
		if x, isFile := h.(File); isFile {
			if n, _ := x.ReadAt(b, 0); n < 0 || n > len(b) {
				t.Errorf("read %d of %d", n, len(b))
			}
			if n, _ := x.WriteAt(b, 0); n < 0 || n > len(b) {
				t.Errorf("wrote %d of %d", n, len(b))
			}
		}
		list, _ := d.ReadDir()
		for _, e := range list {
			if e.Name == "" || bytes.ContainsAny([]byte(e.Name), "/\x00") {
				t.Errorf("entry %q", e.Name)
			}
		}
		if s, e := d.Readlink("x"); e != 0 && s != "" {
			t.Errorf("a target %q with errno %d", s, e)
		}
	})
}
