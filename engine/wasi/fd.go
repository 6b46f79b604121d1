//go:build linux

package wasi

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

func fdAdvise(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightAdvise)
	if e != 0 {
		return e
	}
	if uint32(a[3]) > 5 || int64(a[1]) < 0 || int64(a[2]) < 0 {
		return vfs.ErrnoInval
	}
	if d.dir != nil {
		return vfs.ErrnoBadf
	}
	return 0
}

func fdAllocate(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightAllocate)
	if e != 0 {
		return e
	}
	if d.file == nil {
		return vfs.ErrnoBadf
	}
	if int64(a[1]) < 0 || int64(a[2]) <= 0 {
		return vfs.ErrnoInval
	}
	return d.file.Allocate(int64(a[1]), int64(a[2]))
}

func fdClose(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	s.fds[uint32(a[0])] = nil
	return d.close()
}

func fdDatasync(s *System, _ memory, a []uint64) vfs.Errno { return s.sync(a[0], true) }
func fdSync(s *System, _ memory, a []uint64) vfs.Errno     { return s.sync(a[0], false) }

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

func fdFdstatGet(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	b, e := m.bytes(a[1], 24)
	if e != 0 {
		return e
	}
	clear(b)
	b[0] = byte(d.fileType())
	binary.LittleEndian.PutUint16(b[2:], d.flags)
	binary.LittleEndian.PutUint64(b[8:], d.base)
	binary.LittleEndian.PutUint64(b[16:], d.inherit)
	return 0
}

func fdFdstatSetFlags(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightFdstatSetFlags)
	if e != 0 {
		return e
	}
	f := uint32(a[1])
	if f&^uint32(flagAppend|flagDsync|flagNonblock|flagRsync|flagSync) != 0 {
		return vfs.ErrnoInval
	}
	if d.file != nil && f&uint32(flagDsync|flagRsync|flagSync) != 0 {
		return vfs.ErrnoNotsup
	}
	d.flags = uint16(f)
	return 0
}

func fdFdstatSetRights(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	if a[1]&^d.base != 0 || a[2]&^d.inherit != 0 {
		return vfs.ErrnoNotcapable
	}
	d.base, d.inherit = a[1], a[2]
	return 0
}

func (s *System) stat(d *descriptor) (vfs.Stat, vfs.Errno) {
	switch {
	case d.file != nil:
		return d.file.Stat()
	case d.dir != nil:
		return d.dir.Stat()
	}
	return vfs.Stat{Type: d.fileType(), Nlink: 1}, 0
}

func putStat(m memory, p uint64, st vfs.Stat) vfs.Errno {
	b, e := m.bytes(p, 64)
	if e != 0 {
		return e
	}
	clear(b)
	le := binary.LittleEndian
	le.PutUint64(b, st.Dev)
	le.PutUint64(b[8:], st.Ino)
	b[16] = byte(st.Type)
	le.PutUint64(b[24:], st.Nlink)
	le.PutUint64(b[32:], st.Size)
	le.PutUint64(b[40:], uint64(st.Atim))
	le.PutUint64(b[48:], uint64(st.Mtim))
	le.PutUint64(b[56:], uint64(st.Ctim))
	return 0
}

func fdFilestatGet(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightFilestatGet)
	if e != 0 {
		return e
	}
	st, e := s.stat(d)
	if e != 0 {
		return e
	}
	return putStat(m, a[1], st)
}

func fdFilestatSetSize(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightFilestatSetSize)
	if e != 0 {
		return e
	}
	if d.file == nil {
		return vfs.ErrnoBadf
	}
	if int64(a[1]) < 0 {
		return vfs.ErrnoInval
	}
	return d.file.Truncate(int64(a[1]))
}

func (s *System) times(atim, mtim, flags uint64) (vfs.Times, vfs.Errno) {
	f := uint32(flags)
	if f&^15 != 0 || f&timeAtim != 0 && f&timeAtimNow != 0 || f&timeMtim != 0 && f&timeMtimNow != 0 {
		return vfs.Times{}, vfs.ErrnoInval
	}
	pick := func(set, now bool, v uint64) *int64 {
		var t int64
		switch {
		case set:
			t = int64(v)
		case now:
			t = s.now().UnixNano()
		default:
			return nil
		}
		return &t
	}
	return vfs.Times{
		Atim: pick(f&timeAtim != 0, f&timeAtimNow != 0, atim),
		Mtim: pick(f&timeMtim != 0, f&timeMtimNow != 0, mtim),
	}, 0
}

func fdFilestatSetTimes(s *System, _ memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightFilestatSetTimes)
	if e != 0 {
		return e
	}
	t, e := s.times(a[1], a[2], a[3])
	if e != 0 {
		return e
	}
	switch {
	case d.file != nil:
		return d.file.SetTimes(t)
	case d.dir != nil:
		return d.dir.SetTimes(t)
	}
	return vfs.ErrnoInval
}

func fdPrestatGet(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	switch {
	case d.preopen != "":
		if e := m.put32(a[1], 0); e != 0 {
			return e
		}
		return m.put32(a[1]+4, uint32(len(d.preopen)))
	case d.kind == Listener || d.kind == SocketListener || d.kind == Conn:
		// Guests walk their descriptors until EBADF: a socket among them must
		// not end the walk, and any other error ends some guests.
		if e := m.put32(a[1], 1); e != 0 {
			return e
		}
		return m.put32(a[1]+4, 0)
	}
	return vfs.ErrnoBadf
}

