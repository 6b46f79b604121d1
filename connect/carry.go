//go:build linux

package connect

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// Copying holds a buffer while there is something in it, and none while a side is
// quiet: crypto/tls reads inside the callback that the runtime makes when the socket
// is readable, from a connection that answers os.ErrDeadlineExceeded instead of
// waiting, after which a read of crypto/tls can be made again.

// bufferSize holds several TLS records (16 KiB each, RFC 8446 section 5.1), so that
// they go on in one write.
const bufferSize = 64 << 10

// fullAt is how full a buffer may be with a record still to be read into it.
const fullAt = bufferSize - 16<<10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// rawConner is a file or socket of the operating system.
type rawConner interface {
	SyscallConn() (syscall.RawConn, error)
}

// A source gives what it has in buffers of the pool.
type source struct {
	raw syscall.RawConn
	// read reads into a buffer without waiting; os.ErrDeadlineExceeded: no more for now.
	read func(fd int, b []byte) (int, error)
	// records says that each read gives one TLS record at most: then there are many to
	// a buffer. Another source is read once: a file may wait when it is read again.
	records bool

	buf *[bufferSize]byte
	n   int
	err error
}

// next waits until there is something, and gives it in a buffer of the pool, or says
// how the source ended; it may do both.
func (s *source) next() (*[bufferSize]byte, int, error) {
	s.buf, s.n, s.err = nil, 0, nil
	if err := s.raw.Read(s.ready); err != nil {
		return nil, 0, err
	}
	b := s.buf
	s.buf = nil
	if errors.Is(s.err, os.ErrDeadlineExceeded) {
		s.err = nil
	}
	return b, s.n, s.err
}

// ready reads what there is, up to a buffer. It gives false where there was nothing.
func (s *source) ready(fd uintptr) bool {
	s.buf = buffers.Get().(*[bufferSize]byte)
	for {
		var n int
		n, s.err = s.read(int(fd), s.buf[s.n:])
		s.n += n
		if s.err != nil || !s.records || s.n > fullAt {
			break
		}
	}
	if s.n > 0 {
		return true
	}
	buffers.Put(s.buf)
	s.buf = nil
	if errors.Is(s.err, os.ErrDeadlineExceeded) {
		s.err = nil
		return false
	}
	return true
}

// copyTo moves all that a source has. Both nil: it ended in order.
func (s *source) copyTo(w io.Writer) (readErr, writeErr error) {
	for {
		b, n, err := s.next()
		if n > 0 {
			_, writeErr = w.Write(b[:n])
		}
		if b != nil {
			buffers.Put(b)
		}
		if err == io.EOF {
			return nil, writeErr
		}
		if err != nil || writeErr != nil {
			return err, writeErr
		}
	}
}

// fromKeep is what the Keep sends.
func (c *Conn) fromKeep() *source {
	c.wire.settled = true
	return &source{raw: c.wire.raw, records: true, read: func(fd int, b []byte) (int, error) {
		c.wire.fd = fd
		return c.tls.Read(b)
	}}
}
