//go:build linux

package vfs

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
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
			if _, err := r.Lstat(trimmed); err == nil {
				return a, syscall.EEXIST
			}
			return a, syscall.ENOENT
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

// wellFormed refuses paths that mean nothing inside a folder, before any part of
// the server takes them to pieces.
func wellFormed(q request) error {
	paths := []string{q.Path, q.To}
	switch q.Op {
	case opClose, opStat, opSync, opSetTimes, opReadDir:
		return nil
	case opLink, opRename:
	case opSymlink:
		if strings.HasPrefix(q.To, "/") {
			return syscall.EPERM
		}
		if len(q.To) >= maxPath {
			return syscall.ENAMETOOLONG
		}
	default:
		paths = paths[:1]
	}
	for _, p := range paths {
		switch {
		case p == "":
			return syscall.ENOENT
		case p[0] == '/':
			return syscall.EPERM
		case strings.IndexByte(p, 0) >= 0:
			return syscall.EINVAL
		}
	}
	return nil
}

// named refuses a path whose last component is no name, after what the path
// itself has to say: ".." above the folder is an escape first. The kernel's own
// answer depends on the call.
func named(r *os.Root, path string) error {
	if !dotted(path) {
		return nil
	}
	if _, err := r.Lstat(path); err != nil {
		return err
	}
	return syscall.EINVAL
}

// two links or renames. os.Root does both inside one root alone; between two
// directory handles each side's parent is opened inside its own root, and the
// kernel is given a plain name in each.
func (s *server) two(r *os.Root, q request) error {
	to, ok := s.handles[q.Other].(*os.Root)
	if !ok {
		return syscall.EBADF
	}
	if q.Op == opRename {
		if err := named(r, q.Path); err != nil {
			return err
		}
		if err := named(to, q.To); err != nil {
			return err
		}
	}
	slash := strings.HasSuffix(q.Path, "/") || strings.HasSuffix(q.To, "/")
	if q.Op == opLink && slash {
		info, err := r.Lstat(bare(q.Path))
		switch {
		case err != nil:
			return err
		case info.IsDir():
			return syscall.EPERM
		case strings.HasSuffix(q.Path, "/"):
			return syscall.ENOTDIR
		}
		return syscall.ENOENT
	}
	if q.Op == opRename && slash {
		info, err := r.Lstat(bare(q.Path))
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return syscall.ENOTDIR
		}
	}
	if to == r && q.Op == opLink {
		return r.Link(q.Path, q.To)
	}
	// Not Root.Rename: it refuses to replace an empty directory.
	from, fromName, err := parent(r, q.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	dst, dstName, err := parent(to, q.To)
	if err != nil {
		return err
	}
	defer dst.Close()
	if q.Op == opLink {
		return unix.Linkat(int(from.Fd()), fromName, int(dst.Fd()), dstName, 0)
	}
	return unix.Renameat(int(from.Fd()), fromName, int(dst.Fd()), dstName)
}

