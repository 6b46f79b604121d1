//go:build linux

package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrClosed is what streams and sessions give after Close.
var ErrClosed = errors.New("link: closed")

const (
	// maxPending is how many bytes of data frames wait for the channel before a
	// writer waits too.
	maxPending = 256 << 10
	// maxPendingHard ends the session: the other side makes us answer (resets,
	// credits) and reads nothing.
	maxPendingHard = 2 << 20
	// acceptBacklog is how many streams opened by the other side may wait for
	// Accept; more are reset as busy.
	acceptBacklog = MaxStreams
)

// A Session multiplexes streams over one channel. Its methods may be used from
// many goroutines.
type Session struct {
	rw    io.ReadWriteCloser
	guest bool

	mu      sync.Mutex
	streams map[uint32]*Stream
	nextID  uint32 // id of the next stream opened here
	peerID  uint32 // id that the next stream opened by the other side must have
	err     error
	done    chan struct{}
	accept  chan *Stream

	fd      int // the channel's descriptor, non-blocking
	loop    loop
	joining []*relay  // for the loop to take up; under mu
	cutting []*Stream // whose relays the loop ends; under mu
	unsent  atomic.Int64
	waiting atomic.Int64

	wmu      sync.Mutex
	wcond    *sync.Cond
	pending  []byte // frames that nobody writes yet
	rest     []byte // what is being written
	whole    []byte // the buffer that rest is the end of
	spare    []byte
	flushing bool // somebody writes, or the loop will once the channel takes more
	blocked  bool // the channel took no more
	filing   bool // a file's frame is being written
	released bool // the descriptors are closed
}

// Guest greets the host as the guest and starts the session.
func Guest(rw io.ReadWriteCloser) (*Session, error) {
	if err := greetHost(rw); err != nil {
		return nil, err
	}
	return newSession(rw, true)
}

// Host waits for the guest's hello and starts the session.
func Host(rw io.ReadWriteCloser) (*Session, error) {
	if err := greetGuest(rw); err != nil {
		return nil, err
	}
	return newSession(rw, false)
}

func newSession(rw io.ReadWriteCloser, guest bool) (*Session, error) {
	s := &Session{
		rw: rw, guest: guest,
		streams: make(map[uint32]*Stream),
		nextID:  2, peerID: 1,
		done:   make(chan struct{}),
		accept: make(chan *Stream, acceptBacklog),
	}
	if guest {
		s.nextID, s.peerID = 1, 2
	}
	s.wcond = sync.NewCond(&s.wmu)
	var err error
	if s.fd, err = descriptor(rw); err != nil {
		return nil, err
	}
	if s.loop, err = newLoop(s.fd); err != nil {
		_ = unix.Close(s.fd)
		return nil, err
	}
	go s.run()
	return s, nil
}

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives, io.EOF when the other side closed the
// channel, ErrClosed after Close, else what went wrong.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session and every stream of it.
func (s *Session) Close() error {
	s.end(ErrClosed)
	return nil
}

func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	streams := s.streams
	s.streams = map[uint32]*Stream{}
	close(s.done)
	s.mu.Unlock()
	for _, st := range streams {
		st.sessionEnded(err)
	}
	s.wmu.Lock()
	s.wcond.Broadcast()
	s.wakeLocked()
	s.wmu.Unlock()
	_ = s.rw.Close()
}

// Open opens a stream for a service with its parameters (at most MaxParams-1
// bytes). It waits where too much is queued for the channel already, and not for
// the other side's word: what it thinks of the stream shows when it is used.
func (s *Session) Open(service Service, params []byte) (*Stream, error) {
	if len(params) > MaxParams-1 {
		return nil, fmt.Errorf("link: parameters of %d bytes, at most %d", len(params), MaxParams-1)
	}
	// The write lock is held over the choice of the id, so that ids appear on the
	// wire in order.
	s.wmu.Lock()
	s.roomLocked()
	s.mu.Lock()
	if s.err != nil {
		err := s.err
		s.mu.Unlock()
		s.wmu.Unlock()
		return nil, err
	}
	if len(s.streams) >= MaxStreams {
		s.mu.Unlock()
		s.wmu.Unlock()
		return nil, fmt.Errorf("link: %d streams are open, no more are allowed", MaxStreams)
	}
	id := s.nextID
	s.nextID += 2
	st := newStream(s, id, service, nil)
	s.streams[id] = st
	s.mu.Unlock()
	s.pending = appendHeader(s.pending, frameOpen, 1+len(params), id)
	s.pending = append(s.pending, byte(service))
	s.pending = append(s.pending, params...)
	s.flushLocked()
	return st, nil
}

// Accept gives the next stream that the other side opened.
func (s *Session) Accept() (*Stream, error) {
	select {
	case st := <-s.accept:
		return st, nil
	case <-s.done:
		return nil, s.Err()
	}
}

func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// handle takes one frame. The loop calls it: nothing in it may wait.
func (s *Session) handle(h header, payload []byte) error {
	if h.kind == frameOpen {
		return s.handleOpen(h.stream, Service(payload[0]), payload[1:])
	}
	s.mu.Lock()
	st := s.streams[h.stream]
	known := s.wasOpened(h.stream)
	s.mu.Unlock()
	if st == nil {
		if !known {
			return protocolErrorf("frame type %d for stream %d, which was never opened", h.kind, h.stream)
		}
		return nil // ended here a moment ago; the other side could not know yet
	}
	switch h.kind {
	case frameData:
		return st.deliver(payload)
	case frameCredit:
		return st.addCredit(binary.BigEndian.Uint32(payload))
	case frameFin:
		return st.peerFin()
	case frameReset:
		st.peerReset(&ResetError{Code: Code(payload[0]), Text: string(payload[1:])})
	}
	return nil
}

// wasOpened says whether a stream of this id has ever been opened. mu is held.
func (s *Session) wasOpened(id uint32) bool {
	if id%2 == s.nextID%2 {
		return id < s.nextID
	}
	return id < s.peerID
}

func (s *Session) handleOpen(id uint32, service Service, params []byte) error {
	s.mu.Lock()
	if id != s.peerID {
		want := s.peerID
		s.mu.Unlock()
		return protocolErrorf("stream %d opened, wanted id %d", id, want)
	}
	s.peerID += 2
	if s.peerID < id { // 2^31 streams: start a new session
		s.mu.Unlock()
		return protocolErrorf("stream ids are used up")
	}
	if s.err != nil {
		s.mu.Unlock()
		return nil
	}
	if len(s.streams) >= MaxStreams {
		s.mu.Unlock()
		s.post(frameReset, id, resetPayload(CodeBusy, "too many streams are open"))
		return nil
	}
	st := newStream(s, id, service, append([]byte(nil), params...))
	s.streams[id] = st
	s.mu.Unlock()
	select {
	case s.accept <- st:
		s.loop.woke = true
	default:
		st.Reset(CodeBusy, "too many streams wait to be accepted")
	}
	return nil
}

func (s *Session) forget(id uint32) {
	s.mu.Lock()
	delete(s.streams, id)
	s.mu.Unlock()
}
