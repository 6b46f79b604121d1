package vfs

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

// archive writes members as they stand: it refuses nothing.
func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.h.Size = int64(len(m.data))
		if m.h.Format == 0 {
			m.h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&m.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type member struct {
	h    tar.Header
	data string
}

func folder(name string) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o555}, ""}
}

func file(name, data string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444}, data}
}

func TestArchive(t *testing.T) {
	long := strings.Repeat("long", 50)
	b := archive(t, file("a", "first"), folder("d"), file("d/"+long, "second"), file("empty", ""))
	d, err := OpenArchive(b, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a": "first", "d/" + long: "second", "d/../a": "first", "empty": ""} {
		h, e := d.Open(path, OpenOptions{Read: true, Write: true}) // as a guest that asks for every right
		if e != 0 {
			t.Fatalf("open %.20q: errno %d", path, e)
		}
		f, p := h.(File), make([]byte, 16)
		if n, e := f.ReadAt(p, 0); e != 0 || string(p[:n]) != want {
			t.Errorf("%.20q holds %q, errno %d, wanted %q", path, p[:n], e, want)
		}
		st, _ := f.Stat()
		if st.Size != uint64(len(want)) || st.Mtim != 0 || st.Type != TypeRegular {
			t.Errorf("%.20q: %+v", path, st)
		}
		_, we := f.WriteAt([]byte("x"), 0)
		_, ae := f.Append([]byte("x"))
		for what, e := range map[string]Errno{
			"write": we, "append": ae, "truncate": f.Truncate(1), "allocate": f.Allocate(0, 100), "times": f.SetTimes(Times{}),
		} {
			if e != ErrnoRofs {
				t.Errorf("%s: errno %d, wanted %d", what, e, ErrnoRofs)
			}
		}
	}
	_, create := d.Open("new", OpenOptions{Create: true, Write: true})
	_, trunc := d.Open("a", OpenOptions{Trunc: true, Write: true, Read: true})
	for what, e := range map[string]Errno{
		"create": create, "truncate": trunc, "mkdir": d.Mkdir("x"), "rmdir": d.Rmdir("d"), "unlink": d.Unlink("a"),
		"symlink": d.Symlink("a", "x"), "link": d.Link("a", false, d, "x"), "rename": d.Rename("a", d, "x"),
		"times": d.SetTimesAt("a", false, Times{}),
	} {
		if e != ErrnoRofs {
			t.Errorf("%s: errno %d, wanted %d", what, e, ErrnoRofs)
		}
	}
	if l, e := d.ReadDir(); e != 0 || len(l) != 3 || l[1].Name != "d" {
		t.Errorf("entries %v, errno %d", l, e)
	}
	again, err := OpenArchive(b, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	h, _ := again.Open("a", OpenOptions{Read: true})
	if data := h.(*memFile).n.data; &data[0] != &b[bytes.Index(b, []byte("first"))] {
		t.Error("file data was copied")
	}
}

func TestArchiveRefuses(t *testing.T) {
	good := archive(t, file("a", "data"))
	with := func(m member, f func(*tar.Header)) member { f(&m.h); return m }
	for name, c := range map[string]struct {
		b    []byte
		l    Limits
		want string
	}{
		"no tar":           {[]byte(strings.Repeat("x", 1024)), Limits{}, "tar"},
		"cut in a header":  {good[:100], Limits{}, "unexpected EOF"},
		"cut in data":      {good[:514], Limits{}, "cut short"},
		"data behind":      {append(bytes.Clone(good), archive(t, file("b", ""))...), Limits{}, "behind the end"},
		"a byte behind":    {append(bytes.Clone(good), 0), Limits{}, "behind the end"},
		"a name twice":     {archive(t, file("a", "1"), file("a", "2")), Limits{}, "twice"},
		"a folder twice":   {archive(t, folder("a"), folder("a")), Limits{}, "twice"},
		"no folder":        {archive(t, file("d/a", "")), Limits{}, "missing"},
		"below a file":     {archive(t, file("a", ""), file("a/b", "")), Limits{}, "missing"},
		"dots":             {archive(t, file("../a", "")), Limits{}, "clean"},
		"dots inside":      {archive(t, folder("d"), file("d/../../a", "")), Limits{}, "clean"},
		"a dot":            {archive(t, file("./a", "")), Limits{}, "clean"},
		"absolute":         {archive(t, file("/a", "")), Limits{}, "clean"},
		"a symbolic link":  {archive(t, with(file("a", ""), func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "b" })), Limits{}, "type"},
		"a hard link":      {archive(t, with(file("a", ""), func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "b" })), Limits{}, "type"},
		"a device":         {archive(t, with(file("a", ""), func(h *tar.Header) { h.Typeflag = tar.TypeChar })), Limits{}, "type"},
		"a pipe":           {archive(t, with(file("a", ""), func(h *tar.Header) { h.Typeflag = tar.TypeFifo })), Limits{}, "type"},
		"attributes":       {archive(t, with(file("a", ""), func(h *tar.Header) { h.PAXRecords = map[string]string{"VENDOR.x": "1"} })), Limits{}, "PAX record"},
		"GNU's form":       {archive(t, with(file("a", ""), func(h *tar.Header) { h.Format = tar.FormatGNU })), Limits{}, "GNU"},
		"too many members": {archive(t, file("a", ""), file("b", ""), file("c", "")), Limits{Inodes: 3}, "too many"},
		"too much data":    {archive(t, file("a", "12345"), file("b", "6")), Limits{Bytes: 5}, "too much"},
		"a long name":      {archive(t, with(file("a", ""), func(h *tar.Header) { h.Name = strings.Repeat("n", 256) })), Limits{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := OpenArchive(c.b, c.l); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, wanted one with %q", err, c.want)
			}
		})
	}
}

func FuzzOpenArchive(f *testing.F) {
	f.Add(archive(f, file("a", "data"), folder("d"), file("d/b", "more")))
	f.Add(archive(f, file(strings.Repeat("long", 50), "data")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := OpenArchive(b, Limits{Inodes: 100})
		if err != nil {
			return
		}
		todo := []Dir{d}
		for len(todo) > 0 {
			d := todo[0]
			todo = todo[1:]
			list, e := d.ReadDir()
			if e != 0 {
				t.Fatalf("errno %d", e)
			}
			for _, x := range list {
				h, e := d.Open(x.Name, OpenOptions{Read: true})
				if e != 0 {
					t.Fatalf("open %q: errno %d", x.Name, e)
				}
				switch h := h.(type) {
				case Dir:
					todo = append(todo, h)
				case File:
					st, _ := h.Stat()
					if st.Size > uint64(len(b)) {
						t.Errorf("%q has %d bytes, the archive %d", x.Name, st.Size, len(b))
					}
				}
			}
		}
	})
}
