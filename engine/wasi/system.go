//go:build linux

// Package wasi is WASI preview 1, whole and ours: every function of
// wasi_snapshot_preview1 over raw kernel descriptors (sockets, pipes) and over
// engine/vfs (files). Source: the witx files of WASI snapshot preview 1.
//
// Why not the engine's own: it cannot serve sockets, its poll burns a core, and
// its folder mounts can be left by symbolic link. A System belongs to one guest,
// which is one thread; nothing here is safe for two. All pointers and lengths
// come from the guest: each is checked against its memory before it is used.
package wasi

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/api"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

// ModuleName is the module that guests import from.
const ModuleName = "wasi_snapshot_preview1"

// Kind is what a descriptor that a guest starts with is made of.
type Kind uint8

// The kinds.
const (
	Null           Kind = 1 // reads end at once, writes vanish
	Input          Kind = 2 // a readable kernel descriptor
	Output         Kind = 3 // a writable one
	Conn           Kind = 4 // a connected stream socket
	Listener       Kind = 5 // a unix socket on which connections are passed
	SocketListener Kind = 6 // a listening socket
)

// Bounds of what one call may ask for.
const (
	maxDescriptors = 16 << 10
	maxIovecs      = 1024
	maxPath        = 4096
	maxEvents      = 4096
)

// System is one guest's world.
type System struct {
	Args, Env []string
	Now       func() time.Time
	started   time.Time
	fds       []*descriptor
	iov       [][]byte
	vec       []unix.Iovec
	poll      []unix.PollFd
	subs      []subscription
}

type descriptor struct {
	kind     Kind // 0: a vfs handle
	fd       int
	never    bool // the kernel's descriptor is a socket that never blocks
	terminal bool
	file     vfs.File
	dir      vfs.Dir
	preopen  string // guest path of a pre-opened directory
	flags    uint16
	base     uint64
	inherit  uint64
	pos      int64
	entries  []vfs.Entry // of a directory, read at cookie 0
}

func (d *descriptor) fileType() vfs.FileType {
	switch {
	case d.socket() == 0:
		return vfs.TypeSocket
	case d.terminal: // to a guest a terminal is a character device and nothing else is one
		return vfs.TypeCharacter
	case d.kind != 0:
		return vfs.TypeUnknown
	}
	if d.dir != nil {
		return vfs.TypeDirectory
	}
	return vfs.TypeRegular
}

// Traits are what else is said about a kernel descriptor.
type Traits struct {
	Nonblock bool // as the guest sees it; a socket never blocks in the kernel
	Terminal bool // a person is at the other end
}

// AddKernel gives the guest the next descriptor over a kernel descriptor, which
// it owns from here on.
func (s *System) AddKernel(k Kind, fd int, t Traits) error {
	d := &descriptor{kind: k, fd: fd, base: rightsStream, terminal: t.Terminal}
	switch k {
	case Input:
		d.base = rightRead | rightFdstatSetFlags | rightFilestatGet | rightPoll
	case Output:
		d.base = rightWrite | rightFdstatSetFlags | rightFilestatGet | rightPoll
	case Null:
		d.fd = -1
	case Listener, SocketListener:
		d.base = rightsListener
		d.inherit = rightsStream
	}
	if t.Nonblock {
		d.flags = flagNonblock
	}
	s.fds = append(s.fds, d)
	if k == Null || !isSocket(fd) {
		// A terminal's or pipe's description may be shared with other programs:
		// its blocking mode is left alone, and polled before each use.
		return nil
	}
	d.never = true
	return unix.SetNonblock(fd, true)
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// AddPreopen gives the guest the next descriptor over a directory.
func (s *System) AddPreopen(guest string, dir vfs.Dir) {
	s.fds = append(s.fds, &descriptor{dir: dir, fd: -1, preopen: guest, base: rightsDir, inherit: rightsDir | rightsFile})
}

// Close closes what the guest left open.
func (s *System) Close() {
	for i, d := range s.fds {
		if d != nil {
			d.close()
			s.fds[i] = nil
		}
	}
}

func (d *descriptor) close() vfs.Errno {
	switch {
	case d.file != nil:
		return d.file.Close()
	case d.dir != nil:
		return d.dir.Close()
	case d.fd >= 0:
		_ = unix.Close(d.fd)
	}
	return 0
}

func (s *System) get(fd uint64) (*descriptor, vfs.Errno) {
	n := uint32(fd)
	if int64(n) >= int64(len(s.fds)) || s.fds[n] == nil {
		return nil, vfs.ErrnoBadf
	}
	return s.fds[n], 0
}

// with gives a descriptor that has the rights a call needs.
func (s *System) with(fd, rights uint64) (*descriptor, vfs.Errno) {
	d, e := s.get(fd)
	if e == 0 && d.base&rights != rights {
		e = vfs.ErrnoNotcapable
	}
	return d, e
}

func (s *System) dirAt(fd, rights uint64) (*descriptor, vfs.Errno) {
	d, e := s.get(fd)
	if e != 0 {
		return nil, e
	}
	if d.dir == nil {
		return nil, vfs.ErrnoNotdir
	}
	if d.base&rights != rights {
		return nil, vfs.ErrnoNotcapable
	}
	return d, 0
}

// install puts a descriptor at the lowest free number.
func (s *System) install(d *descriptor) (uint32, vfs.Errno) {
	for i, x := range s.fds {
		if x == nil {
			s.fds[i] = d
			return uint32(i), 0
		}
	}
	if len(s.fds) >= maxDescriptors {
		d.close()
		return 0, vfs.ErrnoNfile
	}
	s.fds = append(s.fds, d)
	return uint32(len(s.fds) - 1), 0
}

// memory is the guest's; every access says whether it was inside.
type memory struct{ api.Memory }

func (m memory) put32(p uint64, v uint32) vfs.Errno {
	if !m.WriteUint32Le(uint32(p), v) {
		return vfs.ErrnoFault
	}
	return 0
}

func (m memory) put64(p uint64, v uint64) vfs.Errno {
	if !m.WriteUint64Le(uint32(p), v) {
		return vfs.ErrnoFault
	}
	return 0
}

func (m memory) bytes(p, n uint64) ([]byte, vfs.Errno) {
	b, ok := m.Read(uint32(p), uint32(n))
	if !ok {
		return nil, vfs.ErrnoFault
	}
	return b, 0
}

func (m memory) path(p, n uint64) (string, vfs.Errno) {
	if uint32(n) > maxPath {
		return "", vfs.ErrnoNametoolong
	}
	b, e := m.bytes(p, n)
	if e != 0 {
		return "", e
	}
	if !utf8.Valid(b) {
		return "", vfs.ErrnoIlseq
	}
	for _, c := range b {
		if c == 0 {
			return "", vfs.ErrnoInval
		}
	}
	return string(b), 0
}

// iovecs gives views into the guest's memory, in a slice that is used again by
// the next call.
func (s *System) iovecs(m memory, p, n uint64) ([][]byte, vfs.Errno) {
	if uint32(n) > maxIovecs {
		return nil, vfs.ErrnoInval
	}
	raw, e := m.bytes(p, uint64(uint32(n))*8)
	if e != 0 {
		return nil, e
	}
	s.iov = s.iov[:0]
	for ; len(raw) > 0; raw = raw[8:] {
		b, e := m.bytes(uint64(binary.LittleEndian.Uint32(raw)), uint64(binary.LittleEndian.Uint32(raw[4:])))
		if e != 0 {
			return nil, e
		}
		if len(b) > 0 {
			s.iov = append(s.iov, b)
		}
	}
	return s.iov, 0
}
