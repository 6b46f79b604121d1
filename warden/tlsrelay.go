//go:build linux

package warden

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// tlsFilter is a TLS connection as a relay's filter. The handshake is made over
// the stream, by a goroutine that may wait; from settle on, crypto/tls reads from
// and writes to buffers: where nothing is there it is told so by a deadline that
// has passed, after which a read of crypto/tls can be made again.
type tlsFilter struct {
	conn  *tls.Conn
	pipe  *tlsPipe
	early []byte // read of conn before the relay began, and the descriptor's
	end   error  // how the incoming direction ended
}

// maxRecord is what one TLS record holds, RFC 8446 section 5.1.
const maxRecord = 16 << 10

// tlsPipe is below the TLS connection: the stream at first, buffers then.
type tlsPipe struct {
	*link.Stream
	settled bool
	bound   *unproved // of the stream's bytes, until it is settled; nil: none
	ended   bool      // the stream has
	in      []byte    // unread, of the caller of In
	out     []byte    // written by crypto/tls, not yet fetched
}

func (p *tlsPipe) Read(b []byte) (int, error) {
	if !p.settled && len(p.in) == 0 {
		return p.read(b)
	}
	if len(p.in) == 0 && p.ended {
		return 0, io.EOF
	}
	if len(p.in) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

// read is of the stream.
func (p *tlsPipe) read(b []byte) (int, error) {
	if p.bound == nil {
		return p.Stream.Read(b)
	}
	most, err := p.bound.room(p.Stream, len(b))
	if err != nil {
		return 0, err
	}
	n, err := p.Stream.Read(b[:most])
	p.bound.took(n)
	return n, err
}

func (p *tlsPipe) Write(b []byte) (int, error) {
	if !p.settled {
		return p.Stream.Write(b)
	}
	p.out = append(p.out, b...)
	return len(b), nil
}

// Close is crypto/tls's on an error; the stream is the relay's to close.
func (p *tlsPipe) Close() error {
	if !p.settled {
		return p.Stream.Close()
	}
	return nil
}

func (p *tlsPipe) SetDeadline(t time.Time) error {
	if p.settled {
		return nil
	}
	return p.Stream.SetDeadline(t)
}

func (p *tlsPipe) SetReadDeadline(t time.Time) error  { return p.SetDeadline(t) }
func (p *tlsPipe) SetWriteDeadline(t time.Time) error { return p.SetDeadline(t) }

var _ net.Conn = (*tlsPipe)(nil)

// firstRecord reads a client's first record, whatever is in it: one that says
// nothing takes up no place among those whose handshake is made.
func firstRecord(st *link.Stream) ([]byte, error) {
	_ = st.SetReadDeadline(time.Now().Add(handshakeTime))
	defer st.SetReadDeadline(time.Time{})
	b := make([]byte, 5, 512) // RFC 8446 section 5.1: type, version, length
	if _, err := io.ReadFull(st, b); err != nil {
		return nil, err
	}
	n := int(b[3])<<8 | int(b[4])
	if b[0] != 22 || n == 0 || n > maxRecord { // 22: handshake
		return b, nil // crypto/tls says what is wrong with it
	}
	b = append(b, make([]byte, n)...)
	_, err := io.ReadFull(st, b[5:])
	return b, err
}

// handshake makes a TLS connection of a stream, as its server or its client.
// early is what was read of the stream before. The caller settles what it gives.
func handshake(st *link.Stream, early []byte, side func(net.Conn, *tls.Config) *tls.Conn, cfg *tls.Config) (*tlsFilter, error) {
	f := &tlsFilter{pipe: &tlsPipe{Stream: st, in: early}}
	f.conn = side(f.pipe, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if err := f.conn.HandshakeContext(ctx); err != nil {
		_ = f.conn.Close()
		return nil, err
	}
	return f, nil
}

// settle gives the stream to the relay: nothing waits any more.
func (f *tlsFilter) settle() { f.pipe.settled = true }

func (f *tlsFilter) In(dst, p []byte) ([]byte, error) {
	if len(f.early) > 0 {
		dst, f.early = append(dst, f.early...), nil
	}
	if f.end != nil {
		if len(p) > 0 && f.end == io.EOF {
			return dst, errors.New("warden: bytes after the end of a TLS connection")
		}
		return dst, f.end
	}
	f.pipe.in = p
	for {
		if cap(dst)-len(dst) < maxRecord {
			dst = append(make([]byte, 0, 2*cap(dst)+maxRecord), dst...)
		}
		n, err := f.conn.Read(dst[len(dst) : len(dst)+maxRecord])
		dst = dst[:len(dst)+n]
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return dst, nil
		default:
			f.end = err
			return dst, err
		}
	}
}

// Ended is crypto/tls's own judgement: a peer may leave between two records
// without a close_notify, as many do, and not within one.
func (f *tlsFilter) Ended() error {
	f.pipe.ended = true
	if f.end == nil {
		_, f.end = f.conn.Read(make([]byte, 1))
	}
	if f.end == io.EOF {
		return nil
	}
	return fmt.Errorf("warden: a TLS connection was cut: %w", f.end)
}

func (f *tlsFilter) Out(dst, p []byte) ([]byte, error) {
	if _, err := f.conn.Write(p); err != nil {
		return dst, err
	}
	return f.Owed(dst), nil
}

func (f *tlsFilter) Owed(dst []byte) []byte {
	dst = append(dst, f.pipe.out...)
	f.pipe.out = f.pipe.out[:0]
	return dst
}

func (f *tlsFilter) End(dst []byte) []byte {
	_ = f.conn.CloseWrite() // writes close_notify to a buffer: it cannot wait
	return f.Owed(dst)
}
