//go:build linux

package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A filter is a classic BPF program over struct seccomp_data (linux/seccomp.h):
//
//	offset 0  int   nr                   system call number
//	offset 4  u32   arch                 AUDIT_ARCH_* of the calling convention
//	offset 8  u64   instruction_pointer
//	offset 16 u64   args[6]
//
// All three processors are little-endian, so the low word of args[i] lies at
// 16+8i.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

// The instructions in use (linux/bpf_common.h).
const (
	opLoad   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opAbove  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opReturn = unix.BPF_RET | unix.BPF_K
)

// An action is what the kernel does with a call: SECCOMP_RET_*.
type action uint32

const (
	allow action = unix.SECCOMP_RET_ALLOW
	kill  action = unix.SECCOMP_RET_KILL_PROCESS
)

// fails makes a call return errno to its caller, undone.
func fails(errno unix.Errno) action {
	return action(unix.SECCOMP_RET_ERRNO | uint32(errno)&unix.SECCOMP_RET_DATA)
}

// A check holds when (low word of argument arg) & mask == want. The high word is
// not looked at: it is used only for arguments that the kernel itself cuts to 32
// bits (descriptors, commands, ids, flags of type int) or whose bits in question
// are in the low word (prot of mmap and mprotect, flags of clone).
//
// high looks at the high word instead, for the one case where a pointer must be
// null: two checks.
type check struct {
	arg        int
	mask, want uint32
	high       bool
}

func is(arg int, want uint32) check         { return check{arg: arg, mask: ^uint32(0), want: want} }
func bits(arg int, mask, want uint32) check { return check{arg: arg, mask: mask, want: want} }
func null(arg int) []check                  { return []check{is(arg, 0), {arg: arg, mask: ^uint32(0), high: true}} }
func anyOf(arg int, values ...uint32) [][]check {
	alt := make([][]check, len(values))
	for i, v := range values {
		alt[i] = []check{is(arg, v)}
	}
	return alt
}

// A rule says what happens with one system call: then, when all checks of one of
// the alternatives in when hold or there are none; otherwise, when there are some
// and none holds.
type rule struct {
	nr        uint32
	when      [][]check
	then      action
	otherwise action
}

// assemble makes the program: foreign calling conventions die, then the first
// rule of a call decides, and what has no rule dies. arch is the AUDIT_ARCH_* of
// this processor; numbers at or above limit (0: none) belong to another calling
// convention that shares it (x32).
func assemble(arch, limit uint32, rules []rule) ([]unix.SockFilter, error) {
	prog := []unix.SockFilter{
		{Code: opLoad, K: offsetArch},
		{Code: opEqual, K: arch, Jt: 1},
		{Code: opReturn, K: uint32(kill)},
		{Code: opLoad, K: offsetNr},
	}
	if limit != 0 {
		prog = append(prog,
			unix.SockFilter{Code: opAbove, K: limit, Jf: 1},
			unix.SockFilter{Code: opReturn, K: uint32(kill)})
	}
	seen := map[uint32]bool{}
	for _, r := range rules {
		if seen[r.nr] {
			return nil, fmt.Errorf("sandbox: two rules for system call %d", r.nr)
		}
		seen[r.nr] = true
		body, err := r.body()
		if err != nil {
			return nil, err
		}
		prog = append(prog, unix.SockFilter{Code: opEqual, K: r.nr, Jf: uint8(len(body))})
		prog = append(prog, body...)
	}
	prog = append(prog, unix.SockFilter{Code: opReturn, K: uint32(kill)})
	if len(prog) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("sandbox: a filter of %d instructions, at most %d", len(prog), unix.BPF_MAXINSNS)
	}
	return prog, nil
}

// body is what is done once the number has matched. Every path through it
// returns.
func (r rule) body() ([]unix.SockFilter, error) {
	if len(r.when) == 0 {
		return []unix.SockFilter{{Code: opReturn, K: uint32(r.then)}}, nil
	}
	var body []unix.SockFilter
	for _, alt := range r.when {
		part, err := alternative(alt, r.then)
		if err != nil {
			return nil, err
		}
		body = append(body, part...)
	}
	body = append(body, unix.SockFilter{Code: opReturn, K: uint32(r.otherwise)})
	if len(body) > 255 { // a jump's reach
		return nil, fmt.Errorf("sandbox: the checks of system call %d take %d instructions, at most 255", r.nr, len(body))
	}
	return body, nil
}

// alternative returns then when all checks hold and falls through otherwise.
func alternative(checks []check, then action) ([]unix.SockFilter, error) {
	var part []unix.SockFilter
	for _, c := range checks {
		if c.arg < 0 || c.arg > 5 || c.want&^c.mask != 0 {
			return nil, fmt.Errorf("sandbox: a check that never holds: %+v", c)
		}
		at := uint32(offsetArgs + 8*c.arg)
		if c.high {
			at += 4
		}
		part = append(part, unix.SockFilter{Code: opLoad, K: at})
		if c.mask != ^uint32(0) {
			part = append(part, unix.SockFilter{Code: opAnd, K: c.mask})
		}
		part = append(part, unix.SockFilter{Code: opEqual, K: c.want})
	}
	part = append(part, unix.SockFilter{Code: opReturn, K: uint32(then)})
	for i := range part { // where a check fails, over all the rest
		if part[i].Code == opEqual {
			part[i].Jf = uint8(len(part) - 1 - i)
		}
	}
	return part, nil
}
