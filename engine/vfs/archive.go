package vfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// OpenArchive gives a read-only tree over a tar in memory, as package workload
// makes it: folders and regular files alone, each folder before what is in it,
// no name twice. The files' data is not copied; the bytes must not change.
func OpenArchive(b []byte, l Limits) (Dir, error) {
	if l.Bytes == 0 {
		l.Bytes = math.MaxInt64
	}
	if l.Inodes == 0 {
		l.Inodes = 200_000
	}
	root := newTree(l, 2)
	r := bytes.NewReader(b)
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("vfs: archive: %w", err)
		}
		if err := root.addMember(b, r, h); err != nil {
			return nil, fmt.Errorf("vfs: archive: %q: %w", h.Name, err)
		}
	}
	if err := endsInZeros(b[r.Size()-int64(r.Len()):]); err != nil {
		return nil, err
	}
	root.n.t.readOnly = true
	root.n.t.dev = 2
	return root, nil
}

// endsInZeros refuses what stands behind the archive's end: two readers must not
// see two archives in the same measured bytes.
func endsInZeros(rest []byte) error {
	if len(rest)%512 != 0 {
		return fmt.Errorf("vfs: archive: %d bytes behind the end, wanted blocks of 512", len(rest))
	}
	for _, c := range rest {
		if c != 0 {
			return errors.New("vfs: archive: data behind the end")
		}
	}
	return nil
}

func (d *memDir) addMember(b []byte, r *bytes.Reader, h *tar.Header) error {
	name := strings.TrimSuffix(h.Name, "/")
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || strings.HasPrefix(name, "../") || name == ".." {
		return errors.New("not a clean relative path")
	}
	for k := range h.PAXRecords {
		if k != "path" && k != "size" { // a sparse file's data is not where it seems to be
			return fmt.Errorf("with a PAX record %q, wanted path alone", k)
		}
	}
	if h.Format == tar.FormatGNU {
		return errors.New("in GNU's format, wanted USTAR or PAX")
	}
	kind := TypeRegular
	switch h.Typeflag {
	case tar.TypeDir:
		kind = TypeDirectory
	case tar.TypeReg:
	default:
		return fmt.Errorf("of type %q, wanted a folder or a file", h.Typeflag)
	}
	p, e := d.walk(name, false)
	if e != 0 || p.node != nil {
		return errors.New("its folder is missing, or the name stands twice")
	}
	if kind == TypeDirectory && h.Size != 0 {
		return errors.New("a folder with data")
	}
	n, e := p.add(kind)
	if e != 0 {
		return errors.New("too many members")
	}
	n.atim, n.mtim, n.ctim = 0, 0, 0
	if kind == TypeRegular {
		at := r.Size() - int64(r.Len())
		if h.Size < 0 || h.Size > int64(r.Len()) {
			return errors.New("cut short")
		}
		if h.Size > d.n.t.limits.Bytes-d.n.t.bytes {
			return fmt.Errorf("too much data, at most %d bytes", d.n.t.limits.Bytes)
		}
		n.data = b[at : at+h.Size : at+h.Size]
		d.n.t.bytes += h.Size
	}
	return nil
}
