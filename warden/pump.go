//go:build linux

package warden

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
)

const pumpBuffer = link.MaxPayload

var buffers = sync.Pool{New: func() any { b := make([]byte, pumpBuffer); return &b }}

// rawPair makes a stream socket pair: the first end is a bare descriptor for the
// link's loop, the second is handed to the child.
func rawPair() (ours int, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("warden: socket pair: %w", err)
	}
	return fds[0], os.NewFile(uintptr(fds[1]), "guest"), nil
}

// pair is rawPair where the warden's end waits in the runtime's poller.
func pair() (ours, theirs *os.File, err error) {
	fd, theirs, err := rawPair()
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("warden: socket pair: %w", err)
	}
	return os.NewFile(uintptr(fd), "guest"), theirs, nil
}

// control runs do on the descriptor of f.
func control(f *os.File, do func(fd int)) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// errLimit ends a move that would pass its budget.
var errLimit = errors.New("limit reached")

// move copies until EOF. budget, where given, is what may be written in all.
func move(dst io.Writer, src io.Reader, budget *atomic.Int64) (int64, error) {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	buf := *bp
	var total int64
	for {
		n, err := src.Read(buf)
		if n > 0 {
			part := buf[:n]
			over := false
			if budget != nil {
				if left := budget.Add(-int64(n)); left < 0 {
					part, over = part[:max(0, int64(n)+left)], true
				}
			}
			m, werr := dst.Write(part)
			total += int64(m)
			if werr != nil {
				return total, werr
			}
			if over {
				return total, errLimit
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// pass sends one descriptor with one byte: how an accepted connection reaches
// the guest's listener.
func pass(listener, conn *os.File) error {
	c, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	control(conn, func(fd int) {
		oob := unix.UnixRights(fd)
		err = c.Write(func(l uintptr) bool {
			inner = unix.Sendmsg(int(l), []byte{0}, oob, nil, unix.MSG_NOSIGNAL)
			return inner != unix.EAGAIN
		})
	})
	if err == nil {
		err = inner
	}
	return err
}

// OpenLink makes the link of an inherited descriptor. The file waits in the
// runtime's poller, so that closing it ends a read.
func OpenLink(fd int) (io.ReadWriteCloser, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("warden: the link on descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(fd), "link"), nil
}
