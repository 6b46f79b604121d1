//go:build linux

package link

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// A relay joins a stream and a descriptor. Only the loop touches it. Credit for
// what came is given back when the descriptor has taken it, so it holds at most a
// window of bytes.
type relay struct {
	s      *Session
	st     *Stream
	fd     int
	filter Filter
	end    func(fd int, orderly bool)
	key    int32
	mask   uint32 // what epoll watches for; 0: it is not there

	toFD    []byte // not yet taken by the descriptor: toFD[off:]
	off     int
	owed    int    // bytes of the stream behind it, whose credit is withheld
	toPeer  []byte // made by the filter, waiting for credit
	inEnd   bool   // the stream, or the filter, has ended: shut down once toFD is empty
	shut    bool   // done so
	outEnd  bool   // the descriptor has ended
	finSent bool
	gone    bool // the descriptor takes no more: what comes for it is dropped
	over    bool
}

// Relay moves bytes both ways between the stream and fd until both directions
// have ended (orderly) or one end is gone, then calls end (may be nil), which must
// not wait, and closes both. It owns fd, a stream socket, from here on; the stream
// must not be used any more. f may be nil.
func (st *Stream) Relay(fd int, f Filter, end func(fd int, orderly bool)) {
	s := st.s
	r := &relay{s: s, st: st, fd: fd, filter: f, end: end}
	s.mu.Lock()
	late := s.err != nil
	if !late {
		s.joining = append(s.joining, r)
		s.unsent.Add(1)
	}
	s.mu.Unlock()
	if late { // the loop is not there any more
		if end != nil {
			end(fd, false)
		}
		_ = unix.Close(fd)
		return
	}
	s.wakeLoop()
}

// Cut ends the relay of a stream, as where one of its ends is gone: nobody takes that
// for the end of what was sent. Where there is none any more it does nothing.
func (st *Stream) Cut() {
	s := st.s
	s.mu.Lock()
	if s.err == nil {
		s.cutting = append(s.cutting, st)
	}
	s.mu.Unlock()
	s.wakeLoop()
}

// Unsent is how many relays have not yet sent all that their descriptor had to say.
func (s *Session) Unsent() int64 { return s.unsent.Load() }

// Undelivered is how many bytes have come for relays' descriptors that do not take
// them yet.
func (s *Session) Undelivered() int64 { return s.waiting.Load() }

// join takes up new relays, and ends those that are cut.
func (s *Session) join() {
	s.mu.Lock()
	news, cuts := s.joining, s.cutting
	s.joining, s.cutting = nil, nil
	s.mu.Unlock()
	for _, r := range news {
		r.begin()
	}
	for _, st := range cuts {
		if st.relay != nil {
			st.relay.fail()
		}
	}
}

func (r *relay) begin() {
	l, st := &r.s.loop, r.st
	if err := unix.SetNonblock(r.fd, true); err != nil {
		r.fail()
		return
	}
	r.key = l.nextKey
	if l.nextKey++; l.nextKey < 0 {
		l.nextKey = keyWake + 1 // two billion connections ago
	}
	l.relays[r.key] = r
	st.mu.Lock()
	st.relay = r
	early := st.buf[st.off:]
	st.buf, st.off = nil, 0
	fin, err, wasReset := st.rfin, st.err, st.wasReset
	st.mu.Unlock()
	if err != nil && !(fin && wasReset) {
		r.fail()
		return
	}
	if r.filter != nil || len(early) > 0 { // a filter may hold bytes of its own from before
		r.push(early)
	}
	if fin {
		r.peerFin()
	}
	if wasReset {
		r.reset()
	}
	r.update()
}

// push takes bytes of the stream.
func (r *relay) push(p []byte) {
	if r.over {
		return
	}
	data := p
	var ferr error
	if r.filter != nil {
		l := &r.s.loop
		l.plain, ferr = r.filter.In(l.plain[:0], p)
		data = l.plain
		r.sendOwed()
	}
	r.owed += len(p)
	if len(r.toFD) == r.off && len(data) > 0 {
		data = data[r.write(data):]
	}
	if !r.gone && !r.shut {
		r.toFD = append(r.toFD, data...)
		r.s.waiting.Add(int64(len(data)))
	}
	switch {
	case ferr == io.EOF:
		r.inEnd = true
	case ferr != nil:
		r.refuse()
		return
	}
	r.settle()
}

// write hands bytes to the descriptor and gives how many it took. Where it takes
// none any more, what the descriptor still has to say is read nevertheless.
func (r *relay) write(p []byte) int {
	if r.gone || r.shut {
		return len(p)
	}
	n, err := writeNow(r.fd, p)
	if err != nil && !errors.Is(err, errWouldBlock) {
		r.gone = true
		return len(p)
	}
	return n
}

// settle does what has become due after bytes went to the descriptor.
func (r *relay) settle() {
	if r.off == len(r.toFD) {
		if cap(r.toFD) > 0 {
			r.toFD, r.off = nil, 0
		}
		if r.owed > 0 {
			n := r.owed
			r.owed = 0
			r.st.consumedBy(n)
		}
		if r.inEnd && !r.shut {
			r.shut = true // for a socket that is gone it fails, and that is all the same
			_ = unix.Shutdown(r.fd, unix.SHUT_WR)
		}
	}
	r.update()
}

