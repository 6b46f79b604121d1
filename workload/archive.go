package workload

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"sort"
)

const maxEntries = 100_000

// Archive packs a folder into one layer: an uncompressed tar, entries sorted by
// path, folders and regular files alone, no times, owners or modes but 0555 and
// 0444, so that the same files give the same bytes everywhere. Links and devices
// are refused, as is a private key.
func Archive(fsys fs.FS, name string, room int) ([]byte, error) {
	var paths []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == "." {
			return nil
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return fmt.Errorf("%s/%s is neither a file nor a folder; links are not followed", name, p)
		}
		if paths = append(paths, p); len(paths) > maxEntries {
			return fmt.Errorf("%s has more than %d entries", name, maxEntries)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	sort.Strings(paths)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, p := range paths {
		f, err := fsys.Open(p)
		if err != nil {
			return nil, fmt.Errorf("workload: %w", err)
		}
		err = archiveOne(tw, f, p, path.Join(name, p), room-buf.Len())
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	return buf.Bytes(), nil
}

func archiveOne(tw *tar.Writer, f fs.File, p, shown string, room int) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("workload: %w", err)
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: p, Mode: 0o444, Format: tar.FormatPAX}
	var b []byte
	if info.IsDir() {
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, p+"/", 0o555
	} else {
		if b, err = readAll(f, shown, int64(max(0, room))); err != nil {
			return err
		}
		if err := noPrivateKey(shown, b); err != nil {
			return err
		}
		h.Size = int64(len(b))
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("workload: %s: %w", shown, err)
	}
	_, err = tw.Write(b)
	return err
}
