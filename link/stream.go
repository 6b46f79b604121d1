//go:build linux

package link

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
)

// A Stream is one bidirectional byte stream of a session. It is a net.Conn:
// Read and Write may be used by one goroutine each at the same time, Close from
// any. The receiving side holds at most its window of bytes.
type Stream struct {
	s       *Session
	id      uint32
	service Service
	params  []byte

	mu   sync.Mutex
	cond *sync.Cond

	buf      []byte // received, unread: buf[off:]
	off      int
	into     []byte // of a reader that waits: bytes go there first
	filled   int    // how many did
	relay    *relay // takes what comes instead of buf
	window   int    // what the other side may have outstanding
	granted  int    // what it may still send of that
	consumed int    // read, and not yet granted again

	credit int // what may be sent

	rfin, wfin bool
	err        error
	wasReset   bool // err is the other side's reset
	forgotten  bool
	rdl, wdl   deadline
}

func newStream(s *Session, id uint32, service Service, params []byte) *Stream {
	st := &Stream{s: s, id: id, service: service, params: params,
		window: InitialWindow, granted: InitialWindow, credit: InitialWindow}
	st.cond = sync.NewCond(&st.mu)
	return st
}

// Service is what the stream was opened for.
func (st *Stream) Service() Service { return st.service }

// Params are the opener's parameters, at most MaxParams-1 bytes, from the other
// side where the other side opened the stream.
func (st *Stream) Params() []byte { return st.params }

// Grow grants the other side a window of n bytes (at most MaxWindow). Use it for
// bulk streams, before reading.
func (st *Stream) Grow(n int) {
	n = min(n, MaxWindow)
	st.mu.Lock()
	more := n - st.window
	if more <= 0 || st.err != nil || st.rfin {
		st.mu.Unlock()
		return
	}
	st.window = n
	st.granted += more
	st.mu.Unlock()
	st.grant(more)
}

func (st *Stream) grant(n int) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(n))
	st.s.post(frameCredit, st.id, b[:])
}

// Read gives io.EOF when the other side ended its direction and all was read.
func (st *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	st.mu.Lock()
	for st.off == len(st.buf) && st.filled == 0 {
		switch {
		case st.rfin && st.wasReset: // its end came first, and all of it is read
			st.mu.Unlock()
			return 0, io.EOF
		case st.err != nil:
			defer st.mu.Unlock()
			return 0, st.err
		case st.rfin:
			st.mu.Unlock()
			return 0, io.EOF
		case st.rdl.passed():
			st.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		st.into = p
		st.cond.Wait()
		st.into = nil
	}
	n := st.filled // these are in p already, and came before what is in buf
	st.filled = 0
	if n < len(p) {
		m := copy(p[n:], st.buf[st.off:])
		st.off += m
		n += m
	}
	if st.off == len(st.buf) {
		st.off = 0
		if cap(st.buf) > 64<<10 && st.window == InitialWindow {
			st.buf = nil // an idle stream holds no large buffer; a bulk stream is not idle
		} else {
			st.buf = st.buf[:0]
		}
	}
	grant := st.credited(n)
	st.mu.Unlock()
	if grant > 0 {
		st.grant(grant)
	}
	return n, nil
}

// takeCredit waits for the window and takes at most most bytes of it, no more than
// a frame holds.
func (st *Stream) takeCredit(most int64) (int, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.credit == 0 && st.err == nil && !st.wfin && !st.wdl.passed() {
		st.cond.Wait()
	}
	switch {
	case st.err != nil:
		return 0, st.err
	case st.wfin:
		return 0, ErrClosed
	case st.wdl.passed():
		return 0, os.ErrDeadlineExceeded
	}
	n := int(min(most, int64(st.credit), MaxPayload))
	st.credit -= n
	return n, nil
}

// Write sends all of p, waiting for the window where it must.
func (st *Stream) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := st.takeCredit(int64(len(p) - done))
		if err != nil {
			return done, err
		}
		if err := st.s.send(frameData, st.id, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// CloseWrite ends this direction: the other side reads io.EOF after the data.
func (st *Stream) CloseWrite() error {
	st.mu.Lock()
	if st.wfin || st.err != nil {
		st.mu.Unlock()
		return nil
	}
	st.wfin = true
	st.cond.Broadcast()
	st.mu.Unlock()
	err := st.s.send(frameFin, st.id, nil)
	st.maybeForget()
	return err
}

// finish is CloseWrite for the loop: it queues, and waits for nothing.
func (st *Stream) finish() {
	st.mu.Lock()
	if st.wfin || st.err != nil {
		st.mu.Unlock()
		return
	}
	st.wfin = true
	st.cond.Broadcast()
	st.mu.Unlock()
	st.s.queue(frameFin, st.id, nil)
	st.maybeForget()
}

// closeNow is Close for the loop.
func (st *Stream) closeNow() {
	st.finish()
	st.mu.Lock()
	over := st.rfin || st.err != nil
	st.mu.Unlock()
	if !over {
		st.reset(CodeCancelled, "", st.s.queue)
	}
}

// Close ends the stream. What was written still arrives; where the other side
// has not ended its direction, it learns that nobody reads it any more.
func (st *Stream) Close() error {
	_ = st.CloseWrite()
	st.mu.Lock()
	over := st.rfin || st.err != nil
	st.mu.Unlock()
	if !over {
		st.Reset(CodeCancelled, "")
	}
	return nil
}

// Reset ends the stream at once in both directions and tells the other side why.
func (st *Stream) Reset(code Code, text string) { st.reset(code, text, st.s.post) }

func (st *Stream) reset(code Code, text string, post func(frameType, uint32, []byte)) {
	st.mu.Lock()
	if st.forgotten || st.err != nil {
		st.mu.Unlock()
		return
	}
	st.err = ErrClosed
	st.forgotten = true
	st.buf, st.off = nil, 0
	st.cond.Broadcast()
	st.mu.Unlock()
	st.s.forget(st.id)
	post(frameReset, st.id, resetPayload(code, text))
}
