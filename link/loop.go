//go:build linux

package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// One loop reads the channel of a session and serves all relays: it waits in
// epoll, hands each frame on without another goroutine, and sends what a round
// has gathered in one write. Why not a goroutine for each connection and
// direction: docs/decisions/0007-relays.md.
//
// The loop never waits for anything else. It holds no lock over a call that could
// block, and what it sends it queues.
type loop struct {
	epoll, wake int
	relays      map[int32]*relay
	nextKey     int32
	in          []byte // read from the channel: in[:have]
	have        int
	scratch     []byte // what a relay reads before a filter
	plain       []byte // what a filter gives
	woke        bool   // somebody beside the loop has something to do
	alone       bool   // with one processor nobody runs while the loop waits
}

const (
	keyChannel = 0
	keyWake    = 1
	// readBuffer holds a largest frame at least, so that a frame is always whole
	// in it before it is handled.
	readBuffer = 2 * (MaxPayload + headerSize)
	// filtered is how much is read of a descriptor at once before a filter.
	filtered = 32 << 10
)

func newLoop(channel int) (loop, error) {
	l := loop{relays: map[int32]*relay{}, nextKey: keyWake + 1, in: make([]byte, readBuffer), alone: runtime.GOMAXPROCS(0) == 1}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return l, fmt.Errorf("link: epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		if err = l.watch(unix.EPOLL_CTL_ADD, channel, keyChannel, unix.EPOLLIN); err == nil {
			err = l.watch(unix.EPOLL_CTL_ADD, l.wake, keyWake, unix.EPOLLIN)
		}
		if err != nil {
			_ = unix.Close(l.wake)
		}
	}
	if err != nil {
		_ = unix.Close(l.epoll)
		return l, fmt.Errorf("link: epoll: %w", err)
	}
	return l, nil
}

func (l *loop) watch(op, fd int, key int32, mask uint32) error {
	return unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: mask, Fd: key})
}

// shortWait is how many milliseconds the loop waits as if it were computing.
const shortWait = 1

// epollWait is epoll_pwait on every processor: one call for the sandbox to know.
//
// At first it waits without telling the runtime: while bytes flow, the hand-over
// of a processor before each wait and its return after it costs several switches
// of threads a message. A wait that takes longer is an ordinary one, so that an
// idle link costs nothing and nobody is kept from the processor.
func epollWait(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), shortWait, 0, 0)
	if n == 0 && errno == 0 {
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), ^uintptr(0), 0, 0)
	}
	runtime.KeepAlive(events)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// run is the loop's goroutine.
func (s *Session) run() {
	defer s.release()
	var events [64]unix.EpollEvent
	for !s.ended() {
		if s.congested() {
			s.waitForChannel()
			continue
		}
		// Whoever else is ready on this processor goes first: by then more has come,
		// and is served in one round. With many connections it halves the cost of each.
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		n, err := epollWait(s.loop.epoll, events[:])
		if err != nil && err != unix.EINTR {
			s.end(fmt.Errorf("link: waiting: %w", err))
			return
		}
		for _, e := range events[:max(n, 0)] {
			switch e.Fd {
			case keyChannel:
				s.readChannel()
			case keyWake:
				s.drainWake()
			default:
				if r := s.loop.relays[e.Fd]; r != nil {
					r.ready(e.Events)
				}
			}
		}
		s.join()
		s.flushQueued()
		if s.loop.woke || s.loop.alone {
			s.loop.woke = false
			runtime.Gosched() // whom this round has woken runs before the next wait
		}
	}
}

// congested says whether the channel takes no more. Then relays are not read:
// what they have waits where it is.
func (s *Session) congested() bool {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.blocked || s.filing && len(s.pending) > maxPending
}

// waitForChannel waits until the channel takes bytes again, and meanwhile reads
// it: the other side may be waiting for just that.
func (s *Session) waitForChannel() {
	p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.loop.wake), Events: unix.POLLIN}}
	s.wmu.Lock()
	if s.blocked { // else a file's frame is being written, and its end wakes the loop
		p[0].Events |= unix.POLLOUT
	}
	s.wmu.Unlock()
	if _, err := unix.Ppoll(p, nil, nil); err != nil {
		if err != unix.EINTR {
			s.end(fmt.Errorf("link: waiting: %w", err))
		}
		return
	}
	if p[1].Revents != 0 {
		s.drainWake()
	}
	if p[0].Revents&^unix.POLLOUT != 0 {
		s.readChannel()
	}
	if p[0].Revents&unix.POLLOUT != 0 {
		s.resumeFlush()
	}
}

func (s *Session) drainWake() {
	var b [8]byte
	_, _ = unix.Read(s.loop.wake, b[:])
}

// wakeLoop makes the loop look at what is new.
func (s *Session) wakeLoop() {
	s.wmu.Lock()
	s.wakeLocked()
	s.wmu.Unlock()
}

// wakeLocked is wakeLoop with wmu held, under which the descriptor is closed.
func (s *Session) wakeLocked() {
	if !s.released {
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], 1)
		_, _ = unix.Write(s.loop.wake, b[:])
	}
}

// release gives up all descriptors once nobody writes to the channel any more.
func (s *Session) release() {
	s.join() // relays that came too late are ended below
	for _, r := range s.loop.relays {
		r.close(r.shut) // what has come to its end and was delivered ends in order
	}
	s.wmu.Lock()
	for s.flushing && !s.blocked {
		s.wcond.Wait()
	}
	s.released = true
	_ = unix.Close(s.fd)
	_ = unix.Close(s.loop.wake)
	_ = unix.Close(s.loop.epoll)
	s.wcond.Broadcast()
	s.wmu.Unlock()
}

// readChannel reads once and handles every frame that is whole.
func (s *Session) readChannel() {
	l := &s.loop
	n, err := readNow(s.fd, l.in[l.have:])
	if err != nil {
		switch {
		case errors.Is(err, errWouldBlock):
			return
		case err != io.EOF:
			err = fmt.Errorf("link: reading: %w", err)
		case l.have > 0:
			err = fmt.Errorf("link: reading: %w", io.ErrUnexpectedEOF)
		}
		s.end(err)
		return
	}
	l.have += n
	rest := l.in[:l.have]
	for len(rest) >= headerSize && !s.ended() {
		h, err := parseHeader((*[headerSize]byte)(rest))
		if err != nil {
			s.end(err)
			return
		}
		if len(rest) < headerSize+h.length {
			break
		}
		if err := s.handle(h, rest[headerSize:headerSize+h.length]); err != nil {
			s.end(err)
			return
		}
		rest = rest[headerSize+h.length:]
	}
	l.have = copy(l.in, rest)
}
