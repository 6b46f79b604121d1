//go:build linux

package vfs

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
	err = unix.Renameat(int(from.Fd()), fromName, int(dst.Fd()), dstName)
	if err == unix.EEXIST { // some file systems say so of a folder that is not empty
		err = unix.ENOTEMPTY
	}
	return err
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
