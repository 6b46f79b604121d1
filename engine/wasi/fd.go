//go:build linux

package wasi

import (
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

func fdClose(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	s.fds[uint32(a[0])] = nil
	return d.close()
}

func fdDatasync(s *System, _ memory, a []uint64) vfs.Errno { return s.sync(a[0], true) }

func fdSync(s *System, _ memory, a []uint64) vfs.Errno { return s.sync(a[0], false) }

func (s *System) sync(fd uint64, dataOnly bool) vfs.Errno {
	d, e := s.get(fd)
	if e != 0 {
		return e
	}
	need := rightSync
	if dataOnly {
		need = rightDatasync
		if d.dir != nil {
			need = rightSync
		}
	}
	if d.base&need == 0 {
		return vfs.ErrnoNotcapable
	}
	switch {
	case d.file != nil:
		return d.file.Sync(dataOnly)
	case d.dir != nil:
		return d.dir.Sync(dataOnly)
	}
	return vfs.ErrnoInval
}

func fdRead(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightRead)
	if e != 0 {
		return e
	}
	if d.dir != nil {
		return vfs.ErrnoBadf
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e != 0 {
		return e
	}
	var n int
	if d.file != nil {
		if n, e = readAt(d.file, v, d.pos); e != 0 {
			return e
		}
		d.pos += int64(n)
	} else if n, e = s.readKernel(d, v); e != 0 {
		return e
	}
	return m.put32(a[3], uint32(n))
}

func fdWrite(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightWrite)
	if e != 0 {
		return e
	}
	if d.dir != nil {
		return vfs.ErrnoBadf
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e != 0 {
		return e
	}
	var n int
	switch {
	case d.file != nil && d.flags&flagAppend != 0:
		for _, b := range v {
			w, e := d.file.Append(b)
			n += w
			if e != 0 && n == 0 {
				return e
			}
			if e != 0 || w < len(b) {
				break
			}
		}
		if st, e := d.file.Stat(); e == 0 {
			d.pos = int64(st.Size)
		}
		if e := d.written(); e != 0 {
			return e
		}
	case d.file != nil:
		if n, e = writeAt(d.file, v, d.pos); e != 0 {
			return e
		}
		d.pos += int64(n)
		if e := d.written(); e != 0 {
			return e
		}
	default:
		if n, e = s.writeKernel(d, v); e != 0 {
			return e
		}
	}
	return m.put32(a[3], uint32(n))
}

func fdRenumber(s *System, _ memory, a []uint64) vfs.Errno {
	from, e := s.get(a[0])
	if e != 0 {
		return e
	}
	to, e := s.get(a[1])
	if e != 0 {
		return e
	}
	if uint32(a[0]) == uint32(a[1]) {
		return 0
	}
	to.close()
	s.fds[uint32(a[1])] = from
	s.fds[uint32(a[0])] = nil
	return 0
}

// readKernel reads from a kernel descriptor; a blocking guest waits in ppoll.
func (s *System) readKernel(d *descriptor, v [][]byte) (int, vfs.Errno) {
	if d.kind == Null || len(v) == 0 {
		return 0, 0
	}
	if d.kind == Listener || d.kind == SocketListener {
		return 0, vfs.ErrnoNotconn
	}
	for {
		n, err := s.tryRead(d, v)
		if err == nil {
			return n, 0
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return 0, errno(err)
		}
		if err == unix.EAGAIN && d.flags&flagNonblock != 0 {
			return 0, vfs.ErrnoAgain
		}
		if err == unix.EAGAIN {
			wait(d.fd, unix.POLLIN)
		}
	}
}

func (s *System) tryRead(d *descriptor, v [][]byte) (int, error) {
	if d.never {
		return s.readNow(d.fd, v)
	}
	if d.flags&flagNonblock != 0 && !ready(d.fd, unix.POLLIN) {
		return 0, unix.EAGAIN
	}
	if len(v) == 1 {
		return unix.Read(d.fd, v[0])
	}
	return unix.Readv(d.fd, v)
}

func (s *System) writeKernel(d *descriptor, v [][]byte) (int, vfs.Errno) {
	if d.kind == Null {
		n := 0
		for _, b := range v {
			n += len(b)
		}
		return n, 0
	}
	if len(v) == 0 {
		return 0, 0
	}
	for {
		var n int
		var err error
		if d.never {
			n, err = s.sendNow(d.fd, v)
		} else if len(v) == 1 {
			n, err = unix.Write(d.fd, v[0])
		} else {
			n, err = unix.Writev(d.fd, v)
		}
		if err == nil {
			return n, 0
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return 0, errno(err)
		}
		if err == unix.EAGAIN && d.flags&flagNonblock != 0 {
			return 0, vfs.ErrnoAgain
		}
		if err == unix.EAGAIN {
			wait(d.fd, unix.POLLOUT)
		}
	}
}

// errno translates what a kernel descriptor can answer.
func errno(err error) vfs.Errno {
	switch err {
	case unix.EAGAIN:
		return vfs.ErrnoAgain
	case unix.EPIPE:
		return vfs.ErrnoPipe
	case unix.ECONNRESET:
		return vfs.ErrnoConnReset
	case unix.ECONNABORTED:
		return vfs.ErrnoConnAborted
	case unix.ENOTCONN:
		return vfs.ErrnoNotconn
	case unix.ENOTSOCK:
		return vfs.ErrnoNotsock
	case unix.EBADF:
		return vfs.ErrnoBadf
	case unix.EINVAL:
		return vfs.ErrnoInval
	case unix.ENOSPC:
		return vfs.ErrnoNospc
	case unix.ENOMEM, unix.ENOBUFS:
		return vfs.ErrnoNomem
	case unix.EMFILE, unix.ENFILE:
		return vfs.ErrnoNfile
	}
	return vfs.ErrnoIo
}
