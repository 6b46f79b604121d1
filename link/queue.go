//go:build linux

package link

import (
	"errors"
	"fmt"
)

// roomLocked waits, with wmu held, while too much is queued already.
func (s *Session) roomLocked() {
	for len(s.pending) > maxPending && s.flushing && !s.ended() {
		s.wcond.Wait()
	}
}

// send queues one frame of data and waits while too much is queued already.
func (s *Session) send(kind frameType, stream uint32, payload []byte) error {
	s.wmu.Lock()
	s.roomLocked()
	if s.ended() {
		s.wmu.Unlock()
		return s.Err()
	}
	s.pending = appendHeader(s.pending, kind, len(payload), stream)
	s.pending = append(s.pending, payload...)
	s.flushLocked()
	return nil
}

// post queues one frame and never waits for the channel.
func (s *Session) post(kind frameType, stream uint32, payload []byte) {
	s.queue(kind, stream, payload)
	s.flushQueued()
}

// queue is post for the loop, which flushes once a round.
func (s *Session) queue(kind frameType, stream uint32, payload []byte) {
	s.wmu.Lock()
	s.pending = appendHeader(s.pending, kind, len(payload), stream)
	s.pending = append(s.pending, payload...)
	over := len(s.pending) > maxPendingHard
	s.wmu.Unlock()
	if over {
		s.end(protocolErrorf("it makes us answer and reads nothing (%d bytes wait)", maxPendingHard))
	}
}

func (s *Session) flushQueued() {
	s.wmu.Lock()
	s.flushLocked()
}

// queuedMuch says whether so much waits for the channel that no more should be
// read for it; what waits is written first.
func (s *Session) queuedMuch() bool {
	s.wmu.Lock()
	if len(s.pending) <= maxPending {
		s.wmu.Unlock()
		return false
	}
	s.flushLocked()
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return len(s.pending) > maxPending
}

// flushLocked is called with wmu held and gives it up. Whoever finds nobody
// flushing flushes for all: frames queued meanwhile leave in one write. It never
// waits: where the channel takes no more, the loop goes on.
func (s *Session) flushLocked() {
	if !s.flushing {
		s.flushing = true
		s.write()
	}
	s.wmu.Unlock()
}

// resumeFlush is the loop's: the channel takes bytes again.
func (s *Session) resumeFlush() {
	s.wmu.Lock()
	if s.blocked {
		s.blocked = false
		s.write()
		s.loop.woke = true // who waited for room
	}
	s.wmu.Unlock()
}

// write writes all that is queued, or as much as the channel takes. wmu is held
// but for the writing itself.
func (s *Session) write() {
	for !s.ended() {
		if len(s.rest) == 0 {
			if len(s.pending) == 0 {
				break
			}
			s.rest, s.whole, s.pending, s.spare = s.pending, s.pending, s.spare[:0], nil
		}
		out := s.rest
		s.wmu.Unlock()
		n, err := writeNow(s.fd, out)
		s.wmu.Lock()
		if s.rest = out[n:]; len(s.rest) == 0 {
			if cap(s.whole) <= 2*maxPending {
				s.spare = s.whole
			}
			s.whole = nil
		}
		s.wcond.Broadcast()
		if errors.Is(err, errWouldBlock) {
			s.blocked = true
			s.wakeLocked()
			return
		}
		if err != nil {
			s.wmu.Unlock()
			s.end(fmt.Errorf("link: writing: %w", err))
			s.wmu.Lock()
		}
	}
	s.flushing = false
	s.wcond.Broadcast()
}