// ready handles what epoll says about the descriptor.
func (r *relay) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 && r.off < len(r.toFD) {
		n := r.write(r.toFD[r.off:])
		r.off += n
		r.s.waiting.Add(int64(-n))
		r.settle()
	}
	if r.over || r.outEnd || events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLRDHUP|unix.EPOLLERR) == 0 {
		return
	}
	var err error
	if r.filter == nil {
		err = r.s.forward(r.st, r.fd)
	} else {
		err = r.filterOut()
	}
	switch {
	case err == nil || errors.Is(err, errWouldBlock):
	case err == io.EOF:
		r.outEnd = true
		if events&unix.EPOLLHUP != 0 { // closed, not only ended: nobody reads the other direction
			r.gone = true
		}
		r.lastWords()
	default:
		r.fail()
		return
	}
	r.update()
}

// forward reads the descriptor once, straight into the queue of frames, within
// the stream's credit.
func (s *Session) forward(st *Stream, fd int) error {
	st.mu.Lock()
	credit := min(st.credit, MaxPayload)
	st.mu.Unlock()
	if credit == 0 {
		return errWouldBlock
	}
	if s.queuedMuch() {
		return errWouldBlock // epoll says so again when the channel takes more
	}
	s.wmu.Lock()
	at := len(s.pending)
	if cap(s.pending)-at < headerSize+credit {
		grown := make([]byte, at, max(2*cap(s.pending), at+headerSize+MaxPayload))
		copy(grown, s.pending)
		s.pending = grown
	}
	n, err := readNow(fd, s.pending[at+headerSize:at+headerSize+credit])
	if n > 0 {
		s.pending = appendHeader(s.pending, frameData, n, st.id)[:at+headerSize+n]
	}
	s.wmu.Unlock()
	if n > 0 {
		st.mu.Lock()
		st.credit -= n
		st.mu.Unlock()
	}
	return err
}

func (r *relay) fin() {
	if r.finSent {
		return
	}
	r.sentAll()
	r.st.finish()
}

func (r *relay) sentAll() {
	if !r.finSent {
		r.finSent = true
		r.s.unsent.Add(-1)
	}
}

// credited is called when the stream may send more.
func (r *relay) credited() {
	if !r.over {
		r.drain()
		r.update()
	}
}

// peerFin is called when the stream has ended.
func (r *relay) peerFin() {
	if r.over || r.inEnd {
		return
	}
	if r.filter != nil {
		if err := r.filter.Ended(); err != nil {
			r.refuse()
			return
		}
	}
	r.inEnd = true
	r.settle()
}

// update tells epoll what is of interest now, and ends the relay when nothing is
// left to do.
func (r *relay) update() {
	if r.over {
		return
	}
	if (r.shut || r.gone) && r.finSent {
		r.close(true)
		return
	}
	if len(r.toPeer) > maxOwed+filtered+(filtered>>4) {
		r.fail() // it makes the filter answer and takes nothing
		return
	}
	var mask uint32
	if r.off < len(r.toFD) {
		mask |= unix.EPOLLOUT
	}
	if !r.outEnd && len(r.toPeer) == 0 && r.st.hasCredit() {
		mask |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if mask == r.mask {
		return
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case r.mask == 0:
		op = unix.EPOLL_CTL_ADD
	case mask == 0:
		// Not only masked: a hang-up would be reported again and again.
		op = unix.EPOLL_CTL_DEL
	}
	if err := r.s.loop.watch(op, r.fd, r.key, mask); err != nil {
		r.fail()
		return
	}
	r.mask = mask
}

// reset is called when the other side has given up the stream. If it had ended
// its direction before, what it sent still reaches the descriptor.
func (r *relay) reset() {
	if r.over {
		return
	}
	if !r.inEnd {
		r.fail()
		return
	}
	r.outEnd, r.toPeer = true, nil
	r.sentAll()
	r.settle()
}

// refuse ends a relay whose filter does not take what came: the peer is told in
// the filter's own words, and then that they were the last.
func (r *relay) refuse() {
	r.sendOwed()
	r.fin()
	r.close(false)
}

// fail ends a relay of which one end is gone: the other side must not take that
// for the end of what was sent.
func (r *relay) fail() { r.close(false) }

func (r *relay) close(orderly bool) {
	if r.over {
		return
	}
	r.over = true
	r.s.waiting.Add(int64(r.off - len(r.toFD)))
	r.toFD, r.off, r.toPeer = nil, 0, nil
	delete(r.s.loop.relays, r.key)
	if r.end != nil {
		r.end(r.fd, orderly)
	}
	_ = unix.Close(r.fd) // epoll forgets it
	if orderly {
		r.st.closeNow()
	} else {
		r.st.reset(CodeFailed, "", r.s.queue)
	}
	if !r.finSent {
		r.s.unsent.Add(-1)
	}
}
