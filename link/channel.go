//go:build linux

package link

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptor gives a non-blocking kernel descriptor of a channel, which the
// caller owns; the channel itself is closed: as long as the runtime's poller knew
// it, each byte would wake a thread that has no use for it. A channel without a
// descriptor (in tests, or one that somebody listens in on) is bridged to a socket
// pair.
func descriptor(rw io.ReadWriteCloser) (int, error) {
	if c, ok := rw.(interface {
		syscall.Conn
		io.Closer
	}); ok {
		return Take(c)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("link: socket pair: %w", err)
	}
	far := os.NewFile(uintptr(fds[1]), "bridge")
	go func() {
		_, _ = io.Copy(far, rw)
		shutdown(far)
	}()
	go func() {
		_, _ = io.Copy(rw, far)
		_ = rw.Close()
		_ = far.Close()
	}()
	return fds[0], nil
}

func shutdown(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}

// Take makes a connection's descriptor the caller's own and closes the
// connection: what Relay wants.
func Take(c interface {
	syscall.Conn
	io.Closer
}) (int, error) {
	fd, err := duplicate(c)
	if err == nil {
		_ = c.Close() // what it led to stays open by fd
	}
	return fd, err
}

func duplicate(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("link: descriptor: %w", err)
	}
	fd := -1
	var inner error
	if err = raw.Control(func(u uintptr) {
		if fd, inner = unix.FcntlInt(u, unix.F_DUPFD_CLOEXEC, 3); inner == nil {
			inner = unix.SetNonblock(fd, true)
		}
	}); err == nil {
		err = inner
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return -1, fmt.Errorf("link: descriptor: %w", err)
	}
	return fd, nil
}

// errWouldBlock is a descriptor that has nothing, or takes nothing, right now.
var errWouldBlock = errors.New("link: would block")

// readNow reads what is there. io.EOF is the end.
func readNow(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, errWouldBlock
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// writeNow writes what is taken. n may be less than len(p) with errWouldBlock.
func writeNow(fd int, p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(fd, p[done:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return done, errWouldBlock
		case err != nil:
			return done, err
		default:
			done += n
		}
	}
	return done, nil
}
