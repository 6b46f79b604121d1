//go:build linux

package vfs

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
