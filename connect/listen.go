//go:build linux

package connect

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// UnixPrefix is in front of the path of a Unix socket.
const UnixPrefix = "unix:"

const wantedListen = "ADDRESS:PORT or unix:PATH"

// A Place is where local connections are made.
type Place struct {
	// Path of a Unix socket; "": TCP.
	Path string
	// Addr is the TCP address, ADDRESS:PORT.
	Addr string
	// Local says that only this machine reaches it: a Unix socket, a loopback address.
	Local bool
}

// ParsePlace reads ADDRESS:PORT or unix:PATH. The port 0 is any that is free. Errors:
// *AddressError.
func ParsePlace(s string) (Place, error) {
	if path, ok := strings.CutPrefix(s, UnixPrefix); ok {
		if path == "" || strings.ContainsRune(path, 0) {
			return Place{}, &AddressError{s, wantedListen}
		}
		// Absolute: a path that begins with @ would be a name without a mode.
		abs, err := filepath.Abs(path)
		if err != nil {
			return Place{}, err
		}
		if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(abs) > most {
			return Place{}, &AddressError{s, fmt.Sprintf("a path of at most %d bytes", most)}
		}
		return Place{Path: abs, Local: true}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Place{}, &AddressError{s, wantedListen}
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return Place{}, &AddressError{s, "a port from 0 to 65535"}
	}
	ip, err := netip.ParseAddr(host)
	return Place{Addr: s, Local: host == "localhost" || err == nil && ip.Unmap().IsLoopback()}, nil
}

// Listen listens there. A Unix socket is this user's alone (0600); one that nobody
// listens on any more is replaced, and it is removed when the listener is closed.
func (p Place) Listen() (net.Listener, error) {
	if p.Path == "" {
		return net.Listen("tcp", p.Addr)
	}
	unlock := lockFolder(filepath.Dir(p.Path))
	defer unlock()
	if err := removeStale(p.Path); err != nil {
		return nil, err
	}
	// The mode is there from the beginning: nobody connects in between.
	before := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.Path, Net: "unix"})
	unix.Umask(before)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	own, err := os.Lstat(p.Path)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &unixListener{UnixListener: l, path: p.Path, own: own}, nil
}

// A unixListener removes its socket, and no other that took its place.
type unixListener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
}

func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	unlock := lockFolder(filepath.Dir(l.path))
	defer unlock()
	if now, serr := os.Lstat(l.path); serr == nil && os.SameFile(now, l.own) {
		err = errors.Join(err, os.Remove(l.path))
	}
	return err
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there, and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("%s: somebody listens there already", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("whether somebody listens there is not known: %w", err)
	}
	return os.Remove(path)
}

// lockFolder keeps two of us from taking each other's socket for a stale one. Where
// the folder cannot be locked, they are on their own.
func lockFolder(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for range 100 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() { _ = f.Close() }
}
