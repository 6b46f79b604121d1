package atls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// DefaultMaxPending is how many clients may be between their first byte and their
// verdict at once.
const DefaultMaxPending = 256

// grace is how long a client may take undisturbed, where others wait for its place.
const grace = 5 * time.Second

// A Listener gives attested connections, *Conn. Handshakes and proofs are made side by
// side, and a client that stalls or fails delays nobody: where MaxPending have begun and
// not ended, a further one waits for a place, and after a grace of 5 s takes that of the
// one that has had it longest.
type Listener struct {
	net.Listener
	Server *Server
	Config *tls.Config // what it shows; see Server.TLS
	// MaxPending bounds the unfinished; 0: DefaultMaxPending.
	MaxPending int
	// Refused, where it is not nil, hears of every client that came to nothing. It is
	// called from many goroutines.
	Refused func(client net.Addr, err error)

	once    sync.Once
	ctx     context.Context // ends with the Listener
	end     context.CancelFunc
	out     chan accepted
	mu      sync.Mutex
	pending []*unfinished // oldest first
	freed   chan struct{} // holds one: a place may be free
}

type accepted struct {
	conn *Conn
	err  error
}

type unfinished struct {
	raw   net.Conn
	since time.Time
	made  bool // attested, and waits for Accept
}

func (l *Listener) start(run bool) {
	l.once.Do(func() {
		l.ctx, l.end = context.WithCancel(context.Background())
		l.out, l.freed = make(chan accepted), make(chan struct{}, 1)
		if run {
			go l.loop()
		}
	})
}

// Accept gives the next client that has admitted this Keep, and was admitted where that
// is demanded. An error is the underlying listener's; net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	l.start(true)
	select {
	case a := <-l.out:
		if a.err != nil {
			return nil, a.err
		}
		return a.conn, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close takes no more clients, and ends those that are not finished. Connections that
// Accept gave go on.
func (l *Listener) Close() error {
	l.start(false)
	l.end()
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range l.pending {
		if !u.made { // else it is Accept's, or ends by itself
			_ = u.raw.Close()
		}
	}
	return err
}

func (l *Listener) loop() {
	config := l.Server.TLS(l.Config)
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			select {
			case l.out <- accepted{err: err}:
			case <-l.ctx.Done():
			}
			if errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil {
				return
			}
			continue
		}
		if u := l.admit(raw); u != nil {
			go l.attest(u, config)
		}
	}
}

// admit waits for a place; nil: the Listener has ended.
func (l *Listener) admit(raw net.Conn) *unfinished {
	u := &unfinished{raw: raw}
	for {
		wait, ok := l.place(u)
		switch {
		case l.ctx.Err() != nil:
			_ = raw.Close()
			l.leave(u)
			return nil
		case ok:
			return u
		}
		l.rest(wait)
	}
}

// place gives u a place where there is one, or where the longest has had its own for
// long enough. Where not, wait says when that will be; negative: nobody can know.
func (l *Listener) place(u *unfinished) (wait time.Duration, ok bool) {
	most := l.MaxPending
	if most <= 0 {
		most = DefaultMaxPending
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) >= most {
		i := slices.IndexFunc(l.pending, func(u *unfinished) bool { return !u.made })
		if i < 0 {
			return -1, false
		}
		if wait := grace - time.Since(l.pending[i].since); wait > 0 {
			return wait, false
		}
		_ = l.pending[i].raw.Close()
		l.pending = slices.Delete(l.pending, i, i+1)
	}
	u.since = time.Now()
	l.pending = append(l.pending, u)
	return 0, true
}

// rest waits until a place may be free, for at most d where that is not negative.
func (l *Listener) rest(d time.Duration) {
	var late <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-l.freed:
	case <-late:
	case <-l.ctx.Done():
	}
}

func (l *Listener) attest(u *unfinished, config *tls.Config) {
	defer l.leave(u)
	conn := tls.Server(&uncut{Conn: u.raw}, config)
	out, err := l.Server.Attest(l.ctx, conn)
	if err == nil {
		err = l.deliver(u, out)
	}
	if err == nil {
		return
	}
	hangUp(l.ctx, conn, u.raw)
	if l.Refused != nil {
		l.Refused(u.raw.RemoteAddr(), err)
	}
}

// deliver waits for Accept.
func (l *Listener) deliver(u *unfinished, conn *Conn) error {
	l.mu.Lock()
	u.made = true
	kept := slices.Contains(l.pending, u)
	l.mu.Unlock()
	if !kept {
		return net.ErrClosed // it lost its place in this very moment
	}
	select {
	case l.out <- accepted{conn: conn}:
		return nil
	case <-l.ctx.Done():
		return net.ErrClosed
	}
}

// leave gives up u's place.
func (l *Listener) leave(u *unfinished) {
	l.mu.Lock()
	if i := slices.Index(l.pending, u); i >= 0 {
		l.pending = slices.Delete(l.pending, i, i+1)
	}
	l.mu.Unlock()
	select {
	case l.freed <- struct{}{}:
	default:
	}
}
