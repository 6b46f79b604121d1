package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	// x32 programs come with the same AUDIT_ARCH and this bit in the number
	// (asm/unistd.h, __X32_SYSCALL_BIT).
	numberLimit = 0x40000000
	readLimits  = unix.SYS_GETRLIMIT
)

func legacyPoll() []uint32 { return []uint32{unix.SYS_POLL} }
func pathStat() []uint32   { return []uint32{unix.SYS_NEWFSTATAT} }
