//go:build linux

package vfs

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// trees are the two trees that a guest can write to. They must answer alike: a
// program tested on a host folder runs on a scratch folder.
var trees = map[string]func(*testing.T) Dir{
	"memory": func(*testing.T) Dir { return NewMemory(Limits{}) },
	"host":   func(t *testing.T) Dir { return serveDir(t, t.TempDir()) },
}

// serveDir gives a host folder as a guest sees it, over a real socket pair.
func serveDir(t testing.TB, path string) Dir {
	t.Helper()
	root, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	a, b := pair(t)
	done := make(chan error, 1)
	go func() { done <- Serve(context.Background(), root, b) }()
	t.Cleanup(func() {
		a.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		b.Close()
		root.Close()
	})
	return Dial(a)
}

func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return ends[0], ends[1]
}

// stage is what every case finds:
//
//	file         "hello"
//	empty/
//	full/file    "deep"
//	to-file      -> file
//	to-full      -> full
//	dangling     -> nothing
//	loop         -> loop
//	out          -> ../outside
func stage(t *testing.T, d Dir) {
	t.Helper()
	for _, p := range []string{"empty", "full"} {
		ok(t, "mkdir "+p, d.Mkdir(p))
	}
	put(t, d, "file", "hello")
	put(t, d, "full/file", "deep")
	for _, l := range [][2]string{{"file", "to-file"}, {"full", "to-full"}, {"nothing", "dangling"}, {"loop", "loop"}, {"../outside", "out"}} {
		ok(t, "symlink "+l[1], d.Symlink(l[0], l[1]))
	}
}

func ok(t *testing.T, what string, e Errno) {
	t.Helper()
	if e != 0 {
		t.Fatalf("%s: errno %d", what, e)
	}
}

func put(t *testing.T, d Dir, path, data string) {
	t.Helper()
	h, e := d.Open(path, OpenOptions{Create: true, Trunc: true, Read: true, Write: true, Follow: true})
	ok(t, "create "+path, e)
	n, e := h.(File).WriteAt([]byte(data), 0)
	if e != 0 || n != len(data) {
		t.Fatalf("write %s: %d, errno %d", path, n, e)
	}
	ok(t, "close", h.Close())
}

func get(t *testing.T, d Dir, path string) string {
	t.Helper()
	h, e := d.Open(path, OpenOptions{Read: true, Follow: true})
	ok(t, "open "+path, e)
	defer h.Close()
	b := make([]byte, 1<<16)
	n, e := h.(File).ReadAt(b, 0)
	ok(t, "read "+path, e)
	return string(b[:n])
}

// sub opens a folder.
func sub(t *testing.T, d Dir, path string) Dir {
	t.Helper()
	h, e := d.Open(path, OpenOptions{Directory: true, Follow: true, Read: true})
	ok(t, "open "+path, e)
	t.Cleanup(func() { h.Close() })
	return h.(Dir)
}

