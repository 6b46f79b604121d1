//go:build linux

package engine

import (
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// allocator gives guests their memory: address space is reserved once, pages are
// opened as the guest grows, nothing is ever copied. The engine's own allocator
// needs four times the memory for a guest that grows to 600 MB.
type allocator struct {
	limit   uint64
	refused bool // a guest was told no
}

type linearMemory struct {
	a    *allocator
	all  []byte
	open uint64
}

// Allocate reserves for max bytes; the engine grows the memory to its first size
// by Reallocate.
func (a *allocator) Allocate(_, most uint64) experimental.LinearMemory {
	m := &linearMemory{a: a}
	size := min(most, a.limit, 4<<30)
	if size == 0 {
		return m
	}
	const page = 64 << 10
	size = (size + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, int(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		m.all = all
	}
	return m
}

func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > m.a.limit || size > uint64(len(m.all)) {
		m.a.refused = true
		return nil
	}
	if size > m.open {
		if err := unix.Mprotect(m.all[m.open:size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			m.a.refused = true
			return nil
		}
		m.open = size
	}
	return m.all[:size:len(m.all)]
}

func (m *linearMemory) Free() {
	if m.all != nil {
		_ = unix.Munmap(m.all)
		m.all = nil
	}
}
