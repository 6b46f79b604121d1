//go:build linux

package wasi

import (
	"encoding/binary"
	"math"

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

// written brings what was just written to the disk where the descriptor's flags
// ask for it.
func (d *descriptor) written() vfs.Errno {
	if d.flags&(flagDsync|flagSync) == 0 {
		return 0
	}
	return d.file.Sync(d.flags&flagSync == 0)
}

// positioned makes the checks of a read or write at an offset that is given.
func (s *System) positioned(m memory, a []uint64, right uint64) (*descriptor, [][]byte, vfs.Errno) {
	d, e := s.with(a[0], right)
	if e == 0 && d.file != nil && d.base&rightSeek == 0 {
		e = vfs.ErrnoNotcapable
	}
	if e != 0 {
		return nil, nil, e
	}
	if d.file == nil {
		return nil, nil, notSeekable(d)
	}
	v, e := s.iovecs(m, a[1], a[2])
	if e == 0 && int64(a[3]) < 0 {
		e = vfs.ErrnoInval
	}
	return d, v, e
}

func fdPread(s *System, m memory, a []uint64) vfs.Errno {
	d, v, e := s.positioned(m, a, rightRead)
	if e != 0 {
		return e
	}
	n, e := readAt(d.file, v, int64(a[3]))
	if e != 0 {
		return e
	}
	return m.put32(a[4], uint32(n))
}

func fdPwrite(s *System, m memory, a []uint64) vfs.Errno {
	d, v, e := s.positioned(m, a, rightWrite)
	if e != 0 {
		return e
	}
	// At the offset, whatever the flags: as POSIX says, not as Linux does.
	n, e := writeAt(d.file, v, int64(a[3]))
	if e == 0 {
		e = d.written()
	}
	if e != 0 {
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