// calls are one call on one path each, and its errno.
func TestErrnos(t *testing.T) {
	r := OpenOptions{Read: true}
	rf := OpenOptions{Read: true, Follow: true}
	creat := OpenOptions{Read: true, Write: true, Create: true, Follow: true}
	excl := OpenOptions{Read: true, Write: true, Create: true, Excl: true, Follow: true}
	dir := OpenOptions{Read: true, Directory: true, Follow: true}
	long, far := strings.Repeat("n", 256), strings.Repeat("a/", 2100)
	type row struct {
		name string
		call func(d Dir) Errno
		want Errno
	}
	open := func(p string, o OpenOptions, want Errno) row {
		return row{fmt.Sprintf("open %.40q %+v", p, o), func(d Dir) Errno {
			h, e := d.Open(p, o)
			if e == 0 {
				h.Close()
			}
			return e
		}, want}
	}
	one := func(name string, f func(Dir, string) Errno) func(string, Errno) row {
		return func(p string, want Errno) row {
			return row{fmt.Sprintf("%s %.40q", name, p), func(d Dir) Errno { return f(d, p) }, want}
		}
	}
	mkdir, rmdir, unlink := one("mkdir", Dir.Mkdir), one("rmdir", Dir.Rmdir), one("unlink", Dir.Unlink)
	readlink := one("readlink", func(d Dir, p string) Errno { _, e := d.Readlink(p); return e })
	stat := one("stat", func(d Dir, p string) Errno { _, e := d.StatAt(p, true); return e })
	lstat := one("lstat", func(d Dir, p string) Errno { _, e := d.StatAt(p, false); return e })
	times := one("times", func(d Dir, p string) Errno { return d.SetTimesAt(p, true, Times{}) })
	two := func(name string, f func(d Dir, a, b string) Errno) func(a, b string, want Errno) row {
		return func(a, b string, want Errno) row {
			return row{fmt.Sprintf("%s %.40q %.40q", name, a, b), func(d Dir) Errno { return f(d, a, b) }, want}
		}
	}
	link := two("link", func(d Dir, a, b string) Errno { return d.Link(a, false, d, b) })
	rename := two("rename", func(d Dir, a, b string) Errno { return d.Rename(a, d, b) })
	symlink := two("symlink", func(d Dir, a, b string) Errno { return d.Symlink(a, b) })

	rows := []row{
		open("file", r, 0), open("nothing", r, ErrnoNoent), open("", r, ErrnoNoent),
		open("file/", r, ErrnoNotdir), open("file/x", r, ErrnoNotdir), open("nothing/x", r, ErrnoNoent),
		open("full/./../full//file", r, 0), open(".", dir, 0), open("full/..", dir, 0), open("./", dir, 0),
		open("/file", r, ErrnoPerm), open("..", r, ErrnoPerm), open("../file", r, ErrnoPerm),
		open("full/../../file", r, ErrnoPerm), open("out", rf, ErrnoPerm), open("out/x", r, ErrnoPerm),
		open("out", creat, ErrnoPerm), open("out/x", creat, ErrnoPerm),
		open("to-file", r, ErrnoLoop), open("to-file", rf, 0), open("to-full/file", r, 0), open("to-full", dir, 0),
		open("to-full/", r, 0), open("to-file/", rf, ErrnoNotdir), open("loop", rf, ErrnoLoop), open("loop/x", r, ErrnoLoop),
		open("dangling", rf, ErrnoNoent), open("dangling", r, ErrnoLoop), open("dangling", creat, 0),
		open("dangling", excl, ErrnoExist), open("file", excl, ErrnoExist), open("full", excl, ErrnoExist),
		open("file", dir, ErrnoNotdir), open("full", OpenOptions{Read: true, Write: true}, ErrnoIsdir),
		open("full", creat, ErrnoIsdir), open("new/", creat, ErrnoIsdir), open("nothing/new", creat, ErrnoNoent),
		open("nul\x00", r, ErrnoInval), open(long, r, ErrnoNametoolong), open(long, creat, ErrnoNametoolong),
		open(far, r, ErrnoNametoolong),
		mkdir("new", 0), mkdir("new/", 0), mkdir("file", ErrnoExist), mkdir("file/", ErrnoExist), mkdir("full", ErrnoExist),
		mkdir("dangling", ErrnoExist), mkdir("dangling/", ErrnoExist), mkdir("file/x", ErrnoNotdir),
		mkdir("nothing/x", ErrnoNoent), mkdir("../x", ErrnoPerm), mkdir("/x", ErrnoPerm), mkdir("out/x", ErrnoPerm),
		rmdir("empty", 0), rmdir("empty/", 0), rmdir("full", ErrnoNotempty), rmdir("file", ErrnoNotdir),
		rmdir("file/", ErrnoNotdir), rmdir("to-full", ErrnoNotdir), rmdir("to-full/", ErrnoNotdir), rmdir("nothing", ErrnoNoent),
		rmdir("empty/.", ErrnoInval), rmdir(".", ErrnoInval), rmdir("..", ErrnoPerm), rmdir("/", ErrnoPerm),
		unlink("file", 0), unlink("to-full", 0), unlink("out", 0), unlink("file/", ErrnoNotdir), unlink("full", ErrnoIsdir),
		unlink("full/", ErrnoIsdir), unlink("nothing", ErrnoNoent), unlink("full/../file", 0), unlink("../file", ErrnoPerm),
		unlink("out/x", ErrnoPerm),
		readlink("to-file", 0), readlink("out", 0), readlink("file", ErrnoInval), readlink("full", ErrnoInval),
		readlink("nothing", ErrnoNoent), readlink("../x", ErrnoPerm),
		stat("to-file", 0), stat("file/", ErrnoNotdir), stat("full/", 0), stat("to-full/", 0), stat("dangling", ErrnoNoent),
		stat("loop", ErrnoLoop), stat("out", ErrnoPerm), stat("/", ErrnoPerm), stat(".", 0),
		lstat("out", 0), lstat("dangling", 0), lstat("loop", 0), lstat("..", ErrnoPerm), lstat("to-full/", 0),
		times("file", 0), times("full", 0), times("to-file", 0), times("nothing", ErrnoNoent), times("out", ErrnoPerm),
		link("file", "new", 0), link("to-file", "new", 0), link("out", "new", 0), link("full", "new", ErrnoPerm),
		link("file", "full", ErrnoExist), link("nothing", "new", ErrnoNoent), link("file", "new/", ErrnoNoent),
		link("file/", "new", ErrnoNotdir), link("file", "../new", ErrnoPerm), link("../file", "new", ErrnoPerm),
		link("out/x", "new", ErrnoPerm), link("file", "out/x", ErrnoPerm), link("/file", "new", ErrnoPerm),
		link("file", "nothing/x", ErrnoNoent), link("file", "to-file", ErrnoExist),
		rename("file", "new", 0), rename("file", "full/file", 0), rename("file", "full", ErrnoIsdir),
		rename("full", "file", ErrnoNotdir), rename("full", "empty", 0), rename("empty", "full", ErrnoNotempty),
		rename("empty", "new/", 0), rename("empty/", "new", 0), rename("file/", "new", ErrnoNotdir),
		rename("file", "new/", ErrnoNotdir), rename("file", "file", 0), rename("full", "full", 0),
		rename("full", "full/in", ErrnoInval), rename("nothing", "new", ErrnoNoent), rename("file", "nothing/x", ErrnoNoent),
		rename("file", "../new", ErrnoPerm), rename("../file", "new", ErrnoPerm), rename("file", "out/x", ErrnoPerm),
		rename("out", "new", 0), rename("to-full/", "new", ErrnoNotdir), rename("full/.", "new", ErrnoInval),
		rename("file", "full/..", ErrnoInval), rename("file", "/new", ErrnoPerm),
		symlink("anything", "new", 0), symlink("x", "file", ErrnoExist), symlink("x", "new/", ErrnoNoent),
		symlink("x", "file/", ErrnoNotdir), symlink("x", "full/", ErrnoExist), symlink("x", "dangling/", ErrnoNotdir),
		symlink("/etc/passwd", "new", ErrnoPerm), symlink("x", "../new", ErrnoPerm), symlink("x", "out/new", ErrnoPerm),
		symlink("", "new", ErrnoNoent), symlink("x", "nothing/new", ErrnoNoent), symlink(far, "new", ErrnoNametoolong),
	}
	for name, make := range trees {
		t.Run(name, func(t *testing.T) {
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					d := make(t)
					stage(t, d)
					if got := row.call(d); got != row.want {
						t.Errorf("errno %d, wanted %d", got, row.want)
					}
				})
			}
		})
	}
}

