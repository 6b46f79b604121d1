package vfs

// memFile is an open file.
type memFile struct {
	n      *node
	closed bool
}

func (n *node) open() *memFile {
	n.opens++
	return &memFile{n: n}
}

func (f *memFile) Stat() (Stat, Errno) { return f.n.stat(), 0 }

func (f *memFile) SetTimes(t Times) Errno { return f.n.setTimes(t) }

func (f *memFile) Sync(bool) Errno { return 0 }

func (f *memFile) Close() Errno {
	if f.closed {
		return ErrnoBadf
	}
	f.closed = true
	f.n.opens--
	f.n.release()
	return 0
}

func (f *memFile) ReadAt(p []byte, off int64) (int, Errno) {
	if off < 0 {
		return 0, ErrnoInval
	}
	if off >= int64(len(f.n.data)) {
		return 0, 0
	}
	return copy(p, f.n.data[off:]), 0
}

func (f *memFile) WriteAt(p []byte, off int64) (int, Errno) {
	if off < 0 {
		return 0, ErrnoInval
	}
	if len(p) == 0 {
		return 0, 0
	}
	t := f.n.t
	switch {
	case t.readOnly:
		return 0, ErrnoRofs
	case off > t.limits.Bytes:
		return 0, ErrnoFbig
	case int64(len(p)) > t.limits.Bytes-off:
		return 0, ErrnoNospc
	}
	if end := off + int64(len(p)); end > int64(len(f.n.data)) {
		if e := f.Truncate(end); e != 0 {
			return 0, e
		}
	}
	f.n.touch()
	return copy(f.n.data[off:], p), 0
}

func (f *memFile) Append(p []byte) (int, Errno) { return f.WriteAt(p, int64(len(f.n.data))) }

func (f *memFile) Truncate(size int64) Errno {
	t := f.n.t
	if t.readOnly {
		return ErrnoRofs
	}
	if size < 0 {
		return ErrnoInval
	}
	have := int64(len(f.n.data))
	if size > have && size-have > t.limits.Bytes-t.bytes {
		return ErrnoNospc
	}
	t.bytes += size - have
	switch room := int64(cap(f.n.data)); {
	case size < have && room > 2*size+4096:
		// Kept room is not counted: a file cut short must not hold on to it.
		f.n.data = append(make([]byte, 0, size), f.n.data[:size]...)
	case size <= have:
		clear(f.n.data[size:])
		f.n.data = f.n.data[:size]
	case size <= room:
		f.n.data = f.n.data[:size] // what lies behind a file's end is zero
	default:
		grown := make([]byte, size, max(size, min(2*room, size+(8<<20))))
		copy(grown, f.n.data)
		f.n.data = grown
	}
	f.n.touch()
	return 0
}

func (f *memFile) Allocate(off, n int64) Errno {
	switch limit := f.n.t.limits.Bytes; {
	case f.n.t.readOnly:
		return ErrnoRofs
	case off < 0 || n < 0:
		return ErrnoInval
	case off > limit || n > limit-off:
		return ErrnoFbig
	}
	if off+n > int64(len(f.n.data)) {
		return f.Truncate(off + n)
	}
	return 0
}
