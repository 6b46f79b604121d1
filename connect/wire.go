//go:build linux

package connect

import (
	"cmp"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// wire is below a TLS connection: a socket that waits during the handshake, and no
// more once it is settled. It gives crypto/tls one record and not a byte of the next:
// what crypto/tls has read of the next makes it take a buffer of more than two records,
// and it keeps what it has taken for as long as the connection lasts.
type wire struct {
	net.Conn
	raw     syscall.RawConn
	settled bool
	fd      int // valid while the socket is being read

	head  [recordHeader]byte // of the record that is being given
	nhead int
	body  int // left of it

	ahead *[bufferSize]byte // read and not given yet; nil: nothing is
	rest  []byte            // of ahead

	out  sync.Mutex // crypto/tls writes on behalf of reads too
	held []byte     // to be written, in a buffer of the pool; nil: what comes is written at once
}

// recordHeader: type, version, length (RFC 8446 section 5.1).
const recordHeader = 5

// Read implements net.Conn. Settled, it is called inside a source's ready alone.
func (w *wire) Read(b []byte) (int, error) {
	most := w.body
	if most == 0 {
		most = recordHeader - w.nhead
	}
	n, err := w.some(b[:min(len(b), most)])
	if w.body > 0 {
		w.body -= n
		return n, err
	}
	copy(w.head[w.nhead:], b[:n])
	if w.nhead += n; w.nhead == recordHeader {
		w.nhead, w.body = 0, int(w.head[3])<<8|int(w.head[4])
	}
	return n, err
}

// some reads without regard to records.
func (w *wire) some(b []byte) (int, error) {
	if !w.settled {
		return w.Conn.Read(b)
	}
	if len(w.rest) == 0 {
		w.ahead = buffers.Get().(*[bufferSize]byte)
		n, err := readFD(w.fd, w.ahead[:])
		if err != nil {
			w.release()
			return 0, err
		}
		w.rest = w.ahead[:n]
	}
	n := copy(b, w.rest)
	if w.rest = w.rest[n:]; len(w.rest) == 0 {
		w.release()
	}
	return n, nil
}

func (w *wire) release() {
	buffers.Put(w.ahead)
	w.ahead, w.rest = nil, nil
}

// A sealed buffer holds the records of a plain one: four, of 22 bytes more each.
const sealedSize = bufferSize + 1<<10

var sealedBuffers = sync.Pool{New: func() any { return new([sealedSize]byte) }}

// Write implements net.Conn.
func (w *wire) Write(b []byte) (int, error) {
	w.out.Lock()
	defer w.out.Unlock()
	if w.held == nil {
		return w.Conn.Write(b)
	}
	if len(w.held)+len(b) > cap(w.held) {
		if err := w.flush(); err != nil {
			return 0, err
		}
		if len(b) > cap(w.held) {
			return w.Conn.Write(b)
		}
	}
	w.held = append(w.held, b...)
	return len(b), nil
}

func (w *wire) flush() error {
	_, err := w.Conn.Write(w.held)
	w.held = w.held[:0]
	return err
}

// toKeep writes to the Keep: all records of one write at once, which crypto/tls gives to
// the socket one by one.
func (c *Conn) toKeep() io.Writer { return together{c} }

type together struct{ c *Conn }

func (t together) Write(b []byte) (int, error) {
	w, sealed := t.c.wire, sealedBuffers.Get().(*[sealedSize]byte)
	defer sealedBuffers.Put(sealed)
	w.out.Lock()
	w.held = sealed[:0]
	w.out.Unlock()
	n, err := t.c.tls.Write(b)
	w.out.Lock()
	defer w.out.Unlock()
	ferr := w.flush()
	w.held = nil
	return n, cmp.Or(err, ferr)
}

// readFD reads what is there: os.ErrDeadlineExceeded where nothing is, io.EOF at the
// end.
func readFD(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == nil && n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, os.ErrDeadlineExceeded
		default:
			return 0, os.NewSyscallError("read", err)
		}
	}
}