// A handle to a folder inside is a root of its own: ".." does not climb to the
// outer one (T19), and links between two handles work.
func TestSubfolder(t *testing.T) {
	for name, make := range trees {
		t.Run(name, func(t *testing.T) {
			d := make(t)
			stage(t, d)
			full, empty := sub(t, d, "full"), sub(t, d, "to-full/../empty")
			for _, p := range []string{"../file", "..", "/file", "./../empty"} {
				if _, e := full.StatAt(p, true); e != ErrnoPerm {
					t.Errorf("stat %q in a sub-folder: errno %d, wanted %d", p, e, ErrnoPerm)
				}
			}
			ok(t, "link across", full.Link("file", false, empty, "linked"))
			ok(t, "rename across", full.Rename("file", empty, "moved"))
			if e := empty.Rename("moved", full, "../escaped"); e != ErrnoPerm {
				t.Errorf("rename out of a sub-folder: errno %d", e)
			}
			if e := empty.Link("moved", false, full, "/escaped"); e != ErrnoPerm {
				t.Errorf("link to an absolute path: errno %d", e)
			}
			a, _ := empty.StatAt("linked", false)
			b, e := d.StatAt("empty/moved", false)
			if e != 0 || a.Ino != b.Ino || b.Nlink != 2 {
				t.Errorf("a linked file: inodes %d, %d, %d links", a.Ino, b.Ino, b.Nlink)
			}
			if got := get(t, d, "empty/linked"); got != "deep" {
				t.Errorf("read %q", got)
			}
			if e := d.Rename("file", NewMemory(Limits{}), "x"); name != "memory" && e != ErrnoXdev {
				t.Errorf("rename to another tree: errno %d", e)
			}
			if e := d.Link("file", false, NewMemory(Limits{}), "x"); e != ErrnoXdev {
				t.Errorf("link to another tree: errno %d", e)
			}
			// A folder that is gone holds nothing any more.
			ok(t, "rmdir", d.Rmdir("full"))
			for what, e := range map[string]Errno{
				"mkdir": full.Mkdir("x"), "symlink": full.Symlink("y", "x"),
				"link": d.Link("file", false, full, "x"), "rename": d.Rename("file", full, "x"),
			} {
				if e != ErrnoNoent {
					t.Errorf("%s in a removed folder: errno %d, wanted %d", what, e, ErrnoNoent)
				}
			}
			if l, e := full.ReadDir(); len(l) != 0 || e != 0 && e != ErrnoNoent {
				t.Errorf("a removed folder: %v, errno %d", l, e)
			}
		})
	}
}