func fdPrestatDirName(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	if d.preopen == "" {
		return vfs.ErrnoBadf
	}
	if uint64(uint32(a[2])) < uint64(len(d.preopen)) {
		return vfs.ErrnoNametoolong
	}
	b, e := m.bytes(a[1], uint64(len(d.preopen)))
	if e != 0 {
		return e
	}
	copy(b, d.preopen)
	return 0
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
	case d.file != nil:
		if n, e = writeAt(d.file, v, d.pos); e != 0 {
			return e
		}
		d.pos += int64(n)
	default:
		if n, e = s.writeKernel(d, v); e != 0 {
			return e
		}
	}
	return m.put32(a[3], uint32(n))
}

func readAt(f vfs.File, v [][]byte, off int64) (int, vfs.Errno) {
	n := 0
	for _, b := range v {
		r, e := f.ReadAt(b, off+int64(n))
		n += r
		if e != 0 && n == 0 {
			return 0, e
		}
		if e != 0 || r < len(b) {
			break
		}
	}
	return n, 0
}

func writeAt(f vfs.File, v [][]byte, off int64) (int, vfs.Errno) {
	n := 0
	for _, b := range v {
		w, e := f.WriteAt(b, off+int64(n))
		n += w
		if e != 0 && n == 0 {
			return 0, e
		}
		if e != 0 || w < len(b) {
			break
		}
	}
	return n, 0
}

func fdPread(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightRead)
	if e == 0 && d.file != nil && d.base&rightSeek == 0 {
		e = vfs.ErrnoNotcapable
	}
	if e != 0 {
		return e
	}
	if d.file == nil {
		return notSeekable(d)
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e != 0 {
		return e
	}
	if int64(a[3]) < 0 {
		return vfs.ErrnoInval
	}
	n, e := readAt(d.file, v, int64(a[3]))
	if e != 0 {
		return e
	}
	return m.put32(a[4], uint32(n))
}

func fdPwrite(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.with(a[0], rightWrite)
	if e == 0 && d.file != nil && d.base&rightSeek == 0 {
		e = vfs.ErrnoNotcapable
	}
	if e != 0 {
		return e
	}
	if d.file == nil {
		return notSeekable(d)
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e != 0 {
		return e
	}
	if int64(a[3]) < 0 {
		return vfs.ErrnoInval
	}
	var n int
	if d.flags&flagAppend != 0 { // as Linux does: the offset does not count
		for _, b := range v {
			w, e := d.file.Append(b)
			n += w
			if e != 0 {
				return e
			}
		}
	} else if n, e = writeAt(d.file, v, int64(a[3])); e != 0 {
		return e
	}
	return m.put32(a[4], uint32(n))
}

func notSeekable(d *descriptor) vfs.Errno {
	if d.dir != nil {
		return vfs.ErrnoBadf
	}
	return vfs.ErrnoSpipe
}

func fdSeek(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	if d.file == nil {
		return notSeekable(d)
	}
	off, whence := int64(a[1]), uint32(a[2])
	need := rightSeek
	if whence == 1 && off == 0 {
		need = rightTell
	}
	if d.base&need == 0 && d.base&rightSeek == 0 {
		return vfs.ErrnoNotcapable
	}
	var from int64
	switch whence {
	case 0:
	case 1:
		from = d.pos
	case 2:
		st, e := d.file.Stat()
		if e != 0 {
			return e
		}
		from = int64(st.Size)
	default:
		return vfs.ErrnoInval
	}
	if off > 0 && from > math.MaxInt64-off || from+off < 0 {
		return vfs.ErrnoInval
	}
	d.pos = from + off
	return m.put64(a[3], uint64(d.pos))
}

func fdTell(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.get(a[0])
	if e != 0 {
		return e
	}
	if d.file == nil {
		return notSeekable(d)
	}
	if d.base&rightTell == 0 {
		return vfs.ErrnoNotcapable
	}
	return m.put64(a[1], uint64(d.pos))
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

func fdReaddir(s *System, m memory, a []uint64) vfs.Errno {
	d, e := s.dirAt(a[0], rightReaddir)
	if e != 0 {
		return e
	}
	buf, e := m.bytes(a[1], a[2])
	if e != 0 {
		return e
	}
	cookie := a[3]
	if cookie == 0 || d.entries == nil {
		list, e := d.dir.ReadDir()
		if e != 0 {
			return e
		}
		var ino uint64
		if st, e := d.dir.Stat(); e == 0 {
			ino = st.Ino
		}
		self := []vfs.Entry{{Name: ".", Ino: ino, Type: vfs.TypeDirectory}, {Name: "..", Ino: ino, Type: vfs.TypeDirectory}}
		d.entries = append(self, list...)
	}
	n := 0
	for i := cookie; i < uint64(len(d.entries)) && n < len(buf); i++ {
		x := d.entries[i]
		var h [24]byte
		binary.LittleEndian.PutUint64(h[:], i+1)
		binary.LittleEndian.PutUint64(h[8:], x.Ino)
		binary.LittleEndian.PutUint32(h[16:], uint32(len(x.Name)))
		h[20] = byte(x.Type)
		n += copy(buf[n:], h[:])
		n += copy(buf[n:], x.Name) // cut at the end: the guest sees a full buffer and asks again
	}
	return m.put32(a[4], uint32(n))
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
		n, err := tryRead(d, v)
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

func tryRead(d *descriptor, v [][]byte) (int, error) {
	if d.kind == Input && d.flags&flagNonblock != 0 && !ready(d.fd, unix.POLLIN) {
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
		if d.kind == Conn { // no SIGPIPE, which would end the process
			n, err = unix.SendmsgBuffers(d.fd, v, nil, nil, unix.MSG_NOSIGNAL)
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

func ready(fd int, events int16) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := unix.Poll(p[:], 0)
	return err != nil || n > 0
}

func wait(fd int, events int16) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	_, _ = unix.Poll(p[:], -1)
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
