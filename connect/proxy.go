//go:build linux

package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest/atls"
)

// Defaults of a Proxy.
const (
	DefaultMaxAge = atls.DefaultMaxAge
	DefaultMost   = 4096
	// defaultAtOnce: a Keep makes one report after the other, and calls itself busy
	// where more than this wait.
	defaultAtOnce = 16
)

// A Proxy carries local connections to a Keep.
type Proxy struct {
	// Dial makes the attested connection for one local connection. Required.
	Dial func(context.Context) (*Conn, error)
	// MaxAge is how long after its attestation a connection is closed; 0: DefaultMaxAge.
	MaxAge time.Duration
	// Most local connections are carried at once, others wait to be accepted; 0:
	// DefaultMost. It is lowered to what the limit of open files allows.
	Most int
	// Failed is told why a local connection was refused, or ended early; nil: nobody.
	// local is its address. It may be called by many goroutines at once.
	Failed func(local net.Addr, err error)
	// Full is told when connections begin to wait because there are Most; nil: nobody.
	Full func(most int)
	// Quiet is called when no connection has begun or ended for a while, each time after
	// some have: verifying leaves memory behind that may be given back. nil: nobody is.
	Quiet func()

	sessions sync.WaitGroup
	quiet    *time.Timer
}

// quietAfter is that while.
const quietAfter = time.Second

// linger is for how long a program may still send when nobody is there any more.
const linger = 2 * time.Second

// stir begins the while anew.
func (p *Proxy) stir() {
	if p.quiet != nil {
		p.quiet.Reset(quietAfter)
	}
}

func (p *Proxy) maxAge() time.Duration {
	if p.MaxAge > 0 {
		return p.MaxAge
	}
	return DefaultMaxAge
}

// most is the bound, for two descriptors a connection and some for the rest.
func (p *Proxy) most() int {
	n := p.Most
	if n <= 0 {
		n = DefaultMost
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil && l.Cur < uint64(2*n+64) {
		n = max(1, (int(l.Cur)-64)/2)
	}
	return n
}

func (p *Proxy) failed(local net.Addr, err error) {
	if p.Failed != nil {
		p.Failed(local, err)
	}
}

// Serve accepts local connections until ctx ends, closes l and all that is carried,
// and gives nil then. Each gets an attested connection of its own.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	closeOnce := sync.OnceFunc(func() { _ = l.Close() })
	defer p.sessions.Wait()
	defer closeOnce()
	defer cancel()
	defer context.AfterFunc(ctx, closeOnce)()
	if p.Quiet != nil {
		p.quiet = time.AfterFunc(quietAfter, p.Quiet)
		defer p.quiet.Stop()
	}
	places := make(chan struct{}, p.most())
	attesting := make(chan struct{}, defaultAtOnce)
	told := false
	for {
		select {
		case places <- struct{}{}:
			told = told && len(places) > cap(places)*9/10
		default:
			if !told && p.Full != nil {
				p.Full(cap(places))
			}
			told = true
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		}
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			<-places
			if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ECONNABORTED) {
				return fmt.Errorf("connect: accepting a local connection: %w", err)
			}
			time.Sleep(50 * time.Millisecond) // others end meanwhile
			continue
		}
		local, ok := conn.(Local)
		if !ok {
			_ = conn.Close()
			return fmt.Errorf("connect: a local connection of the type %T, wanted a socket", conn)
		}
		p.sessions.Add(1)
		go p.attest(ctx, local, attesting, func() {
			<-places
			p.stir()
			p.sessions.Done()
		})
	}
}

// attest makes the attested connection and leaves the rest to two goroutines of their
// own: verifying wants a deep stack, and waiting does not.
func (p *Proxy) attest(ctx context.Context, local Local, attesting chan struct{}, done func()) {
	select {
	case attesting <- struct{}{}:
	case <-ctx.Done():
		abort(local)
		done()
		return
	}
	c, err := p.Dial(ctx)
	<-attesting
	if err != nil {
		abort(local)
		if ctx.Err() == nil {
			p.failed(local.RemoteAddr(), err)
		}
		done()
		return
	}
	raw, err := local.SyscallConn()
	if err != nil {
		_ = c.Close()
		abort(local)
		done()
		return
	}
	p.stir()
	s := &session{conn: c, local: local}
	s.both(ctx, p.maxAge(), raw, func(err error) {
		if err != nil && ctx.Err() == nil {
			p.failed(local.RemoteAddr(), err)
		}
		done()
	})
}

// Local is a local connection: *net.TCPConn or *net.UnixConn.
type Local interface {
	net.Conn
	rawConner
	CloseWrite() error
}

