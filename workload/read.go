package workload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

func readBounded(name string, most int64) ([]byte, error) {
	// Opening a named pipe would wait for its writer, so its kind is looked at first.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("workload: %s is no regular file", name)
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	defer f.Close()
	return readAll(f, name, most)
}

func readAll(f fs.File, name string, most int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("workload: %s is no regular file", name)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("workload: %s has %d bytes, at most %d", name, info.Size(), most)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("workload: %s: %w", name, err)
	}
	return b, nil
}

func readLayer(root *os.Root, p NamedPath, room int) ([]byte, string, error) {
	if info, err := root.Stat(filepath.FromSlash(p.Path)); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, "", fmt.Errorf("workload: %s is neither a file nor a folder", p.Path)
	}
	f, err := root.Open(filepath.FromSlash(p.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", &ConfigError{What: p.Path + ", which it names: not found"}
	}
	if err != nil {
		return nil, "", fmt.Errorf("workload: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("workload: %w", err)
	}
	if info.IsDir() {
		if !p.Data {
			return nil, "", &ConfigError{What: p.Path + " is a folder, wanted a file"}
		}
		sub, err := root.OpenRoot(filepath.FromSlash(p.Path))
		if err != nil {
			return nil, "", fmt.Errorf("workload: %w", err)
		}
		defer sub.Close()
		b, err := Archive(sub.FS(), p.Path, room)
		return b, MediaFolder, err
	}
	b, err := readAll(f, p.Path, int64(room))
	if err != nil {
		return nil, "", err
	}
	return b, MediaFile, noPrivateKey(p.Path, b)
}
