//go:build linux

package wasi

import (
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

func (d *descriptor) socket() vfs.Errno {
	switch d.kind {
	case Conn, Listener, SocketListener:
		return 0
	}
	return vfs.ErrnoNotsock
}

func sockAccept(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	if d.kind != Listener && d.kind != SocketListener {
		if e := d.socket(); e != 0 {
			return e
		}
		return vfs.ErrnoInval
	}
	if d.base&rightSockAccept == 0 {
		return vfs.ErrnoNotcapable
	}
	if uint32(a[1])&^uint32(flagNonblock) != 0 {
		return vfs.ErrnoInval
	}
	if _, e := m.bytes(a[2], 4); e != 0 {
		return e // before a connection is taken that the guest would not know of
	}
	for {
		fd, err := accept(d)
		if err == nil {
			conn := &descriptor{kind: Conn, fd: fd, never: true, base: rightsStream, flags: uint16(a[1])}
			n, e := s.install(conn)
			if e != 0 {
				return e
			}
			return m.put32(a[2], n)
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return errno(err)
		}
		if err == unix.EAGAIN && d.flags&flagNonblock != 0 {
			return vfs.ErrnoAgain
		}
		if err == unix.EAGAIN {
			wait(d.fd, unix.POLLIN)
		}
	}
}

// accept takes the next connection: from the kernel, or passed with one byte.
func accept(d *descriptor) (int, error) {
	if d.kind == SocketListener {
		fd, _, err := unix.Accept4(d.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return fd, err
	}
	var one [1]byte
	var oob [64]byte
	n, oobn, _, _, err := unix.Recvmsg(d.fd, one[:], oob[:], unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if n == 0 {
		return -1, unix.EINVAL // the listener is closed, as Linux answers
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return -1, unix.ECONNABORTED
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return -1, unix.ECONNABORTED
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		return -1, err
	}
	return fds[0], nil
}

const (
	recvPeek    = 1 << 0
	recvWaitall = 1 << 1
)

func sockRecv(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightRead)
	if e != 0 {
		return sockError(s, a[0], e)
	}
	if e := d.socket(); e != 0 {
		return e
	}
	if d.kind != Conn {
		return vfs.ErrnoNotconn
	}
	f := uint32(a[3])
	if f&^(recvPeek|recvWaitall) != 0 {
		return vfs.ErrnoInval
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e != 0 {
		return e
	}
	total := 0
	for {
		n, e := s.recv(d, v, f)
		if e != 0 && total == 0 {
			return e
		}
		total += n
		if e != 0 || n == 0 || f&recvWaitall == 0 || f&recvPeek != 0 {
			break
		}
		if v = advance(v, n); len(v) == 0 {
			break
		}
	}
	if e := m.put32(a[4], uint32(total)); e != 0 {
		return e
	}
	b, e := m.bytes(a[5], 2)
	if e != 0 {
		return e
	}
	b[0], b[1] = 0, 0
	return 0
}

// sockError says ENOTSOCK before it says that a right is missing.
func sockError(s *System, fd uint64, e vfs.Errno) vfs.Errno {
	if d, bad := s.get(fd); bad == 0 && d.socket() != 0 {
		return vfs.ErrnoNotsock
	}
	return e
}

func advance(v [][]byte, n int) [][]byte {
	for len(v) > 0 && n >= len(v[0]) {
		n -= len(v[0])
		v = v[1:]
	}
	if n > 0 {
		v[0] = v[0][n:]
	}
	return v
}

func (s *System) recv(d *descriptor, v [][]byte, flags uint32) (int, vfs.Errno) {
	if flags&recvPeek == 0 {
		return s.readKernel(d, v)
	}
	for {
		n, _, _, _, err := unix.RecvmsgBuffers(d.fd, v, nil, unix.MSG_PEEK)
		switch {
		case err == nil:
			return n, 0
		case err == unix.EAGAIN && d.flags&flagNonblock != 0:
			return 0, vfs.ErrnoAgain
		case err == unix.EAGAIN:
			wait(d.fd, unix.POLLIN)
		case err != unix.EINTR:
			return 0, errno(err)
		}
	}
}

func sockSend(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightWrite)
	if e != 0 {
		return sockError(s, a[0], e)
	}
	if e := d.socket(); e != 0 {
		return e
	}
	if d.kind != Conn {
		return vfs.ErrnoNotconn
	}
	if uint32(a[3]) != 0 {
		return vfs.ErrnoNotsup
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e != 0 {
		return e
	}
	n, e := s.writeKernel(d, v)
	if e != 0 {
		return e
	}
	return m.put32(a[4], uint32(n))
}

func sockShutdown(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	if e := d.socket(); e != 0 {
		return e
	}
	if d.base&rightSockShutdown == 0 {
		return vfs.ErrnoNotcapable
	}
	how := map[uint32]int{1: unix.SHUT_RD, 2: unix.SHUT_WR, 3: unix.SHUT_RDWR}
	h, ok := how[uint32(a[1])]
	if !ok {
		return vfs.ErrnoInval
	}
	if err := unix.Shutdown(d.fd, h); err != nil {
		return errno(err)
	}
	return 0
}
