package platform

import (
	"context"
	"io/fs"
	"time"
)

// Regs are the four registers that CPUID fills.
type Regs struct{ EAX, EBX, ECX, EDX uint32 }

// Access is what Host.Access is asked for.
type Access uint8

// The two kinds of access; both may be asked for together.
const (
	Read Access = 1 << iota
	Write
)

// Host is the machine that is looked at. Functions that are nil count as "this
// cannot be found out here", never as a pass.
type Host struct {
	// OS and Arch are Go's names of system and processor: linux; amd64, arm64,
	// ppc64le.
	OS, Arch string
	// Kernel is the kernel release as uname(2) gives it: "6.12.1-amd64".
	Kernel string
	// Launches names the backends that this build of donjon can launch.
	Launches []string

	// CPUID executes the instruction for a leaf and sub-leaf; nil away from
	// amd64. It is the processor's word, or the hypervisor's above it.
	CPUID func(leaf, sub uint32) Regs
	// ReadFile gives a file's first bytes, never more than limit.
	ReadFile func(path string, limit int) ([]byte, error)
	// List gives the names in a directory, sorted, never more than a few thousand.
	List func(dir string) ([]string, error)
	// Stat follows symbolic links.
	Stat func(path string) (fs.FileInfo, error)
	// Access opens the path for a and closes it again. The error is why not.
	Access func(path string, a Access) error
	// LookPath finds a program on PATH.
	LookPath func(program string) (string, error)
	// Run gives a program's standard output, bounded in size and time.
	Run func(ctx context.Context, program string, args ...string) ([]byte, error)
	// Getenv reads the environment (XDG_CACHE_HOME, HOME).
	Getenv func(string) string
	// Now is the clock that the expiry of cached lists is compared with.
	Now func() time.Time

	// KVMVersion asks /dev/kvm for its API version.
	KVMVersion func() (int, error)
	// LandlockABI asks the kernel for its Landlock version: 1 and up.
	LandlockABI func() (int, error)
	// UserNamespace tries whether a process may be started in a user namespace of
	// its own.
	UserNamespace func(ctx context.Context) error
	// NoNewPrivs tries whether no_new_privs can be asked about (prctl(2)).
	NoNewPrivs func() error
	// Memlock is the soft limit on locked memory in bytes; ^uint64(0) is none.
	Memlock func() (uint64, error)
}
