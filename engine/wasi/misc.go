//go:build linux

package wasi

import (
	"context"
	"crypto/rand"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/donjon-tee/donjon/engine/vfs"
)

func stringsGet(m memory, list []string, ptrs, buf uint64) vfs.Errno {
	for i, v := range list {
		if e := m.put32(ptrs+4*uint64(i), uint32(buf)); e != 0 {
			return e
		}
		b, e := m.bytes(buf, uint64(len(v)+1))
		if e != 0 {
			return e
		}
		copy(b, v)
		b[len(v)] = 0
		buf += uint64(len(v) + 1)
	}
	return 0
}

func stringsSizes(m memory, list []string, count, size uint64) vfs.Errno {
	n := 0
	for _, v := range list {
		n += len(v) + 1
	}
	if e := m.put32(count, uint32(len(list))); e != 0 {
		return e
	}
	return m.put32(size, uint32(n))
}

func argsGet(s *System, m memory, a []uint64) vfs.Errno { return stringsGet(m, s.Args, a[0], a[1]) }
func argsSizesGet(s *System, m memory, a []uint64) vfs.Errno {
	return stringsSizes(m, s.Args, a[0], a[1])
}
func environGet(s *System, m memory, a []uint64) vfs.Errno { return stringsGet(m, s.Env, a[0], a[1]) }
func environSizesGet(s *System, m memory, a []uint64) vfs.Errno {
	return stringsSizes(m, s.Env, a[0], a[1])
}

// Clock ids.
const (
	clockRealtime   = 0
	clockMonotonic  = 1
	clockProcessCPU = 2
	clockThreadCPU  = 3
)

func clockResGet(_ *System, m memory, a []uint64) vfs.Errno {
	switch uint32(a[0]) {
	case clockRealtime, clockMonotonic:
		return m.put64(a[1], 1000)
	case clockProcessCPU, clockThreadCPU:
		return vfs.ErrnoNotsup
	}
	return vfs.ErrnoInval
}

func clockTimeGet(s *System, m memory, a []uint64) vfs.Errno {
	switch uint32(a[0]) {
	case clockRealtime:
		return m.put64(a[2], uint64(s.now().UnixNano()))
	case clockMonotonic:
		return m.put64(a[2], s.monotonic())
	case clockProcessCPU, clockThreadCPU:
		return vfs.ErrnoNotsup
	}
	return vfs.ErrnoInval
}

func (s *System) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// monotonic counts from the guest's start and is never 0, which some guests take
// for "no clock".
func (s *System) monotonic() uint64 { return uint64(time.Since(s.started)) + 1 }

// Start sets the beginning of the guest's monotonic clock.
func (s *System) Start() { s.started = time.Now() }

func randomGet(_ *System, m memory, a []uint64) vfs.Errno {
	b, e := m.bytes(a[0], a[1])
	if e != 0 {
		return e
	}
	rand.Read(b)
	return 0
}

func schedYield(*System, memory, []uint64) vfs.Errno {
	runtime.Gosched()
	return 0
}

func procRaise(*System, memory, []uint64) vfs.Errno { return vfs.ErrnoNosys }

// procExit unwinds the guest.
func procExit(ctx context.Context, mod api.Module, stack []uint64) {
	code := uint32(stack[0])
	_ = mod.CloseWithExitCode(ctx, code)
	panic(sys.NewExitError(code))
}
