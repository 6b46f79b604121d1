package keep

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
)

// blob makes one request; sent may be other than what was announced.
func (g *guest) blob(t *testing.T, q link.BlobRequest, sent []byte) (link.BlobReply, []byte) {
	t.Helper()
	st, err := g.sess.Open(link.ServiceBlobs, link.Marshal(q))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	if q.Op == link.BlobPut {
		_, _ = st.Write(sent)
		_ = st.CloseWrite()
	}
	var r link.BlobReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(io.LimitReader(st, int64(r.Size)))
	return r, b
}

func put(name string, n int) link.BlobRequest {
	return link.BlobRequest{Op: link.BlobPut, Name: name, Size: uint64(n)}
}

func TestBlobs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	g := supervised(t, "", func(o *Options) { o.Blobs = Blobs{Dir: dir, MaxBytes: 10_000} })
	get := func(name string) ([]byte, bool) {
		r, b := g.blob(t, link.BlobRequest{Op: link.BlobGet, Name: name}, nil)
		return b, r.OK
	}
	if _, ok := get("a"); ok {
		t.Error("a blob that was never stored is there")
	}
	want := bytes.Repeat([]byte("x"), 4000)
	if r, _ := g.blob(t, put("a", len(want)), want); !r.OK {
		t.Fatalf("found %+v", r)
	}
	if b, ok := get("a"); !ok || !bytes.Equal(b, want) {
		t.Errorf("found %d bytes, %v", len(b), ok)
	}
	for name, c := range map[string]struct {
		q    link.BlobRequest
		sent []byte
	}{
		"fewer bytes than announced": {put("a", 100), []byte("few")},
		"too large":                  {put("a", 10_001), nil},
		"huge":                       {put("a", 1<<62), nil},
		"above the folder":           {put("../a", 1), []byte("x")},
		"hidden":                     {put(".a", 1), []byte("x")},
		"no name":                    {put("", 1), []byte("x")},
		"a long name":                {put(strings.Repeat("a", 129), 1), []byte("x")},
		"no operation":               {link.BlobRequest{Op: 9, Name: "a"}, nil},
	} {
		if r, _ := g.blob(t, c.q, c.sent); r.OK || r.Error == "" {
			t.Errorf("%s: found %+v", name, r)
		}
	}
	if b, ok := get("a"); !ok || !bytes.Equal(b, want) {
		t.Error("the old blob did not outlive what was refused")
	}
	// The one that was read longest ago goes first.
	old := time.Now().Add(-time.Hour)
	if r, _ := g.blob(t, put("b", 4000), want); !r.OK {
		t.Fatal(r.Error)
	}
	if err := os.Chtimes(filepath.Join(dir, "a"), old, old); err != nil {
		t.Fatal(err)
	}
	if r, _ := g.blob(t, put("c", 4000), want); !r.OK {
		t.Fatal(r.Error)
	}
	if _, ok := get("a"); ok {
		t.Error("the storage is over its bound")
	}
	for _, name := range []string{"b", "c"} {
		if _, ok := get(name); !ok {
			t.Errorf("%s is gone", name)
		}
	}
	if r, _ := g.blob(t, link.BlobRequest{Op: link.BlobDelete, Name: "b"}, nil); !r.OK {
		t.Error(r.Error)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "c" {
		t.Errorf("found %v, %v, wanted c alone", left, err)
	}
}

// A full disk is an answer to the Keep, and leaves nothing.
func TestBlobsOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	g := supervised(t, "", func(o *Options) { o.Blobs = Blobs{Dir: dir} })
	b := make([]byte, 1<<20)
	if r, _ := g.blob(t, put("a", len(b)), b); r.OK || !strings.Contains(r.Error, "no space") {
		t.Errorf("found %+v", r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("found %v, %v", left, err)
	}
	if r, _ := g.blob(t, put("a", 100), b[:100]); !r.OK {
		t.Errorf("a small one does not fit after it: %s", r.Error)
	}
}