// parent opens the folder that holds the last component of a path, inside root,
// and gives that component: a plain name, so that the kernel follows nothing.
func parent(r *os.Root, path string) (*os.File, string, error) {
	path = bare(path)
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	if dotted(path) {
		return nil, "", syscall.EINVAL
	}
	f, err := r.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	return f, name, err
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

func (s *server) open(r *os.Root, q request) (a answer, err error) {
	if len(s.handles) >= maxHandles {
		return a, syscall.ENFILE
	}
	o := q.Open
	path := q.Path
	if !o.Follow && !strings.HasSuffix(path, "/") {
		info, err := r.Lstat(path)
		if err == nil && info.Mode()&os.ModeSymlink != 0 {
			if o.Create && o.Excl {
				return a, syscall.EEXIST
			}
			return a, syscall.ELOOP
		}
	}
	if o.Create && o.Excl {
		if _, err := r.Lstat(bare(path)); err == nil {
			return a, syscall.EEXIST // a link that dangles included
		}
	}
	info, serr := r.Stat(path)
	if serr == nil && info.IsDir() {
		switch {
		case o.Create && o.Excl:
			return a, syscall.EEXIST
		case o.Write || o.Create || o.Trunc:
			return a, syscall.EISDIR
		}
		sub, err := r.OpenRoot(path)
		if err != nil {
			return a, err
		}
		a.Handle, a.IsDir = s.keep(sub), true
		return a, nil
	}
	if serr == nil && (o.Directory || strings.HasSuffix(path, "/")) {
		return a, syscall.ENOTDIR
	}
	if serr != nil && o.Create && strings.HasSuffix(path, "/") {
		return a, syscall.EISDIR
	}
	if serr == nil && !info.Mode().IsRegular() {
		return a, syscall.ENOTSUP // devices and pipes of the host are not for guests
	}
	// A pipe put here since the look above must not block the server.
	flags := os.O_RDONLY | syscall.O_NONBLOCK
	if o.Write {
		flags |= os.O_WRONLY
		if o.Read {
			flags = flags&^os.O_WRONLY | os.O_RDWR
		}
	}
	if o.Create {
		flags |= os.O_CREATE
	}
	if o.Excl {
		flags |= os.O_EXCL
	}
	if o.Trunc {
		flags |= os.O_TRUNC
	}
	f, err := r.OpenFile(path, flags, 0o666)
	if err != nil {
		return a, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return a, errors.Join(err, syscall.ENOTSUP)
	}
	a.Handle = s.keep(f)
	return a, nil
}

func (s *server) keep(x any) uint32 {
	for s.next == 0 || s.handles[s.next] != nil {
		s.next++
	}
	h := s.next
	s.next++
	s.handles[h] = x
	return h
}

func statAt(r *os.Root, path string, follow bool) (os.FileInfo, error) {
	if follow || strings.HasSuffix(path, "/") {
		info, err := r.Stat(path)
		if err == nil && strings.HasSuffix(path, "/") && !info.IsDir() {
			return nil, syscall.ENOTDIR
		}
		return info, err
	}
	return r.Lstat(path)
}

func remove(r *os.Root, q request) error {
	trimmed := bare(q.Path)
	info, err := r.Lstat(trimmed)
	if err != nil {
		return err
	}
	switch {
	case q.Op == opRmdir && info.IsDir() && dotted(q.Path):
		return syscall.EINVAL
	case q.Op == opRmdir && !info.IsDir():
		return syscall.ENOTDIR
	case q.Op == opUnlink && info.IsDir():
		return syscall.EISDIR
	case q.Op == opUnlink && trimmed != q.Path:
		return syscall.ENOTDIR
	}
	return r.Remove(trimmed)
}

func (s *server) setTimesAt(r *os.Root, q request) error {
	if q.Follow {
		f, err := r.OpenFile(q.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return setTimes(q, func(ts []unix.Timespec) error { return futimens(f, ts) })
	}
	dir, name, err := parent(r, q.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return setTimes(q, func(ts []unix.Timespec) error {
		return unix.UtimesNanoAt(int(dir.Fd()), name, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// futimens sets times by descriptor: a name could have been exchanged for a link
// meanwhile.
func futimens(f *os.File, ts []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), ts, 0)
}

func setTimes(q request, apply func([]unix.Timespec) error) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	if q.Atim != nil {
		ts[0] = unix.NsecToTimespec(*q.Atim)
	}
	if q.Mtim != nil {
		ts[1] = unix.NsecToTimespec(*q.Mtim)
	}
	return apply(ts)
}

func statOf(info os.FileInfo) Stat {
	st := Stat{Type: TypeUnknown, Size: uint64(max(0, info.Size())), Nlink: 1}
	switch m := info.Mode(); {
	case m.IsRegular():
		st.Type = TypeRegular
	case m.IsDir():
		st.Type = TypeDirectory
	case m&os.ModeSymlink != 0:
		st.Type = TypeSymlink
	}
	if x, ok := info.Sys().(*syscall.Stat_t); ok {
		st.Dev, st.Ino, st.Nlink = uint64(x.Dev), x.Ino, uint64(x.Nlink)
		st.Atim, st.Mtim, st.Ctim = x.Atim.Nano(), x.Mtim.Nano(), x.Ctim.Nano()
	}
	return st
}

// errnoOf gives WASI's number for an error of the host's file system.
func errnoOf(err error) Errno {
	if err == nil {
		return 0
	}
	if strings.Contains(err.Error(), "path escapes from parent") {
		return ErrnoPerm
	}
	var e syscall.Errno
	if !errors.As(err, &e) {
		if errors.Is(err, os.ErrInvalid) {
			return ErrnoInval
		}
		return ErrnoIo
	}
	m := map[syscall.Errno]Errno{
		syscall.EACCES: ErrnoAccess, syscall.EBADF: ErrnoBadf, syscall.EBUSY: ErrnoBusy, syscall.EEXIST: ErrnoExist,
		syscall.EFBIG: ErrnoFbig, syscall.EINVAL: ErrnoInval, syscall.EISDIR: ErrnoIsdir, syscall.ELOOP: ErrnoLoop,
		syscall.EMFILE: ErrnoMfile, syscall.EMLINK: ErrnoMlink, syscall.ENAMETOOLONG: ErrnoNametoolong,
		syscall.ENFILE: ErrnoNfile, syscall.ENOENT: ErrnoNoent, syscall.ENOMEM: ErrnoNomem, syscall.ENOSPC: ErrnoNospc,
		syscall.ENOTDIR: ErrnoNotdir, syscall.ENOTEMPTY: ErrnoNotempty, syscall.ENOTSUP: ErrnoNotsup,
		syscall.EPERM: ErrnoPerm, syscall.EROFS: ErrnoRofs, syscall.EXDEV: ErrnoXdev, syscall.EDQUOT: ErrnoNospc,
	}
	if w, ok := m[e]; ok {
		return w
	}
	return ErrnoIo
}
