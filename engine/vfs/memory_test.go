package vfs

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, d Dir, path string, n int) (File, Errno) {
	t.Helper()
	h, e := d.Open(path, OpenOptions{Create: true, Read: true, Write: true})
	if e != 0 {
		return nil, e
	}
	f := h.(File)
	if _, e := f.WriteAt(make([]byte, n), 0); e != 0 {
		f.Close()
		return nil, e
	}
	return f, 0
}

// Room that a guest can reach through a handle is counted, whatever name the file
// still has; it comes back when the last handle and the last name are gone.
func TestRoomIsCountedOnce(t *testing.T) {
	d := NewMemory(Limits{Bytes: 1000, Inodes: 4})
	f, e := write(t, d, "a", 1000)
	if e != 0 {
		t.Fatalf("write: errno %d", e)
	}
	if e := d.Unlink("a"); e != 0 {
		t.Fatalf("unlink: errno %d", e)
	}
	if _, e := write(t, d, "b", 1); e != ErrnoNospc {
		t.Errorf("the room of an unlinked, open file was given twice: errno %d", e)
	}
	if e := f.Truncate(0); e != 0 {
		t.Errorf("truncate: errno %d", e)
	}
	g, e := write(t, d, "b", 1000)
	if e != 0 {
		t.Errorf("after the cut: errno %d", e)
	}
	if _, e := f.WriteAt([]byte{1}, 0); e != ErrnoNospc {
		t.Errorf("a full tree took a byte: errno %d", e)
	}
	f.Close()
	if e := f.Close(); e != ErrnoBadf {
		t.Errorf("a second close: errno %d", e)
	}
	g.Close()
	d.Unlink("b")
	if f, e = write(t, d, "c", 1000); e != 0 {
		t.Errorf("room that was given back: errno %d", e)
	}
	for _, at := range []int64{1001, math.MaxInt64, math.MaxInt64 - 1} {
		if _, e := f.WriteAt(make([]byte, 2), at); e != ErrnoFbig {
			t.Errorf("a write at %d: errno %d", at, e)
		}
		if e := f.Allocate(at, at); e != ErrnoFbig {
			t.Errorf("an allocation at %d: errno %d", at, e)
		}
		if e := f.Truncate(at); e != ErrnoNospc {
			t.Errorf("truncate to %d: errno %d", at, e)
		}
	}
}

func TestUnlimitedBytesDoNotOverflow(t *testing.T) {
	f, e := write(t, NewMemory(Limits{Bytes: math.MaxInt64}), "a", 10)
	if e != 0 {
		t.Fatalf("errno %d", e)
	}
	if _, e := f.WriteAt(make([]byte, 2), math.MaxInt64); e != ErrnoNospc {
		t.Errorf("errno %d", e)
	}
}

// A file cut short does not keep its memory: kept room is not counted, so many
// such files would be more than the limit.
func TestCutFilesLetGo(t *testing.T) {
	d := NewMemory(Limits{Bytes: 1 << 20})
	for i := range 8 {
		f, e := write(t, d, fmt.Sprint(i), 1<<20)
		if e != 0 {
			t.Fatalf("file %d: errno %d", i, e)
		}
		if e := f.Truncate(1); e != 0 {
			t.Fatalf("truncate: errno %d", e)
		}
		if room := cap(f.(*memFile).n.data); room > 8192 {
			t.Fatalf("a file of 1 byte holds %d", room)
		}
		f.Truncate(0)
	}
}

func TestNamesAreCounted(t *testing.T) {
	d := NewMemory(Limits{Inodes: 4, Bytes: 100})
	if _, e := write(t, d, "a", 1); e != 0 {
		t.Fatalf("errno %d", e)
	}
	if e := d.Symlink(strings.Repeat("x", 100), "s"); e != ErrnoNospc {
		t.Errorf("a link's target is not counted: errno %d", e)
	}
	for i := range 2 {
		if e := d.Link("a", false, d, fmt.Sprint(i)); e != 0 {
			t.Fatalf("link %d: errno %d", i, e)
		}
	}
	if e := d.Link("a", false, d, "more"); e != ErrnoNospc {
		t.Errorf("a name too many: errno %d", e)
	}
	for _, p := range []string{"0", "1"} {
		if e := d.Unlink(p); e != 0 {
			t.Fatalf("unlink: errno %d", e)
		}
	}
	if e := d.Mkdir("again"); e != 0 {
		t.Errorf("names that were given back: errno %d", e)
	}
}

func TestClock(t *testing.T) {
	now := time.Unix(1_700_000_000, 123_456_789)
	d := NewMemory(Limits{Now: func() time.Time { return now }})
	if _, e := write(t, d, "a", 1); e != 0 {
		t.Fatalf("errno %d", e)
	}
	if st, _ := d.StatAt("a", false); st.Mtim != now.UnixNano() || st.Atim != now.UnixNano() || st.Ctim != now.UnixNano() {
		t.Errorf("%+v, wanted %d", st, now.UnixNano())
	}
	now = now.Add(time.Nanosecond)
	d.Unlink("a")
	if st, _ := d.Stat(); st.Mtim != now.UnixNano() {
		t.Errorf("the folder: %+v, wanted %d", st, now.UnixNano())
	}
}

// Depth costs neither stack nor more than the path's bound; forty links are
// followed, one more is a loop.
func TestDepthAndLinks(t *testing.T) {
	d := NewMemory(Limits{})
	deep := Dir(d)
	for range 2000 {
		if e := deep.Mkdir("d"); e != 0 {
			t.Fatalf("mkdir: errno %d", e)
		}
		h, e := deep.Open("d", OpenOptions{Directory: true})
		if e != 0 {
			t.Fatalf("open: errno %d", e)
		}
		deep = h.(Dir)
	}
	if e := d.Rename("d", deep, "x"); e != ErrnoInval {
		t.Errorf("a folder into itself, far below: errno %d", e)
	}
	if _, e := d.StatAt(strings.Repeat("d/", maxParts+1), true); e != ErrnoNametoolong {
		t.Errorf("%d components: errno %d", maxParts+1, e)
	}
	if e := d.Mkdir("l0"); e != 0 {
		t.Fatalf("errno %d", e)
	}
	for i := range maxLinks + 1 {
		d.Symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1))
	}
	if _, e := d.StatAt(fmt.Sprintf("l%d", maxLinks), true); e != 0 {
		t.Errorf("%d links: errno %d", maxLinks, e)
	}
	if _, e := d.StatAt(fmt.Sprintf("l%d", maxLinks+1), true); e != ErrnoLoop {
		t.Errorf("%d links: errno %d", maxLinks+1, e)
	}
}
