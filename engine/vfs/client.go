package vfs

import (
	"io"
	"strings"
	"unicode/utf8"
)

// remote is the guest's end of a host folder. What the host answers is believed
// in nothing but its form: a host folder is the host's, and a workload that uses
// one has no secrets (it is for development).
type remote struct {
	rw     io.ReadWriteCloser
	broken bool // an answer was no answer: where the next one begins is not known
}

// Dial gives the folder at the other end of rw, served by Serve. One call at a
// time; it blocks until the answer is there.
func Dial(rw io.ReadWriteCloser) Dir { return &remoteDir{remoteHandle{r: &remote{rw: rw}}} }

func (r *remote) do(q request) (answer, Errno) {
	if len(q.Path) > maxPath || len(q.To) > maxPath {
		return answer{}, ErrnoNametoolong
	}
	if !utf8.ValidString(q.Path) || !utf8.ValidString(q.To) {
		return answer{}, ErrnoIlseq
	}
	if r.broken {
		return answer{}, ErrnoIo
	}
	var a answer
	if err := writeRecord(r.rw, q); err != nil {
		r.broken = true
		return answer{}, ErrnoIo
	}
	if err := readRecord(r.rw, &a); err != nil || !a.sane() {
		r.broken = true
		return answer{}, ErrnoIo
	}
	if a.Errno != 0 {
		return answer{}, a.Errno
	}
	return a, 0
}

// sane says that an answer could be one: numbers that WASI has, names that a
// folder can hold.
func (a *answer) sane() bool {
	if a.Errno > ErrnoNotcapable || a.Stat.Type > TypeSymlink || len(a.Data) > maxChunk {
		return false
	}
	for _, e := range a.Entries {
		switch {
		case e.Name == "" || e.Name == "." || e.Name == ".." || len(e.Name) > maxName:
			return false
		case strings.ContainsAny(e.Name, "/\x00") || e.Type > TypeSymlink:
			return false
		}
	}
	return true
}

type remoteHandle struct {
	r *remote
	h uint32
}

func (x *remoteHandle) Stat() (Stat, Errno) {
	a, e := x.r.do(request{Op: opStat, Handle: x.h})
	return a.Stat, e
}

func (x *remoteHandle) SetTimes(t Times) Errno {
	_, e := x.r.do(request{Op: opSetTimes, Handle: x.h, Atim: t.Atim, Mtim: t.Mtim})
	return e
}

func (x *remoteHandle) Sync(bool) Errno {
	_, e := x.r.do(request{Op: opSync, Handle: x.h})
	return e
}

func (x *remoteHandle) Close() Errno {
	if x.h == 0 {
		return 0 // the folder itself may be open under several numbers
	}
	_, e := x.r.do(request{Op: opClose, Handle: x.h})
	return e
}

type remoteFile struct{ remoteHandle }

func (f *remoteFile) ReadAt(p []byte, off int64) (int, Errno) {
	n := 0
	for n < len(p) {
		want := min(len(p)-n, maxChunk)
		a, e := f.r.do(request{Op: opRead, Handle: f.h, Off: off + int64(n), N: int64(want)})
		if e != 0 {
			return n, e
		}
		if len(a.Data) > want {
			return n, ErrnoIo
		}
		n += copy(p[n:], a.Data)
		if len(a.Data) < want {
			break
		}
	}
	return n, 0
}

func (f *remoteFile) write(o op, p []byte, off int64) (int, Errno) {
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxChunk)]
		a, e := f.r.do(request{Op: o, Handle: f.h, Off: off + int64(n), Data: part})
		if e != 0 {
			return n, e
		}
		if a.N <= 0 || a.N > int64(len(part)) {
			return n, ErrnoIo
		}
		n += int(a.N)
	}
	return n, 0
}

func (f *remoteFile) WriteAt(p []byte, off int64) (int, Errno) { return f.write(opWrite, p, off) }
func (f *remoteFile) Append(p []byte) (int, Errno)             { return f.write(opAppend, p, 0) }

func (f *remoteFile) Truncate(size int64) Errno {
	_, e := f.r.do(request{Op: opTruncate, Handle: f.h, N: size})
	return e
}

func (f *remoteFile) Allocate(off, n int64) Errno {
	_, e := f.r.do(request{Op: opAllocate, Handle: f.h, Off: off, N: n})
	return e
}

type remoteDir struct{ remoteHandle }

func (d *remoteDir) Open(path string, o OpenOptions) (Handle, Errno) {
	a, e := d.r.do(request{Op: opOpen, Handle: d.h, Path: path, Open: o})
	if e != 0 {
		return nil, e
	}
	if a.Handle == 0 || o.Directory && !a.IsDir {
		return nil, ErrnoIo
	}
	if a.IsDir {
		return &remoteDir{remoteHandle{d.r, a.Handle}}, 0
	}
	return &remoteFile{remoteHandle{d.r, a.Handle}}, 0
}

func (d *remoteDir) simple(q request) Errno {
	q.Handle = d.h
	_, e := d.r.do(q)
	return e
}

func (d *remoteDir) Mkdir(path string) Errno { return d.simple(request{Op: opMkdir, Path: path}) }
func (d *remoteDir) Rmdir(path string) Errno { return d.simple(request{Op: opRmdir, Path: path}) }
func (d *remoteDir) Unlink(path string) Errno {
	return d.simple(request{Op: opUnlink, Path: path})
}
func (d *remoteDir) Symlink(target, path string) Errno {
	return d.simple(request{Op: opSymlink, Path: path, To: target})
}

func (d *remoteDir) Readlink(path string) (string, Errno) {
	a, e := d.r.do(request{Op: opReadlink, Handle: d.h, Path: path})
	switch {
	case e != 0:
		return "", e
	case len(a.Data) > maxPath:
		return "", ErrnoIo
	case !utf8.Valid(a.Data):
		return "", ErrnoIlseq
	}
	return string(a.Data), 0
}

func (d *remoteDir) two(o op, old string, dst Dir, path string) Errno {
	to, ok := dst.(*remoteDir)
	if !ok || to.r != d.r {
		return ErrnoXdev
	}
	return d.simple(request{Op: o, Path: old, Other: to.h, To: path})
}

func (d *remoteDir) Link(old string, _ bool, dst Dir, path string) Errno {
	return d.two(opLink, old, dst, path)
}

func (d *remoteDir) Rename(old string, dst Dir, path string) Errno {
	return d.two(opRename, old, dst, path)
}

func (d *remoteDir) StatAt(path string, follow bool) (Stat, Errno) {
	a, e := d.r.do(request{Op: opStatAt, Handle: d.h, Path: path, Follow: follow})
	return a.Stat, e
}

func (d *remoteDir) SetTimesAt(path string, follow bool, t Times) Errno {
	return d.simple(request{Op: opSetTimesAt, Path: path, Follow: follow, Atim: t.Atim, Mtim: t.Mtim})
}

func (d *remoteDir) ReadDir() ([]Entry, Errno) {
	var out []Entry
	for {
		a, e := d.r.do(request{Op: opReadDir, Handle: d.h, Off: int64(len(out))})
		if e != 0 {
			return nil, e
		}
		out = append(out, a.Entries...)
		if !a.More || len(a.Entries) == 0 || len(out) > 1<<20 {
			return out, 0
		}
	}
}
