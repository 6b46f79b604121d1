package fetch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/donjon-tee/donjon/attest/collateral"
)

// Store keeps answers. Keys are Request.Key's. What it gives back is looked at as
// closely as an answer from the network.
type Store interface {
	// Load gives what is kept; an error that wraps fs.ErrNotExist: nothing.
	Load(key string) ([]byte, error)
	Save(key string, b []byte) error
}

// Dir is a Store in a folder: one file a key, for its owner's eyes, written whole or
// not at all. The folder is made when something is kept.
type Dir string

// maxEntries bounds a folder, so that chip ids made up do not fill the disk.
const maxEntries = 4096

const entrySuffix = ".json"

func (d Dir) path(key string) (string, error) {
	if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
		return "", fmt.Errorf("fetch: found cache key %.70q, wanted a SHA-256 in hexadecimal", key)
	}
	return filepath.Join(string(d), key+entrySuffix), nil
}

// Load implements Store.
func (d Dir) Load(key string) ([]byte, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fetch: reading the cache: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("fetch: reading the cache: %s is no file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, collateral.MaxFile+1))
	if err == nil && len(b) > collateral.MaxFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("fetch: reading the cache: %s: %w", path, err)
	}
	return b, nil
}

// Save implements Store.
func (d Dir) Save(key string, b []byte) (err error) {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("fetch: writing the cache: %w", err)
		}
	}()
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if keys, err := d.Keys(); err != nil || len(keys) >= maxEntries {
			return errors.Join(err, fmt.Errorf("%s is full: it holds %d entries", string(d), len(keys)))
		}
	}
	f, err := os.CreateTemp(string(d), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone by then if all went well
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Keys lists what is kept, sorted.
func (d Dir) Keys() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch: reading the cache: %w", err)
	}
	var out []string
	for _, e := range entries {
		key := strings.TrimSuffix(e.Name(), entrySuffix)
		if _, err := d.path(key); err == nil && key != e.Name() {
			out = append(out, key)
		}
	}
	return out, nil
}
