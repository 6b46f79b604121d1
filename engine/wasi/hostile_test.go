//go:build linux

package wasi

import (
	"context"
	"encoding/binary"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

// world is a guest with one page of memory, the tree /, and null streams.
func world(t testing.TB) (*System, memory) {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { r.Close(ctx) })
	// A module that is one exported memory of one page.
	m, err := r.Instantiate(ctx, []byte("\x00asm\x01\x00\x00\x00\x05\x04\x01\x01\x01\x01\x07\x07\x01\x03mem\x02\x00"))
	if err != nil {
		t.Fatal(err)
	}
	s := &System{Args: []string{"a"}, Env: []string{"B=c"}}
	t.Cleanup(s.Close)
	for range 3 {
		if err := s.AddKernel(Null, -1, Traits{}); err != nil {
			t.Fatal(err)
		}
	}
	s.AddPreopen("/", vfs.NewMemory(vfs.Limits{Bytes: 1 << 20, Inodes: 64}))
	s.Start()
	return s, memory{m.Memory()}
}

// TestAllFunctions: the 45 functions of the first snapshot and sock_accept, which
// was added to it later; none is missing and none is there twice.
func TestAllFunctions(t *testing.T) {
	seen := map[string]bool{"proc_exit": true}
	for _, f := range functions {
		if seen[f.name] {
			t.Errorf("%s is there twice", f.name)
		}
		seen[f.name] = true
		if !Provides(f.name) {
			t.Errorf("%s is not provided", f.name)
		}
	}
	if len(seen) != 46 {
		t.Errorf("functions: found %d, wanted 46", len(seen))
	}
	if Provides("sock_open") {
		t.Error("a function that does not exist is provided")
	}
}

// FuzzCalls gives every call every sort of number and memory: none may panic, and
// none may write outside the guest's memory. Calls that wait are given nothing
// that they could wait for.
func FuzzCalls(f *testing.F) {
	f.Add(uint8(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), []byte{})
	for i := range functions {
		f.Add(uint8(i), uint64(3), uint64(0), uint64(8), uint64(16), uint64(32), []byte("file\x00dir/../x"))
		f.Add(uint8(i), uint64(3), uint64(0xffffffff), uint64(0xffffffff), uint64(0xfffffff8), uint64(1)<<63, []byte{})
		f.Add(uint8(i), uint64(0), uint64(0), uint64(1), uint64(64), uint64(128), []byte{0, 0, 0, 0, 255, 255, 255, 255})
	}
	s, m := world(f)
	f.Fuzz(func(_ *testing.T, which uint8, a, b, c, d, e uint64, mem []byte) {
		fn := functions[int(which)%len(functions)]
		m.Write(0, mem[:min(len(mem), 1<<15)])
		if fn.name == "poll_oneoff" {
			// The first subscription is ready at once, so that no wait is long.
			a, c = 0, min(uint64(uint32(c)), 1024)
			var sub [subscriptionSize]byte
			sub[8] = eventFdWrite
			m.Write(0, sub[:])
		}
		args := []uint64{a, b, c, d, e, a, b, c, d}
		for i := range fn.params {
			if fn.params[i] == 'i' {
				args[i] = uint64(uint32(args[i])) // as the engine hands them over
			}
		}
		fn.call(s, m, args)
		if len(s.fds) > 1000 {
			s.Close()
			s.fds = s.fds[:0]
			s.AddPreopen("/", vfs.NewMemory(vfs.Limits{Bytes: 1 << 20, Inodes: 64}))
		}
	})
}

func FuzzIovecs(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 4, 0, 0, 0}, uint64(0), uint64(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0}, uint64(0), uint64(1))
	f.Add([]byte{}, uint64(0xfffffff9), uint64(1))
	f.Add([]byte{}, uint64(0), uint64(0x20000001))
	s, m := world(f)
	f.Fuzz(func(t *testing.T, mem []byte, p, n uint64) {
		m.Write(0, mem[:min(len(mem), 1<<15)])
		v, e := s.iovecs(m, uint64(uint32(p)), uint64(uint32(n)))
		if e == 0 && (len(v) > maxIovecs || uint32(n) > maxIovecs) {
			t.Errorf("%d vectors, at most %d are allowed", n, maxIovecs)
		}
		for _, b := range v {
			if len(b) > 1<<16 {
				t.Errorf("a vector of %d bytes in a memory of one page", len(b))
			}
		}
	})
}

