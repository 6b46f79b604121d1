//go:build linux

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkEvidenceFile refuses a place that evidence cannot be written to before
// anything is started.
func checkEvidenceFile(name string) error {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("--evidence: %s is a folder, wanted a file", name)
	case err == nil && !info.Mode().IsRegular():
		err = unix.Access(name, unix.W_OK)
	case err == nil || errors.Is(err, fs.ErrNotExist):
		err = unix.Access(filepath.Dir(name), unix.W_OK)
	}
	if err != nil {
		return fmt.Errorf("--evidence: %s cannot be written: %w", name, err)
	}
	return nil
}

// writeEvidenceFile puts evidence into a file as a whole or not at all: a full
// disk leaves neither half of it nor another file. What is no regular file (a
// pipe, a terminal) is written to as it is.
func writeEvidenceFile(name string, b []byte) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Close())
	}
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // the file is replaced, not the link to it
	}
	beside := filepath.Join(filepath.Dir(name), ".donjon-"+rand.Text())
	f, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(beside, name)
	}
	if err != nil {
		_ = os.Remove(beside)
		var path *fs.PathError // of a name that nobody chose
		if errors.As(err, &path) {
			err = path.Err
		}
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
