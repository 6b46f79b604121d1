//go:build unix

package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func put(t *testing.T, name string, mode fs.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(name, []byte("words\n"), 0o600), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRead(t *testing.T) {
	t.Setenv(credentials, "")
	dir := t.TempDir()
	for mode, want := range map[fs.FileMode]error{0o600: nil, 0o400: nil, 0o700: nil, 0o640: ErrExposed, 0o440: ErrExposed, 0o604: ErrExposed, 0o644: ErrExposed, 0o620: ErrExposed, 0o601: ErrExposed} {
		b, err := Read(put(t, filepath.Join(dir, "secret"), mode), 6)
		if !errors.Is(err, want) || (err == nil) != (string(b) == "words\n") {
			t.Errorf("%04o: found %q, %v, wanted %v", mode, b, err, want)
		}
	}
	file := put(t, filepath.Join(dir, "secret"), 0o600)
	if _, err := Read(file, 5); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte too many: found %v", err)
	}
	if _, err := Read(dir, 6); !errors.Is(err, ErrKind) {
		t.Errorf("a folder: found %v", err)
	}
	if _, err := Read("/dev/null", 6); !errors.Is(err, ErrKind) {
		t.Errorf("a device: found %v", err)
	}
	if _, err := Read(filepath.Join(dir, "none"), 6); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: found %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(put(t, filepath.Join(dir, "open"), 0o644), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(link, 6); !errors.Is(err, ErrExposed) {
		t.Errorf("a link to one that others read: found %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(fifo, 6); err != nil || len(b) > 0 {
		t.Errorf("a pipe that nobody writes: found %q, %v", b, err)
	}
}

// A pipe as a shell's <(command) gives it.
func TestReadPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() { _, _ = w.WriteString("words"); _ = w.Close() }()
	if b, err := Read(fmt.Sprintf("/dev/fd/%d", r.Fd()), 6); err != nil || string(b) != "words" {
		t.Errorf("found %q, %v", b, err)
	}
}

// What systemd gives a service shows as root's, 0440.
func TestReadCredential(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: cannot make a file that is root's")
	}
	dir, other := t.TempDir(), t.TempDir()
	t.Setenv(credentials, dir+"/")
	at := filepath.Join(dir, "secret")
	for mode, want := range map[fs.FileMode]error{0o440: nil, 0o400: nil, 0o600: nil, 0o640: ErrExposed, 0o444: ErrExposed, 0o460: ErrExposed, 0o450: ErrExposed} {
		if _, err := Read(put(t, at, mode), 6); !errors.Is(err, want) {
			t.Errorf("%04o: found %v, wanted %v", mode, err, want)
		}
	}
	put(t, at, 0o440)
	if err := os.Chown(at, 1, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(at, 6); !errors.Is(err, ErrExposed) {
		t.Errorf("another user's: found %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := put(t, filepath.Join(other, "secret"), 0o440)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for what, name := range map[string]string{"outside": outside, "a link out": filepath.Join(dir, "link"), "a folder within": put(t, filepath.Join(dir, "in", "secret"), 0o440)} {
		if _, err := Read(name, 6); !errors.Is(err, ErrExposed) {
			t.Errorf("%s: found %v", what, err)
		}
	}
	put(t, at, 0o440)
	if err := os.Chown(at, 0, -1); err != nil {
		t.Fatal(err)
	}
	for _, unset := range []string{"", ".", other} {
		t.Setenv(credentials, unset)
		if _, err := Read(at, 6); !errors.Is(err, ErrExposed) {
			t.Errorf("%s=%q: found %v", credentials, unset, err)
		}
	}
}
