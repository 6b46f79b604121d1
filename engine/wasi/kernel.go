//go:build linux

package wasi

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls to the kernel on behalf of a guest. Those that cannot wait, because the
// descriptor does not block, are made without telling Go's scheduler: the guest
// is the only thing that runs in its process, and to hand its processor over and
// take it back costs more than the call.

// shortWait is how long a guest's wait is taken for one that is soon over.
const shortWait = time.Millisecond

// maxVector bounds the parts of one call: the kernel's UIO_MAXIOV.
const maxVector = 1024

// vector makes the kernel's form of v, which is not empty, in memory that the
// next call uses again.
func (s *System) vector(v [][]byte) []unix.Iovec {
	s.vec = s.vec[:0]
	for _, b := range v[:min(len(v), maxVector)] {
		x := unix.Iovec{Base: unsafe.SliceData(b)}
		x.SetLen(len(b))
		s.vec = append(s.vec, x)
	}
	return s.vec
}

// readNow reads from a descriptor that does not block.
func (s *System) readNow(fd int, v [][]byte) (int, error) {
	vec := s.vector(v)
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(vec))), uintptr(len(vec)))
	runtime.KeepAlive(vec)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sendNow writes to a socket that does not block, without the signal for a reader
// that is gone.
func (s *System) sendNow(fd int, v [][]byte) (int, error) {
	vec := s.vector(v)
	msg := unix.Msghdr{Iov: unsafe.SliceData(vec)}
	msg.SetIovlen(len(vec))
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL)
	runtime.KeepAlive(vec)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// pollFor waits at most d for one of p. A short wait, and the beginning of a long
// one, is made in the same way; a longer one tells the scheduler, so that an idle
// guest keeps nobody from the processor.
func pollFor(p []unix.PollFd, d time.Duration) (int, error) {
	d = max(d, 0)
	ts := unix.NsecToTimespec(int64(min(d, shortWait)))
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	if n > 0 || d <= shortWait {
		return int(n), nil
	}
	ts = unix.NsecToTimespec(int64(d - shortWait))
	return unix.Ppoll(p, &ts, nil)
}

func ready(fd int, events int16) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := pollFor(p[:], 0)
	return err != nil || n > 0
}

func wait(fd int, events int16) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	_, _ = pollFor(p[:], time.Hour)
}
