//go:build linux

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// EnterRoot replaces everything that this process and the others of its mount
// namespace see of the file system by an empty folder in memory of at most
// sizeBytes, in which nothing can be executed, and makes [CacheDir] in it. The
// exec child, which shares the mount namespace, moves along: the kernel moves
// every process whose root was the old one (pivot_root(2)).
//
// It must be called in a mount namespace of the process's own: it takes the
// caller's own file system away.
func EnterRoot(sizeBytes uint64) error {
	// Or the mounts below would show up in the namespace this one was copied from.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("sandbox: making mounts private: %w", err)
	}
	at, err := mountEmpty(sizeBytes)
	if err != nil {
		return err
	}
	if err := unix.Chdir(at); err != nil {
		return fmt.Errorf("sandbox: entering the empty root: %w", err)
	}
	if err := switchRoot(); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("sandbox: entering the empty root: %w", err)
	}
	if err := unix.Mkdir(CacheDir, 0o700); err != nil {
		return fmt.Errorf("sandbox: making %s: %w", CacheDir, err)
	}
	// The child may have another uid; nobody else is in here.
	if err := unix.Chmod(CacheDir, 0o777); err != nil {
		return fmt.Errorf("sandbox: making %s: %w", CacheDir, err)
	}
	return nil
}

// mountEmpty mounts the tmpfs over a folder that is there on every system. Which
// one does not matter: the whole tree goes away.
func mountEmpty(size uint64) (string, error) {
	data := fmt.Sprintf("size=%d,nr_inodes=1024,mode=0755", size)
	err := error(unix.ENOENT)
	for _, at := range []string{"/proc", "/dev", "/tmp"} {
		err = unix.Mount("donjon", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data)
		if err == nil {
			return at, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return "", fmt.Errorf("sandbox: mounting an empty root of %d bytes: %w", size, err)
}

// switchRoot makes the working folder, a mount, the root.
func switchRoot() error {
	// Both arguments the same: the old root ends up on top of the new one and is
	// taken off again (pivot_root(2), NOTES).
	err := unix.PivotRoot(".", ".")
	if err == nil {
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("sandbox: detaching the old root: %w", err)
		}
		return nil
	}
	if !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sandbox: changing the root: %w", err)
	}
	// The root is an initramfs, which cannot be pivoted away from: cover it. What
	// lies below is the measured program alone, and with no capabilities and no
	// chroot call left nobody gets back.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("sandbox: moving the empty root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("sandbox: changing the root: %w", err)
	}
	return nil
}
