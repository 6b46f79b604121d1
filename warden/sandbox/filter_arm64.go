package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch   = unix.AUDIT_ARCH_AARCH64
	numberLimit = 0
	readLimits  = unix.SYS_GETRLIMIT
)

func legacyPoll() []uint32 { return nil } // ppoll alone exists
func pathStat() []uint32   { return []uint32{unix.SYS_FSTATAT} }
