//go:build unix

// Package private reads files of secrets (passphrases, PINs, tokens, keys), and none that
// others can read.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The errors. Those of opening and reading a file are what they are.
var (
	ErrExposed  = errors.New("others may read it")
	ErrKind     = errors.New("it is neither a file nor a pipe")
	ErrTooLarge = errors.New("too large")
)

// credentials names the variable in which systemd tells a service its folder of
// credentials (systemd.exec(5)).
const credentials = "CREDENTIALS_DIRECTORY"

// Read gives what is in a file, or comes out of a pipe, of at most most bytes. Only its
// owner may have rights to it. What systemd gives is taken too: a file straight in
// $CREDENTIALS_DIRECTORY that is root's, with at most 0440, where the group's bits stand for
// the access list by which the service alone reads it.
// It does not wait for a named pipe's writer. The caller clears what it gets.
// Errors: ErrExposed, ErrKind, ErrTooLarge.
func Read(name string, most int) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := st.Mode(); {
	case !mode.IsRegular() && mode.Type() != fs.ModeNamedPipe:
		return nil, fmt.Errorf("%s: %w: found %s", name, ErrKind, mode)
	case mode.Perm()&0o077 != 0 && !fromSystemd(name, st):
		return nil, fmt.Errorf("%s: %w: found the mode %04o, wanted 0600", name, ErrExposed, mode.Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		clear(b)
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(b) > most {
		clear(b)
		return nil, fmt.Errorf("%s: %w: found more than %d bytes", name, ErrTooLarge, most)
	}
	return b, nil
}

func fromSystemd(name string, st fs.FileInfo) bool {
	dir := os.Getenv(credentials)
	if !filepath.IsAbs(dir) || st.Mode().Perm()&^0o440 != 0 || !st.Mode().IsRegular() {
		return false
	}
	abs, err := filepath.Abs(name)
	if err != nil || filepath.Dir(abs) != filepath.Clean(dir) {
		return false
	}
	link, err := os.Lstat(abs)
	if err != nil || !os.SameFile(link, st) { // a link there leads elsewhere
		return false
	}
	own, ok := st.Sys().(*syscall.Stat_t)
	return ok && own.Uid == 0
}
