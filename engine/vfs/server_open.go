//go:build linux

package vfs

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

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