func TestData(t *testing.T) {
	for name, make := range trees {
		t.Run(name, func(t *testing.T) {
			d := make(t)
			stage(t, d)
			h, e := d.Open("file", OpenOptions{Read: true, Write: true})
			ok(t, "open", e)
			f := h.(File)
			ok(t, "unlink", d.Unlink("file"))
			if n, e := f.WriteAt([]byte("!!"), 8); n != 2 || e != 0 {
				t.Errorf("a write past the end of an unlinked file: %d, errno %d", n, e)
			}
			if n, e := f.Append([]byte("end")); n != 3 || e != 0 {
				t.Errorf("append: %d, errno %d", n, e)
			}
			b := slices.Repeat([]byte{'x'}, 32)
			n, e := f.ReadAt(b, 0)
			if want := "hello\x00\x00\x00!!end"; e != 0 || string(b[:n]) != want {
				t.Errorf("read %q, errno %d, wanted %q", b[:n], e, want)
			}
			if n, e := f.ReadAt(b, 13); n != 0 || e != 0 {
				t.Errorf("a read at the end: %d, errno %d", n, e)
			}
			if _, e := f.ReadAt(b, -1); e != ErrnoInval {
				t.Errorf("a read before the beginning: errno %d", e)
			}
			ok(t, "truncate", f.Truncate(2))
			ok(t, "allocate", f.Allocate(0, 6))
			ok(t, "allocate less", f.Allocate(0, 1))
			ok(t, "sync", f.Sync(true))
			n, _ = f.ReadAt(b, 0)
			if got := string(b[:n]); got != "he\x00\x00\x00\x00" {
				t.Errorf("after a cut and an allocation: %q", got)
			}
			if e := f.Truncate(-1); e != ErrnoInval {
				t.Errorf("truncate to -1: errno %d", e)
			}
			if st, e := f.Stat(); e != 0 || st.Nlink != 0 || st.Size != 6 || st.Type != TypeRegular {
				t.Errorf("stat of an unlinked file: %+v, errno %d", st, e)
			}
			ok(t, "close", f.Close())
			if st, _ := d.StatAt("to-file", false); st.Type != TypeSymlink || st.Size != 4 {
				t.Errorf("a link: %+v", st)
			}
			big := strings.Repeat("0123456789abcdef", 20_000) // five of the protocol's chunks
			h, e = d.Open("big", OpenOptions{Create: true, Write: true, Read: true})
			ok(t, "create", e)
			if n, e := h.(File).WriteAt([]byte(big), 0); n != len(big) || e != 0 {
				t.Fatalf("write: %d, errno %d", n, e)
			}
			back := slices.Repeat([]byte{'x'}, len(big)+1)
			if n, e := h.(File).ReadAt(back, 0); e != 0 || string(back[:n]) != big {
				t.Errorf("read %d bytes, errno %d", n, e)
			}
			h.Close()
		})
	}
}

func TestTimes(t *testing.T) {
	for name, make := range trees {
		t.Run(name, func(t *testing.T) {
			d := make(t)
			stage(t, d)
			at, mt := int64(1_234_567_890_123_456_789), int64(987_654_321)
			ok(t, "link's own", d.SetTimesAt("to-file", false, Times{Atim: &at, Mtim: &mt}))
			ok(t, "through it", d.SetTimesAt("to-file", true, Times{Mtim: &at}))
			ok(t, "folder", sub(t, d, "full").SetTimes(Times{Atim: &at, Mtim: &mt}))
			l, _ := d.StatAt("to-file", false)
			f, _ := d.StatAt("file", false)
			g, _ := d.StatAt("full", false)
			if l.Mtim != mt || f.Mtim != at || g.Atim != at || g.Mtim != mt {
				t.Errorf("link %+v, file %+v, folder %+v", l, f, g)
			}
			ok(t, "nothing", d.SetTimesAt("file", false, Times{}))
			if f2, _ := d.StatAt("file", false); f2.Mtim != f.Mtim || f2.Atim != f.Atim {
				t.Errorf("times changed from %+v to %+v", f, f2)
			}
		})
	}
}

func TestReadDir(t *testing.T) {
	for name, make := range trees {
		t.Run(name, func(t *testing.T) {
			d := make(t)
			const many = 5000 // more than one answer holds
			for i := range many {
				ok(t, "mkdir", d.Mkdir(fmt.Sprintf("%0200d", i)))
			}
			list, e := d.ReadDir()
			ok(t, "read", e)
			seen := map[string]bool{}
			for _, e := range list {
				seen[e.Name] = true
				if e.Type != TypeDirectory || e.Ino == 0 {
					t.Fatalf("entry %+v", e)
				}
			}
			if len(list) != many || len(seen) != many {
				t.Errorf("%d entries, %d names, wanted %d", len(list), len(seen), many)
			}
		})
	}
}
