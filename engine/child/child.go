//go:build linux

// Package child runs one guest in a process of its own and is both ends of the
// socket between that process and the warden.
//
// Why a process: compiled guest code is not preemptible, so it stalls Go's
// garbage collector and with it every goroutine of its process; keys and TLS must
// not share an address space with code that a workload chose; and to kill a
// process is the only cheap way to interrupt it. The warden (package warden)
// spawns the child before it has read anything from the host, later hands it the
// module and one kernel descriptor for each guest descriptor, and treats what
// comes back as it treats the host: it may be an escaped guest (THREATS T19).
//
// Both ends are the same program, so the messages have no version.
package child

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// Bounds of what crosses the control socket.
const (
	maxMessage = 16 << 10
	maxSpec    = 4 << 20
	// MaxDescriptors is how many descriptors a guest may be given at its start:
	// one message carries them all (SCM_MAX_FD is 253).
	MaxDescriptors = 240
)

// MountKind says what a guest's directory is made of.
type MountKind uint8

// The kinds of mounts.
const (
	MountArchive MountKind = 1 // a measured tar, read-only; takes a descriptor
	MountScratch MountKind = 2 // memory of Size bytes
	MountHost    MountKind = 3 // a folder of the host over a socket; takes a descriptor
)

// File is one guest descriptor; Kind is the engine's FileKind.
type File struct {
	Name string `cbor:"1,keyasint"`
	Kind uint8  `cbor:"2,keyasint"`
	TTY  bool   `cbor:"3,keyasint,omitempty"`
}

// Mount is one pre-opened directory.
type Mount struct {
	Guest string    `cbor:"1,keyasint"`
	Kind  MountKind `cbor:"2,keyasint"`
	Size  uint64    `cbor:"3,keyasint,omitempty"`
}

// Job is what a child is told about a module before it compiles it. Nothing of
// what the guest will run with is needed for that, so it begins while the rest is
// still on its way.
type Job struct {
	// Cache lets the child compile with its cache folder: it waits for Code, uses
	// the machine code that comes, and hands over what it made where none comes.
	Cache bool `cbor:"1,keyasint"`
	Weak  bool `cbor:"2,keyasint"`
}

// Spec is what the guest runs with.
type Spec struct {
	Args      []string `cbor:"1,keyasint"`
	Env       []string `cbor:"2,keyasint"`
	Files     []File   `cbor:"3,keyasint"`
	Mounts    []Mount  `cbor:"4,keyasint"`
	MaxMemory uint64   `cbor:"5,keyasint"`
	Weak      bool     `cbor:"6,keyasint"`
	// NotBefore is the earliest time (Unix seconds) the guest's clock may show.
	NotBefore int64 `cbor:"7,keyasint"`
}

// code says that the machine code lies in the file that the child has opened for
// it, and what the engine calls it; "" that none comes.
type code struct {
	Name string `cbor:"1,keyasint"`
}

// event is what the child says.
type event struct {
	Kind uint8 `cbor:"1,keyasint"`
	// compiled: name of the cache entry whose descriptor comes along, or "".
	CacheName string `cbor:"2,keyasint,omitempty"`
	// failed, done
	Module        bool     `cbor:"3,keyasint,omitempty"` // the module is at fault
	Text          string   `cbor:"4,keyasint,omitempty"`
	Hint          string   `cbor:"5,keyasint,omitempty"`
	Status        uint32   `cbor:"6,keyasint,omitempty"`
	Trap          string   `cbor:"7,keyasint,omitempty"`
	MemoryRefused bool     `cbor:"8,keyasint,omitempty"`
	Notes         []string `cbor:"9,keyasint,omitempty"`
}

const (
	eventCompiled uint8 = 1
	eventFailed   uint8 = 2
	eventDone     uint8 = 3
	eventReady    uint8 = 4 // confined; the file for the machine code comes along, where there is a cache folder
)

// What the warden says; each begins with one of these words. The rest of the
// message is CBOR: a Job, a code, nothing, nothing.
const (
	wordConfine = 'c' // the file system is the Keep's own now
	wordCompile = 'm' // Job; descriptor: the module
	wordCode    = 'x' // code
	wordRun     = 'r' // descriptors: memory file with the Spec, then the guest's
)

func unmarshal(b []byte, v any) error {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 5,
		MaxArrayElements: 1 << 16, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		return err
	}
	return mode.Unmarshal(b, v)
}

// send writes one message with descriptors to a SOCK_SEQPACKET socket.
func send(fd int, msg []byte, fds []int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(fd, msg, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// errGone is given when the other end of the control socket is closed.
var errGone = errors.New("child: the other process has ended")

// receive reads one message and the descriptors that came along, which the
// caller owns; a message that does not fit is refused. That the other end was
// closed with messages unread is told by an error, once: what it had sent before
// comes after it.
func receive(fd, maxFDs int) ([]byte, []int, error) {
	buf := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4*max(maxFDs, 1)))
	var n, oobn, flags int
	var err error
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR && err != unix.ECONNRESET {
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("child: control socket: %w", err)
	}
	fds, err := parseRights(oob[:oobn])
	if err == nil && (flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(fds) > maxFDs) {
		err = errors.New("child: a control message is too long")
	}
	if err == nil && n == 0 {
		err = errGone
	}
	if err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	return buf[:n], fds, nil
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("child: control message: %w", err)
	}
	var fds []int
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("child: control message: %w", err)
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Memory makes a sealed memory file of size bytes, which fill writes. Nobody can
// change them any more when it returns. Written, not mapped: a page that is
// written whole needs no zeroes and no fault first.
func Memory(name string, size int64, fill func(io.Writer) error) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("child: memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := fillMemory(f, fd, size, fill); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func fillMemory(f *os.File, fd int, size int64, fill func(io.Writer) error) error {
	if err := fill(f); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("child: memory file: %w", err)
	}
	if st.Size != size {
		return fmt.Errorf("child: memory file: found %d bytes, wanted %d", st.Size, size)
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("child: sealing a memory file: %w", err)
	}
	return nil
}

// Bytes is Memory of b.
func Bytes(name string, b []byte) (*os.File, error) {
	return Memory(name, int64(len(b)), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

const populated = 64 << 20

// mapMemory maps a memory file read-only; most bounds its size.
func mapMemory(fd int, most int64) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("child: memory file: %w", err)
	}
	if st.Size > most {
		return nil, fmt.Errorf("child: memory file of %d bytes, at most %d", st.Size, most)
	}
	if st.Size == 0 {
		return nil, nil
	}
	flags := unix.MAP_SHARED
	if st.Size <= populated {
		flags |= unix.MAP_POPULATE // all of it is read: one call instead of many faults
	}
	m, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, flags)
	if err != nil {
		return nil, fmt.Errorf("child: memory file: %w", err)
	}
	return m, nil
}
