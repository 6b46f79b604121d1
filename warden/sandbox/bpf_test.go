//go:build linux

package sandbox

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// call is a system call as a filter sees it.
type call struct {
	arch, nr uint32
	args     [6]uint64
}

func (c call) bytes() []byte {
	b := make([]byte, 64)
	binary.LittleEndian.PutUint32(b[0:], c.nr)
	binary.LittleEndian.PutUint32(b[4:], c.arch)
	for i, a := range c.args {
		binary.LittleEndian.PutUint64(b[16+8*i:], a)
	}
	return b
}

// interpret runs a filter as the kernel would (net/core/filter.c), with the
// kernel's own limits: aligned loads inside the data, forward jumps inside the
// program, a return at the end of every path.
func interpret(prog []unix.SockFilter, data []byte) (action, error) {
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(holds bool) {
			if holds {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if in.K%4 != 0 || int(in.K)+4 > len(data) {
				return 0, fmt.Errorf("instruction %d loads at %d", pc, in.K)
			}
			a = binary.LittleEndian.Uint32(data[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return action(in.K), nil
		default:
			return 0, fmt.Errorf("instruction %d has code %#x", pc, in.Code)
		}
	}
	return 0, fmt.Errorf("the end of the program was reached without a return")
}

func decide(t *testing.T, prog []unix.SockFilter, c call) action {
	t.Helper()
	a, err := interpret(prog, c.bytes())
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return a
}

func TestAssemble(t *testing.T) {
	const arch, nr = 0xc000003e, 7
	rules := []rule{
		{nr: 1, then: allow},
		{nr: nr, then: allow, otherwise: fails(unix.EPERM), when: [][]check{
			{is(0, 5), bits(2, 0xf0, 0x10)},
			{is(0, 6)},
			append([]check{is(0, 9)}, null(3)...),
		}},
		{nr: 8, then: fails(unix.ENOSYS)},
	}
	prog, err := assemble(arch, 0x40000000, rules)
	if err != nil {
		t.Fatal(err)
	}
	eperm, enosys := fails(unix.EPERM), fails(unix.ENOSYS)
	for _, c := range []struct {
		name string
		call call
		want action
	}{
		{"no checks", call{arch, 1, [6]uint64{}}, allow},
		{"errno", call{arch, 8, [6]uint64{}}, enosys},
		{"no rule", call{arch, 2, [6]uint64{}}, kill},
		{"foreign processor", call{0x40000003, 1, [6]uint64{}}, kill},
		{"x32", call{arch, 1 | 0x40000000, [6]uint64{}}, kill},
		{"number -1", call{arch, ^uint32(0), [6]uint64{}}, kill},
		{"first alternative", call{arch, nr, [6]uint64{5, 0, 0x1f}}, allow},
		{"first alternative, wrong bits", call{arch, nr, [6]uint64{5, 0, 0x2f}}, eperm},
		{"second alternative", call{arch, nr, [6]uint64{6}}, allow},
		{"third alternative", call{arch, nr, [6]uint64{9}}, allow},
		{"third alternative, low word set", call{arch, nr, [6]uint64{9, 0, 0, 4}}, eperm},
		{"third alternative, high word set", call{arch, nr, [6]uint64{9, 0, 0, 4 << 32}}, eperm},
		{"none", call{arch, nr, [6]uint64{7}}, eperm},
		{"high word is ignored", call{arch, nr, [6]uint64{6 | 1<<40}}, allow},
	} {
		if got := decide(t, prog, c.call); got != c.want {
			t.Errorf("%s: found %#x, wanted %#x", c.name, got, c.want)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	var many [][]check
	for i := range 100 {
		many = append(many, []check{is(0, uint32(i))})
	}
	for name, r := range map[string][]rule{
		"two rules for one call": {{nr: 1, then: allow}, {nr: 1, then: kill}},
		"argument out of range":  {{nr: 1, when: anyOf(6, 1), then: allow}},
		"check that never holds": {{nr: 1, when: [][]check{{bits(0, 1, 2)}}, then: allow}},
		"more than a jump":       {{nr: 1, when: many, then: allow, otherwise: kill}},
	} {
		if _, err := assemble(1, 0, r); err == nil {
			t.Errorf("%s: assembled, wanted an error", name)
		}
	}
}

// FuzzFilters gives every profile any system call: the filters must decide each,
// and never allow a foreign calling convention.
func FuzzFilters(f *testing.F) {
	f.Add(uint32(auditArch), uint32(unix.SYS_MMAP), uint64(0), uint64(4), uint64(0))
	f.Add(uint32(auditArch), uint32(unix.SYS_CLONE), uint64(threadFlags), uint64(0), uint64(0))
	f.Add(uint32(unix.AUDIT_ARCH_I386), uint32(4), uint64(0), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, arch, nr uint32, a0, a1, a2 uint64) {
		for _, p := range []Profile{Warden, ChildCompile, ChildRun} {
			got := decide(t, program(t, p), call{arch, nr, [6]uint64{a0, a1, a2}})
			if arch != auditArch && got != kill {
				t.Errorf("%s: architecture %#x, call %d: found %#x, wanted it killed", p, arch, nr, got)
			}
		}
	})
}

const testSelf, testChild = 4242, 4343

func program(t testing.TB, p Profile) []unix.SockFilter {
	t.Helper()
	prog, err := assemble(auditArch, numberLimit, rules(p, Options{CacheDir: "/cache", Child: testChild}, testSelf))
	if err != nil {
		t.Fatal(err)
	}
	return prog
}