// TestSockets: what a server's runtime asks of a listener and of a connection.
func TestSockets(t *testing.T) {
	s, m := world(t)
	call := func(want vfs.Errno, f call, a ...uint64) {
		t.Helper()
		if e := f(s, m, a); e != want {
			t.Errorf("errno: found %d, wanted %d", e, want)
		}
	}
	u32 := func(p uint32) uint32 { v, _ := m.ReadUint32Le(p); return v }
	lp, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	peer := cp[1]
	defer unix.Close(peer)
	if err := s.AddKernel(Listener, lp[0], Traits{Nonblock: true}); err != nil { // descriptor 4
		t.Fatal(err)
	}
	const listener, conn = 4, 5
	call(0, fdFdstatGet, listener, 0)
	if b, _ := m.Read(0, 4); b[0] != byte(vfs.TypeSocket) || binary.LittleEndian.Uint16(b[2:])&flagNonblock == 0 {
		t.Errorf("fdstat of a listener: found % x", b)
	}
	call(0, fdPrestatGet, listener, 0)
	if u32(0) != 1 {
		t.Errorf("prestat tag of a socket: found %d, wanted 1", u32(0))
	}
	call(vfs.ErrnoAgain, sockAccept, listener, 0, 0)
	call(vfs.ErrnoInval, sockAccept, listener, 1, 0) // APPEND is no flag of a socket
	call(vfs.ErrnoNotsock, sockAccept, 3, 0, 0)
	if err := unix.Sendmsg(lp[1], []byte{0}, unix.UnixRights(cp[0]), nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(cp[0])
	call(0, sockAccept, listener, uint64(flagNonblock), 0)
	if u32(0) != conn {
		t.Fatalf("descriptor: found %d, wanted %d", u32(0), conn)
	}
	// One vector of 8 bytes at 64.
	m.WriteUint32Le(16, 64)
	m.WriteUint32Le(20, 8)
	call(vfs.ErrnoAgain, fdRead, conn, 16, 1, 0)
	call(vfs.ErrnoAgain, sockRecv, conn, 16, 1, 0, 0, 4)
	if _, err := unix.Write(peer, []byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	call(0, sockRecv, conn, 16, 1, recvPeek, 0, 4)
	call(0, sockRecv, conn, 16, 1, 0, 0, 4)
	if b, _ := m.Read(64, 6); u32(0) != 6 || string(b) != "abcdef" {
		t.Errorf("received %q of %d bytes", b, u32(0))
	}
	call(vfs.ErrnoInval, sockRecv, conn, 16, 1, 4, 0, 4)
	call(vfs.ErrnoNotsock, sockRecv, 0, 16, 1, 0, 0, 4)
	call(0, sockSend, conn, 16, 1, 0, 0)
	call(0, fdWrite, conn, 16, 1, 0)
	var got [32]byte
	if n, err := unix.Read(peer, got[:]); err != nil || n != 16 {
		t.Errorf("the peer read %d bytes, %v, wanted 16", n, err)
	}
	// A connection has no data, and room: one poll says so.
	sub := make([]byte, 2*subscriptionSize)
	sub[8], sub[16] = eventFdRead, conn
	sub[subscriptionSize+8], sub[subscriptionSize+16] = eventFdWrite, conn
	m.Write(256, sub)
	call(0, pollOneoff, 256, 512, 2, 0)
	if b, _ := m.Read(512, eventSize); u32(0) != 1 || b[10] != eventFdWrite {
		t.Errorf("poll: found %d events, % x, wanted one, writable", u32(0), b)
	}
	call(0, sockShutdown, conn, 2)
	if n, err := unix.Read(peer, got[:]); err != nil || n != 0 {
		t.Errorf("after shutdown the peer read %d bytes, %v, wanted the end", n, err)
	}
	call(vfs.ErrnoInval, sockShutdown, conn, 0)
	call(vfs.ErrnoInval, sockShutdown, conn, 4)
	call(vfs.ErrnoPipe, fdWrite, conn, 16, 1, 0)
	unix.Close(peer)
	peer = -1
	m.Write(256, sub[:subscriptionSize])
	call(0, pollOneoff, 256, 512, 1, 0)
	if b, _ := m.Read(512, eventSize); b[24] != eventHangup {
		t.Errorf("poll of a closed connection: found % x, wanted hangup", b)
	}
	call(0, fdRead, conn, 16, 1, 0)
	if u32(0) != 0 {
		t.Error("a closed connection does not read as ended")
	}
	unix.Close(lp[1])
	call(vfs.ErrnoInval, sockAccept, listener, 0, 0)
	call(0, fdClose, conn)
	call(vfs.ErrnoBadf, fdRead, conn, 16, 1, 0)
}

// TestCallsDoNotAllocate: the calls of a busy server make no garbage.
func TestCallsDoNotAllocate(t *testing.T) {
	s, m := world(t)
	m.WriteUint32Le(16, 64)
	m.WriteUint32Le(20, 8)
	sub := make([]byte, subscriptionSize)
	sub[8] = eventFdWrite
	m.Write(256, sub)
	for name, f := range map[string]func() vfs.Errno{
		"clock_time_get": func() vfs.Errno { return clockTimeGet(s, m, []uint64{clockMonotonic, 0, 0}) },
		"fd_write":       func() vfs.Errno { return fdWrite(s, m, []uint64{1, 16, 1, 0}) },
		"fd_read":        func() vfs.Errno { return fdRead(s, m, []uint64{0, 16, 1, 0}) },
		"fd_fdstat_get":  func() vfs.Errno { return fdFdstatGet(s, m, []uint64{1, 0}) },
		"poll_oneoff":    func() vfs.Errno { return pollOneoff(s, m, []uint64{256, 512, 1, 0}) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if e := f(); e != 0 {
				t.Fatalf("%s: errno %d", name, e)
			}
		}); n > 0 {
			t.Errorf("%s allocates %v times a call", name, n)
		}
	}
}

// A guest is told of a terminal where there is one, and only there: programs
// prompt and flush by it.
func TestTerminals(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		t    Traits
		want vfs.FileType
	}{
		{Output, Traits{Terminal: true}, vfs.TypeCharacter},
		{Output, Traits{}, vfs.TypeUnknown},
		{Input, Traits{Terminal: true}, vfs.TypeCharacter},
		{Input, Traits{}, vfs.TypeUnknown},
		{Null, Traits{}, vfs.TypeUnknown},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s := &System{}
		if err := s.AddKernel(c.kind, int(w.Fd()), c.t); err != nil {
			t.Fatal(err)
		}
		if got := s.fds[0].fileType(); got != c.want {
			t.Errorf("%d, %+v: found type %d, wanted %d", c.kind, c.t, got, c.want)
		}
		r.Close()
		w.Close()
	}
}
