//go:build linux

package sandbox

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock handles by version of its interface (landlock(7)): what is
// handled is denied, unless a rule says otherwise.
const (
	landlockFS1 = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	landlockNet4   = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	landlockScope6 = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL

	// What the cache of compiled code needs beneath its folder.
	landlockCache = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// rulesetSize is as much of struct landlock_ruleset_attr as is used here.
const rulesetSize = 24

// handled gives what a ruleset for version abi denies. The warden signals its
// child, which is in no Landlock domain below its own, so it is not scoped.
func handled(abi int, p Profile) unix.LandlockRulesetAttr {
	a := unix.LandlockRulesetAttr{Handled_access_fs: landlockFS1}
	if abi >= 2 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		a.Handled_access_net = landlockNet4
	}
	if abi >= 5 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		a.Scoped = landlockScope6
		if p == Warden {
			a.Scoped &^= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	return a
}

// landlockABI asks for the version of the interface: an error where there is
// none.
func landlockABI() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, fmt.Errorf("this kernel offers no Landlock: %w", errno)
	}
	return int(v), nil
}

// landlock denies this process all of the file system, but for dir where that is
// not "". It gives what was denied, in words.
func landlock(p Profile, dir string) (string, error) {
	abi, err := landlockABI()
	if err != nil {
		return "", err
	}
	attr := handled(abi, p)
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), rulesetSize, 0)
	runtime.KeepAlive(&attr)
	if errno != 0 {
		return "", fmt.Errorf("making a ruleset: %w", errno)
	}
	fd := int(n)
	defer unix.Close(fd)
	if dir != "" {
		if err := allowBeneath(fd, dir, landlockCache&attr.Handled_access_fs); err != nil {
			return "", err
		}
	}
	// It restricts one thread: do it on each.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); errno != 0 {
		return "", fmt.Errorf("restricting the process: %w", errno)
	}
	return fmt.Sprintf("landlock (version %d)", abi), nil
}

func allowBeneath(ruleset int, dir string, access uint64) error {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	defer unix.Close(d)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(d)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset),
		unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	runtime.KeepAlive(&rule)
	if errno != 0 {
		return fmt.Errorf("allowing %s: %w", dir, errno)
	}
	return nil
}
