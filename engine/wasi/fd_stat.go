//go:build linux

package wasi

import (
	"encoding/binary"

	"github.com/donjon-tee/donjon/engine/vfs"
)

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
