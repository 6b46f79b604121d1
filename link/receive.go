//go:build linux

package link

import (
	"encoding/binary"
	"io"
)

func (st *Stream) deliver(p []byte) error {
	st.mu.Lock()
	var err error
	switch {
	case st.rfin:
		err = protocolErrorf("data on stream %d after its end", st.id)
	case len(p) > st.granted:
		err = protocolErrorf("%d bytes on stream %d, only %d were granted", len(p), st.id, st.granted)
	default:
		st.granted -= len(p)
	}
	r := st.relay
	if err == nil && st.err == nil && r == nil {
		st.store(p)
		st.s.loop.woke = true
	}
	st.mu.Unlock()
	if err == nil && r != nil {
		r.push(p)
	}
	return err
}

// store keeps bytes for the reader. mu is held.
func (st *Stream) store(p []byte) {
	if st.into != nil && st.filled == 0 && st.off == len(st.buf) {
		st.filled = copy(st.into, p)
		p = p[st.filled:]
	}
	if st.off > 0 && (st.off == len(st.buf) || len(st.buf)+len(p) > cap(st.buf)) {
		n := copy(st.buf, st.buf[st.off:])
		st.buf, st.off = st.buf[:n], 0
	}
	st.buf = append(st.buf, p...)
	st.cond.Broadcast()
}

func (st *Stream) addCredit(n uint32) error {
	st.mu.Lock()
	if n == 0 || int64(st.credit)+int64(n) > MaxWindow {
		defer st.mu.Unlock()
		return protocolErrorf("credit of %d on stream %d that has %d, at most %d together", n, st.id, st.credit, MaxWindow)
	}
	st.credit += int(n)
	st.cond.Broadcast()
	r := st.relay
	st.mu.Unlock()
	if r != nil {
		r.credited()
	} else {
		st.s.loop.woke = true
	}
	return nil
}

func (st *Stream) hasCredit() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.credit > 0
}

// consumedBy is what a relay says when its descriptor has taken n bytes.
func (st *Stream) consumedBy(n int) {
	st.mu.Lock()
	grant := st.credited(n)
	st.mu.Unlock()
	if grant > 0 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(grant))
		st.s.queue(frameCredit, st.id, b[:])
	}
}

func (st *Stream) peerFin() error {
	st.mu.Lock()
	if st.rfin {
		st.mu.Unlock()
		return protocolErrorf("stream %d ended twice", st.id)
	}
	st.rfin = true
	st.cond.Broadcast()
	r := st.relay
	st.mu.Unlock()
	st.maybeForget()
	if r != nil {
		r.peerFin()
	} else {
		st.s.loop.woke = true
	}
	return nil
}

func (st *Stream) peerReset(err error) {
	st.mu.Lock()
	if st.err == nil {
		st.err, st.wasReset = err, true
	}
	st.forgotten = true
	st.cond.Broadcast()
	r := st.relay
	st.mu.Unlock()
	st.s.forget(st.id)
	if r != nil {
		r.reset()
	} else {
		st.s.loop.woke = true
	}
}

func (st *Stream) sessionEnded(err error) {
	st.mu.Lock()
	if st.err == nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		st.err = err
	}
	st.cond.Broadcast()
	st.mu.Unlock()
}

// maybeForget drops a stream that has ended in both directions.
func (st *Stream) maybeForget() {
	st.mu.Lock()
	drop := st.rfin && st.wfin && !st.forgotten
	if drop {
		st.forgotten = true
	}
	st.mu.Unlock()
	if drop {
		st.s.forget(st.id)
	}
}

// credited notes that n bytes were consumed and gives what is to be granted
// again. Small amounts are gathered: one credit frame for half a window.
func (st *Stream) credited(n int) int {
	st.consumed += n
	if st.consumed < st.window/2 || st.rfin || st.err != nil {
		return 0
	}
	g := st.consumed
	st.consumed = 0
	st.granted += g
	return g
}