// abort closes a local connection so that its program cannot take what it has got for
// all there is: TCP has a reset for that.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// A session is a local connection and its attested one.
type session struct {
	conn  *Conn
	local Local // nil: stdin and stdout
	left  atomic.Int32
	got   atomic.Bool           // the local side has got all that the Keep sent
	vain  atomic.Bool           // the Keep takes nothing any more
	why   atomic.Pointer[error] // what ended it first, where that was not in order
}

// cut ends a session that has not ended by itself. No side can take what it has got
// for everything, unless it is.
func (s *session) cut(err error) {
	if !s.why.CompareAndSwap(nil, &err) {
		return
	}
	_ = s.conn.wire.Close()
	switch {
	case s.local == nil:
	case s.got.Load():
		_ = s.local.Close()
	default:
		abort(s.local)
	}
}

// up copies to the Keep. copyTo is a source's.
func (s *session) up(copyTo func(io.Writer) (readErr, writeErr error)) {
	readErr, err := copyTo(s.conn.toKeep())
	if readErr == nil && err == nil {
		err = s.conn.tls.CloseWrite()
	}
	switch {
	case readErr == nil && (errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)):
		// It has gone, and what it said before is still there to be read: down does, and
		// knows whether that is all. Meanwhile a program that does not read before it
		// has written must not wait.
		s.vain.Store(true)
		s.hangUp()
		_, _ = copyTo(io.Discard)
	case s.got.Load(): // down has ended, and up with this
	case err != nil:
		s.cut(fmt.Errorf("connect: sending to the Keep: %w", err))
	case readErr != nil:
		s.cut(fmt.Errorf("%w: %w", errGone, readErr))
	}
}

// hangUp ends the local side where there is nothing more to be said in either
// direction. Not at once: with bytes of its own unread a program is told of a reset.
func (s *session) hangUp() {
	if s.local != nil && s.vain.Load() && s.got.Load() {
		_ = s.local.SetReadDeadline(time.Now().Add(linger))
	}
}

// down copies from the Keep.
func (s *session) down(from *source, to io.Writer, end func() error) {
	readErr, err := from.copyTo(to)
	if readErr == nil && err == nil {
		s.got.Store(true)
		err = end()
		s.hangUp()
	}
	switch {
	case readErr != nil:
		s.cut(fmt.Errorf("connect: receiving from the Keep: %w", readErr))
	case err != nil:
		s.cut(fmt.Errorf("%w: %w", errGone, err))
	}
}

// errGone is the end of a session whose local side has gone: as programs do.
var errGone = errors.New("connect: the local side has gone")

// both copies both ways, by two goroutines. The last one calls done with what ended
// the session out of order.
func (s *session) both(ctx context.Context, maxAge time.Duration, raw syscall.RawConn, done func(error)) {
	age := time.AfterFunc(time.Until(s.conn.Since.Add(maxAge)), func() { s.cut(atls.ErrAged) })
	stop := context.AfterFunc(ctx, func() { s.cut(ctx.Err()) })
	from, keep := &source{raw: raw, read: readFD}, s.conn.fromKeep()
	s.conn.forget()
	s.left.Store(2)
	leave := func() {
		if s.left.Add(-1) > 0 {
			return
		}
		age.Stop()
		stop()
		_ = s.conn.Close()
		_ = s.local.Close()
		if why := s.why.Load(); why != nil && !errors.Is(*why, errGone) {
			done(*why)
			return
		}
		done(nil)
	}
	go func() { s.up(from.copyTo); leave() }()
	go func() { s.down(keep, s.local, s.local.CloseWrite); leave() }()
}

// Carry carries in and out over c, until the Keep has ended its part: then there is
// nothing more to come. in's end is passed on. An error says that it was cut. A read of
// in and, where it was cut, a write to out may still wait then.
func (p *Proxy) Carry(ctx context.Context, c *Conn, in io.Reader, out io.WriteCloser) error {
	s := &session{conn: c}
	age := time.NewTimer(time.Until(c.Since.Add(p.maxAge())))
	defer age.Stop()
	keep := c.fromKeep()
	go s.up(copyFrom(in))
	ended := make(chan struct{})
	go func() { s.down(keep, out, out.Close); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		s.cut(ctx.Err())
	case <-age.C:
		s.cut(atls.ErrAged)
	}
	err := c.Close()
	why := s.why.Load()
	switch {
	case ctx.Err() != nil:
		return nil
	case why != nil:
		return *why
	}
	return err
}

// copyFrom is a source's copyTo for what may be a file.
func copyFrom(r io.Reader) func(io.Writer) (readErr, writeErr error) {
	if f, ok := r.(rawConner); ok {
		if raw, err := f.SyscallConn(); err == nil {
			return (&source{raw: raw, read: readFD}).copyTo
		}
	}
	return func(w io.Writer) (error, error) {
		_, err := io.Copy(w, r)
		return nil, err
	}
}
