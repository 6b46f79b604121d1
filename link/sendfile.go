//go:build linux

package link

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// SendFile sends n bytes of f, from its beginning, as Write would. The kernel takes
// them from its own cache of the file: no byte is copied here. It is the host's: a
// Keep's sandbox has no use for the call behind it.
func (st *Stream) SendFile(f *os.File, n int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("link: sending a file: %w", err)
	}
	var off int64
	for off < n {
		part, err := st.takeCredit(n - off)
		if err != nil {
			return err
		}
		var inner error
		if err := raw.Control(func(fd uintptr) { inner = st.s.sendFile(st.id, int(fd), &off, part) }); err != nil {
			return fmt.Errorf("link: sending a file: %w", err)
		}
		if inner != nil {
			return inner
		}
	}
	return nil
}

// sendFile sends one frame whose payload is part bytes of the file at *off. It has
// the channel to itself meanwhile: a frame that has begun must be finished.
func (s *Session) sendFile(stream uint32, file int, off *int64, part int) error {
	s.wmu.Lock()
	for (s.flushing || len(s.pending) > 0) && !s.ended() {
		if s.flushing {
			s.wcond.Wait()
			continue
		}
		s.flushing = true
		s.write()
	}
	if s.ended() {
		s.wmu.Unlock()
		return s.Err()
	}
	s.flushing = true
	s.wmu.Unlock()
	err := s.fileFrame(stream, file, off, part)
	s.wmu.Lock()
	s.flushing = false
	if err == nil {
		s.flushLocked() // what was queued meanwhile
	} else {
		s.wcond.Broadcast()
		s.wmu.Unlock()
		s.end(fmt.Errorf("link: writing: %w", err)) // the frame is cut: nothing can follow it
	}
	s.wmu.Lock()
	s.wcond.Broadcast()
	s.wmu.Unlock()
	return err
}

func (s *Session) fileFrame(stream uint32, file int, off *int64, part int) error {
	head := appendHeader(make([]byte, 0, headerSize), frameData, part, stream)
	for len(head) > 0 {
		n, err := writeNow(s.fd, head)
		head = head[n:]
		if err != nil {
			if err = s.untilWritable(err); err != nil {
				return err
			}
		}
	}
	for left := part; left > 0; {
		n, err := unix.Sendfile(s.fd, file, off, left)
		left -= max(n, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if err = s.untilWritable(errWouldBlock); err != nil {
				return err
			}
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the file ended before its size: %w", io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// untilWritable waits until the channel takes bytes again, where that is all that
// is wrong.
func (s *Session) untilWritable(err error) error {
	for errors.Is(err, errWouldBlock) {
		if s.ended() {
			return ErrClosed
		}
		p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
		n, perr := unix.Poll(p, 100)
		if perr != nil && perr != unix.EINTR {
			return perr
		}
		if n > 0 {
			return nil
		}
	}
	return err
}
