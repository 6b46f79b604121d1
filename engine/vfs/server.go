//go:build linux

package vfs

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// server answers for one folder of the host. It is confined by os.Root: every
// directory handle is a root of its own.
type server struct {
	handles map[uint32]any // *os.Root or *os.File
	next    uint32
	list    map[uint32][]Entry // of a directory that is being read
}

// Serve answers requests about root until the other side ends. A request that
// breaks the form ends it with an error.
func Serve(ctx context.Context, root *os.Root, rw io.ReadWriter) error {
	s := &server{handles: map[uint32]any{0: root}, next: 1, list: map[uint32][]Entry{}}
	defer func() {
		for h, x := range s.handles {
			if c, ok := x.(io.Closer); ok && h != 0 {
				_ = c.Close()
			}
		}
	}()
	for ctx.Err() == nil {
		var q request
		if err := readRecord(rw, &q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		a, err := s.do(q)
		a.Errno = errnoOf(err)
		if err := writeRecord(rw, a); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *server) do(q request) (a answer, err error) {
	if len(q.Path) > maxPath || len(q.To) > maxPath {
		return a, syscall.ENAMETOOLONG
	}
	switch x := s.handles[q.Handle].(type) {
	case *os.File:
		return s.doFile(x, q)
	case *os.Root:
		return s.doDir(x, q)
	}
	return a, syscall.EBADF
}

func (s *server) doFile(f *os.File, q request) (a answer, err error) {
	switch q.Op {
	case opClose:
		delete(s.handles, q.Handle)
		return a, f.Close()
	case opStat:
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			a.Stat = statOf(info)
		}
	case opSetTimes:
		err = setTimes(q, func(ts []unix.Timespec) error { return futimens(f, ts) })
	case opSync:
		err = f.Sync()
	case opRead:
		if q.N < 0 || q.N > maxChunk || q.Off < 0 {
			return a, syscall.EINVAL
		}
		b := make([]byte, q.N)
		n, rerr := f.ReadAt(b, q.Off)
		if rerr != nil && rerr != io.EOF {
			return a, rerr
		}
		a.Data = b[:n]
	case opWrite, opAppend:
		if len(q.Data) > maxChunk || q.Off < 0 {
			return a, syscall.EINVAL
		}
		var n int
		off := q.Off
		if q.Op == opAppend {
			info, serr := f.Stat()
			if serr != nil {
				return a, serr
			}
			off = info.Size()
		}
		n, err = f.WriteAt(q.Data, off)
		a.N = int64(n)
	case opTruncate:
		err = f.Truncate(q.N)
	case opAllocate:
		info, serr := f.Stat()
		if serr != nil {
			return a, serr
		}
		if q.Off < 0 || q.N < 0 || q.Off > 1<<40 || q.N > 1<<40 {
			return a, syscall.EFBIG
		}
		if q.Off+q.N > info.Size() {
			err = f.Truncate(q.Off + q.N)
		}
	default:
		err = syscall.ENOTDIR
	}
	return a, err
}

func (s *server) doDir(r *os.Root, q request) (a answer, err error) {
	if err := wellFormed(q); err != nil {
		return a, err
	}
	switch q.Op {
	case opClose:
		if q.Handle == 0 {
			return a, nil
		}
		delete(s.handles, q.Handle)
		delete(s.list, q.Handle)
		return a, r.Close()
	case opStat, opSync, opSetTimes, opReadDir:
		return s.doSelf(r, q)
	case opOpen:
		return s.open(r, q)
	case opStatAt:
		info, err := statAt(r, q.Path, q.Follow)
		if err == nil {
			a.Stat = statOf(info)
		}
		return a, err
	case opSetTimesAt:
		return a, s.setTimesAt(r, q)
	case opMkdir:
		return a, r.Mkdir(bare(q.Path), 0o777)
	case opRmdir, opUnlink:
		return a, remove(r, q)
	case opSymlink:
		if trimmed := bare(q.Path); trimmed != q.Path {
			info, err := r.Lstat(trimmed)
			switch {
			case err == nil && info.IsDir():
				return a, syscall.EEXIST
			case err == nil:
				return a, syscall.ENOTDIR
			case errors.Is(err, os.ErrNotExist):
				return a, syscall.ENOENT
			}
			return a, err
		}
		return a, r.Symlink(q.To, q.Path)
	case opReadlink:
		target, err := r.Readlink(q.Path)
		a.Data = []byte(target)
		return a, err
	case opLink, opRename:
		return a, s.two(r, q)
	}
	return a, syscall.EISDIR
}

func (s *server) doSelf(r *os.Root, q request) (a answer, err error) {
	f, err := r.Open(".")
	if err != nil {
		return a, err
	}
	defer f.Close()
	switch q.Op {
	case opStat:
		info, err := f.Stat()
		if err == nil {
			a.Stat = statOf(info)
		}
		return a, err
	case opSync:
		return a, f.Sync()
	case opSetTimes:
		return a, setTimes(q, func(ts []unix.Timespec) error { return futimens(f, ts) })
	}
	if q.Off == 0 {
		infos, err := f.ReadDir(-1)
		if err != nil {
			return a, err
		}
		list := make([]Entry, 0, len(infos))
		for _, d := range infos {
			if !utf8.ValidString(d.Name()) {
				continue // WASI has no way to say this name
			}
			// Through the root again: an entry's own Info goes by a path.
			if info, err := r.Lstat(d.Name()); err == nil {
				st := statOf(info)
				list = append(list, Entry{d.Name(), st.Ino, st.Type})
			}
		}
		s.list[q.Handle] = list
	}
	list := s.list[q.Handle]
	if q.Off < 0 || q.Off > int64(len(list)) {
		return a, syscall.EINVAL
	}
	part := list[q.Off:]
	size := 0
	for i := range part {
		if size += len(part[i].Name) + 24; size > maxChunk || i == maxRemote {
			part, a.More = part[:i], true
			break
		}
	}
	a.Entries = part
	return a, nil
}
