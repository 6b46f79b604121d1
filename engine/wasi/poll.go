//go:build linux

package wasi

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

const (
	eventClock   = 0
	eventFdRead  = 1
	eventFdWrite = 2

	subscriptionSize = 48
	eventSize        = 32
	subClockAbs      = 1
	eventHangup      = 1
)

// A subscription is one thing a guest waits for.
type subscription struct {
	userdata uint64
	kind     byte
	errno    vfs.Errno
	now      bool // ready, or wrong, without waiting
	deadline time.Time
	at       int // index among the polled descriptors, -1 for none
	hangup   bool
	bytes    uint64
}

// pollOneoff is one ppoll over all descriptors and the nearest deadline: an idle
// guest costs nothing.
func pollOneoff(s *System, m memory, a []uint64) vfs.Errno {
	n := uint32(a[2])
	if n == 0 {
		return vfs.ErrnoInval
	}
	if n > maxEvents {
		return vfs.ErrnoNomem
	}
	in, e := m.bytes(a[0], uint64(n)*subscriptionSize)
	if e != 0 {
		return e
	}
	if _, e := m.bytes(a[1], uint64(n)*eventSize); e != 0 {
		return e
	}
	start := time.Now()
	s.subs, s.poll = s.subs[:0], s.poll[:0]
	nearest := time.Time{}
	immediate := false
	for ; len(in) > 0; in = in[subscriptionSize:] {
		x := s.subscribe(in[:subscriptionSize], start)
		if x.now {
			immediate = true
		}
		if x.kind == eventClock && !x.now && (nearest.IsZero() || x.deadline.Before(nearest)) {
			nearest = x.deadline
		}
		s.subs = append(s.subs, x)
	}
	s.wait(immediate, nearest)
	return s.events(m, a[1], a[3])
}

func (s *System) subscribe(b []byte, start time.Time) subscription {
	le := binary.LittleEndian
	x := subscription{userdata: le.Uint64(b), kind: b[8], at: -1}
	switch x.kind {
	case eventClock:
		x.deadline, x.errno = s.deadline(le.Uint32(b[16:]), le.Uint64(b[24:]), le.Uint16(b[40:]), start)
		x.now = x.errno != 0
	case eventFdRead, eventFdWrite:
		d, e := s.get(uint64(le.Uint32(b[16:])))
		if e == 0 && d.base&rightPoll == 0 {
			e = vfs.ErrnoNotcapable
		}
		switch {
		case e != 0:
			x.errno, x.now = e, true
		case d.fd < 0: // files, directories and null are always ready
			x.now = true
			if d.file != nil && x.kind == eventFdRead {
				if st, e := d.file.Stat(); e == 0 && int64(st.Size) > d.pos {
					x.bytes = st.Size - uint64(d.pos)
				}
			}
		default:
			ev := int16(unix.POLLIN)
			if x.kind == eventFdWrite {
				ev = unix.POLLOUT
			}
			x.at = len(s.poll)
			s.poll = append(s.poll, unix.PollFd{Fd: int32(d.fd), Events: ev})
		}
	default:
		x.errno, x.now = vfs.ErrnoInval, true
	}
	return x
}

func (s *System) deadline(id uint32, timeout uint64, flags uint16, start time.Time) (time.Time, vfs.Errno) {
	if id != clockRealtime && id != clockMonotonic {
		if id == clockProcessCPU || id == clockThreadCPU {
			return start, vfs.ErrnoNotsup
		}
		return start, vfs.ErrnoInval
	}
	if flags&^subClockAbs != 0 {
		return start, vfs.ErrnoInval
	}
	if flags&subClockAbs != 0 {
		now := s.monotonic()
		if id == clockRealtime {
			now = uint64(s.now().UnixNano())
		}
		if timeout <= now {
			return start, 0
		}
		timeout -= now
	}
	return start.Add(time.Duration(min(timeout, math.MaxInt64/4))), 0
}

// wait returns when something is ready. A wait is cut into hours at the most.
func (s *System) wait(immediate bool, nearest time.Time) {
	for {
		left := time.Hour
		if !nearest.IsZero() {
			left = min(left, time.Until(nearest))
		}
		if immediate {
			left = 0
		}
		n, err := pollFor(s.poll, left)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n > 0 || immediate || !nearest.IsZero() && !time.Now().Before(nearest) {
			return
		}
	}
}

func (s *System) events(m memory, out, count uint64) vfs.Errno {
	now := time.Now()
	n := uint32(0)
	for i := range s.subs {
		x := &s.subs[i]
		fire := x.now
		if x.kind == eventClock && !x.now {
			fire = !now.Before(x.deadline)
		}
		if x.at >= 0 {
			r := s.poll[x.at].Revents
			fire = r != 0
			x.hangup = r&(unix.POLLHUP|unix.POLLERR) != 0
			if r&unix.POLLNVAL != 0 {
				x.errno = vfs.ErrnoBadf
			}
			if fire && x.kind == eventFdRead {
				x.bytes = 1 // at least: nobody may rely on more, and to ask costs a call
			}
			if fire && x.kind == eventFdWrite {
				x.bytes = 4096
			}
		}
		if !fire {
			continue
		}
		b, e := m.bytes(out+uint64(n)*eventSize, eventSize)
		if e != 0 {
			return e
		}
		clear(b)
		le := binary.LittleEndian
		le.PutUint64(b, x.userdata)
		le.PutUint16(b[8:], uint16(x.errno))
		b[10] = x.kind
		le.PutUint64(b[16:], x.bytes)
		if x.hangup {
			le.PutUint16(b[24:], eventHangup)
		}
		n++
	}
	return m.put32(count, n)
}
