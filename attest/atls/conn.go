package atls

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// A Conn is an attested connection. Reads give io.EOF only where the other end has said
// that it ends; ErrCut where it was cut, ErrAged where it was used for too long.
type Conn struct {
	*tls.Conn
	// Verdict is about the other end; nil where it did not prove itself, as a client
	// of a Keep need not.
	Verdict *verdict.Verdict
	// Since is when the other end was judged.
	Since time.Time

	age  *time.Timer // nil: no limit
	aged atomic.Bool
}

// newConn gives a connection whose other end was judged, if v is not nil.
func newConn(conn *tls.Conn, v *verdict.Verdict, limit time.Duration) *Conn {
	c := &Conn{Conn: conn, Verdict: v}
	if v == nil {
		return c
	}
	switch c.Since = v.At; {
	case limit == NoMaxAge: // a timer would hold the connection for as long
		return c
	case limit <= 0:
		limit = DefaultMaxAge
	}
	c.age = time.AfterFunc(limit, func() {
		c.aged.Store(true)
		_ = c.Conn.Close()
	})
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.why(err)
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.why(err)
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.age != nil {
		c.age.Stop()
	}
	return c.Conn.Close()
}

// NetConn is what is below TLS, for who waits until there is something to read: the
// connection that was dialled or accepted.
func (c *Conn) NetConn() net.Conn {
	raw := c.Conn.NetConn()
	if u, ok := raw.(*uncut); ok {
		return u.Conn
	}
	return raw
}

func (c *Conn) why(err error) error {
	if err != nil && c.aged.Load() { // an end that the other end says then may answer this one's
		return ErrAged
	}
	return err
}

// uncut is below TLS. crypto/tls takes the end of the stream between two records for
// the end of the connection, which whoever carries it can bring about: only a
// close_notify is one here (RFC 8446, section 6.1).
//
// While it holds, what is written goes out together, once an answer is waited for: the end
// of the handshake and the message behind it are one segment and wake the other end once.
type uncut struct {
	net.Conn
	hold bool
	held []byte
}

// holdMost bounds what is held, in bytes.
const holdMost = 16 << 10

func (u *uncut) Read(b []byte) (int, error) {
	if err := u.flush(); err != nil {
		return 0, err
	}
	n, err := u.Conn.Read(b)
	if err == io.EOF {
		err = ErrCut
	}
	return n, err
}

func (u *uncut) Write(b []byte) (int, error) {
	if u.hold && len(u.held)+len(b) <= holdMost {
		u.held = append(u.held, b...)
		return len(b), nil
	}
	if err := u.flush(); err != nil {
		return 0, err
	}
	return u.Conn.Write(b)
}

func (u *uncut) flush() error {
	if len(u.held) == 0 {
		return nil
	}
	_, err := u.Conn.Write(u.held)
	u.held = u.held[:0]
	return err
}

// release sends what is held; from now on nothing is.
func (u *uncut) release() error {
	u.hold = false
	err := u.flush()
	u.held = nil
	return err
}
