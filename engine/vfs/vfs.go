// Package vfs is what a guest sees as files: trees that are not the host's. The
// WASI layer (engine/wasi) resolves descriptors and asks a Dir; a Dir resolves
// paths, and never leaves itself: a path with too many "..", an absolute path or
// a symbolic link that leads out is ErrnoPerm. Errors are WASI's own numbers, so
// nothing is translated twice.
//
// Trees: memory.go (scratch), archive.go (measured data, read-only), and a host
// folder across the link (client.go, server.go), for development.
package vfs

// Errno is a WASI preview 1 errno. 0 is success.
type Errno uint16

// The numbers used (WASI preview 1, witx/typenames, errno).
const (
	Success          Errno = 0
	ErrnoAccess      Errno = 2
	ErrnoAgain       Errno = 6
	ErrnoBadf        Errno = 8
	ErrnoBusy        Errno = 10
	ErrnoConnAborted Errno = 13
	ErrnoConnReset   Errno = 15
	ErrnoExist       Errno = 20
	ErrnoFault       Errno = 21
	ErrnoFbig        Errno = 22
	ErrnoIlseq       Errno = 25
	ErrnoIntr        Errno = 27
	ErrnoInval       Errno = 28
	ErrnoIo          Errno = 29
	ErrnoIsdir       Errno = 31
	ErrnoLoop        Errno = 32
	ErrnoMfile       Errno = 33
	ErrnoMlink       Errno = 34
	ErrnoNametoolong Errno = 37
	ErrnoNfile       Errno = 41
	ErrnoNoent       Errno = 44
	ErrnoNomem       Errno = 48
	ErrnoNospc       Errno = 51
	ErrnoNosys       Errno = 52
	ErrnoNotconn     Errno = 53
	ErrnoNotdir      Errno = 54
	ErrnoNotempty    Errno = 55
	ErrnoNotsock     Errno = 57
	ErrnoNotsup      Errno = 58
	ErrnoPerm        Errno = 63
	ErrnoPipe        Errno = 64
	ErrnoRofs        Errno = 69
	ErrnoSpipe       Errno = 70
	ErrnoXdev        Errno = 75
	ErrnoNotcapable  Errno = 76
)

// FileType is a WASI filetype.
type FileType uint8

// The types.
const (
	TypeUnknown   FileType = 0
	TypeCharacter FileType = 2
	TypeDirectory FileType = 3
	TypeRegular   FileType = 4
	TypeSocket    FileType = 6 // stream socket
	TypeSymlink   FileType = 7
)

// Stat is what is known about a file; times are nanoseconds since 1970.
type Stat struct {
	Dev, Ino         uint64
	Type             FileType
	Nlink, Size      uint64
	Atim, Mtim, Ctim int64
}

// Times are new times; nil leaves one as it is.
type Times struct{ Atim, Mtim *int64 }

// OpenOptions say how a path is opened.
type OpenOptions struct {
	Create, Excl, Trunc, Directory bool
	Follow                         bool // the last component may be a symbolic link
	Read, Write                    bool
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Ino  uint64
	Type FileType
}

// Handle is an open file or directory.
type Handle interface {
	Stat() (Stat, Errno)
	SetTimes(Times) Errno
	Sync(dataOnly bool) Errno
	Close() Errno
}

// File is an open regular file; it has no position of its own.
type File interface {
	Handle
	ReadAt(p []byte, off int64) (int, Errno) // 0 at the end
	WriteAt(p []byte, off int64) (int, Errno)
	Append(p []byte) (int, Errno)
	Truncate(size int64) Errno
	Allocate(off, n int64) Errno
}

// Dir is an open directory: paths are relative to it and stay inside it.
type Dir interface {
	Handle
	Open(path string, o OpenOptions) (Handle, Errno)
	Mkdir(path string) Errno
	Rmdir(path string) Errno
	Unlink(path string) Errno
	Symlink(target, path string) Errno
	Readlink(path string) (string, Errno)
	Link(old string, follow bool, dst Dir, path string) Errno
	Rename(old string, dst Dir, path string) Errno
	StatAt(path string, follow bool) (Stat, Errno)
	SetTimesAt(path string, follow bool, t Times) Errno
	ReadDir() ([]Entry, Errno) // without "." and ".."
}
