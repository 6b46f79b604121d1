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
	s.flushing, s.filing = true, true
	s.wmu.Unlock()
	short, err := s.fileFrame(stream, file, off, part)
	s.wmu.Lock()
	s.flushing, s.filing = false, false
	s.wakeLocked()
	s.wcond.Broadcast()
	if err != nil {
		s.wmu.Unlock()
		s.end(fmt.Errorf("link: writing: %w", err)) // the frame is cut: nothing can follow it
		return err
	}
	s.flushLocked() // what was queued meanwhile
	return short
}

// fileFrame writes the frame. short: the file had no more bytes, and zeros came in
// their place, for the frame had begun.
func (s *Session) fileFrame(stream uint32, file int, off *int64, part int) (short, err error) {
	if err := s.writeAll(appendHeader(make([]byte, 0, headerSize), frameData, part, stream)); err != nil {
		return nil, err
	}
	for left := part; left > 0; {
		n, err := unix.Sendfile(s.fd, file, off, left)
		left -= max(n, 0)
		switch {
		case err == unix.EINTR || err == nil && n > 0:
		case err == unix.EAGAIN:
			if err = s.untilWritable(errWouldBlock); err != nil {
				return nil, err
			}
		case err == unix.EPIPE || err == unix.ECONNRESET:
			return nil, err
		default: // not every file can be sent so
			return s.readAndWrite(file, off, left)
		}
	}
	return nil, nil
}

func (s *Session) readAndWrite(file int, off *int64, left int) (short, err error) {
	buf := make([]byte, left)
	for done := 0; done < left && short == nil; {
		n, err := unix.Pread(file, buf[done:], *off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			short = fmt.Errorf("link: reading a file: %w", err)
		case n == 0:
			short = fmt.Errorf("link: a file ended before its size: %w", io.ErrUnexpectedEOF)
		}
		done += max(n, 0)
		*off += int64(max(n, 0))
	}
	return short, s.writeAll(buf)
}

// writeAll writes b, waiting where it must. The channel is the caller's.
func (s *Session) writeAll(b []byte) error {
	for len(b) > 0 {
		n, err := writeNow(s.fd, b)
		b = b[n:]
		if err != nil {
			if err = s.untilWritable(err); err != nil {
				return err
			}
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
