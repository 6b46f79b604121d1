package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch   = unix.AUDIT_ARCH_PPC64LE
	numberLimit = 0
	readLimits  = unix.SYS_UGETRLIMIT
)

func legacyPoll() []uint32 { return []uint32{unix.SYS_POLL} }
func pathStat() []uint32   { return []uint32{unix.SYS_NEWFSTATAT} }
