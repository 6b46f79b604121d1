package sealing

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxKeyFile bounds a key file; age's header and 32 bytes are about 250.
const maxKeyFile = 4096

// place writes a file whole or not at all, and waits for the disk. Without replace it
// fails with fs.ErrExist where there is one.
func (r *Ring) place(name string, content []byte, replace bool) error {
	return placeIn(r.dir, name, content, replace)
}

func placeIn(folder, name string, content []byte, replace bool) error {
	f, err := os.CreateTemp(folder, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && replace {
		err = os.Rename(f.Name(), filepath.Join(folder, name))
	} else if err == nil {
		err = os.Link(f.Name(), filepath.Join(folder, name))
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(folder); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}

// readPrivate reads a file that only its owner can.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 || st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%w: %s: found %s with %d bytes, wanted a file only its owner can read; chmod 600 %s", ErrKeyFile, path, st.Mode(), st.Size(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return b, nil
}

// files are the keys of a folder by id, and their kinds; of two with one id, the kind
// first.
func files(dir, first string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	out := map[string]string{}
	for _, e := range entries {
		for kind, ext := range extensions {
			id, ok := strings.CutSuffix(e.Name(), ext)
			if _, there := out[id]; ok && validID(id) && (!there || kind == first) {
				out[id] = kind
			}
		}
	}
	return out, nil
}

// Kinds are those of the keys in a folder, in order. Error: ErrKeyFile.
func Kinds(dir string) ([]string, error) {
	all, err := files(dir, "")
	return slices.Compact(slices.Sorted(maps.Values(all))), err
}
