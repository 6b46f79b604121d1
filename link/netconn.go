//go:build linux

package link

import (
	"net"
	"time"
)

// A deadline wakes the waiters of its stream when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (st *Stream) setDeadline(d *deadline, t time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			st.mu.Lock()
			st.cond.Broadcast()
			st.mu.Unlock()
		})
	}
	st.cond.Broadcast()
}

// SetReadDeadline is as in net.Conn.
func (st *Stream) SetReadDeadline(t time.Time) error { st.setDeadline(&st.rdl, t); return nil }

// SetWriteDeadline is as in net.Conn.
func (st *Stream) SetWriteDeadline(t time.Time) error { st.setDeadline(&st.wdl, t); return nil }

// SetDeadline is as in net.Conn.
func (st *Stream) SetDeadline(t time.Time) error {
	st.setDeadline(&st.rdl, t)
	st.setDeadline(&st.wdl, t)
	return nil
}

// Ended says whether nothing more comes: the other side has ended its direction, or the
// stream is over. What came before may be unread.
func (st *Stream) Ended() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.rfin || st.err != nil
}

// LocalAddr makes a Stream a net.Conn; a stream has no address.
func (st *Stream) LocalAddr() net.Addr { return addr{} }

// RemoteAddr is as LocalAddr.
func (st *Stream) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "link" }

func (addr) String() string { return "link" }
