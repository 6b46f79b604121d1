//go:build linux

package sandbox

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// kinds are the namespaces a Keep's process gets, by name.
var kinds = [...]struct {
	name string
	flag uintptr
}{
	{"user", unix.CLONE_NEWUSER},
	{"mount", unix.CLONE_NEWNS},
	{"pid", unix.CLONE_NEWPID},
	{"network", unix.CLONE_NEWNET},
	{"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS},
	{"cgroup", unix.CLONE_NEWCGROUP},
}

// Namespaces gives the attributes with which the host starts donjon-keep: fresh
// user, mount, pid, network, ipc, uts and cgroup namespaces, the caller mapped to
// root of the user namespace, as far as this host allows. Where the caller is
// root, [WardenID] and [ChildID] are mapped too, so that the Keep's processes can
// leave root's id behind.
//
// What the host allows is found by trying (about a millisecond where all is
// allowed): no setting of a kernel or of a security module says it reliably. attr
// is never nil.
func Namespaces() (attr *syscall.SysProcAttr, applied []string, missing []Missing) {
	return namespaces(os.Getuid(), os.Getgid(), probe)
}

// AllNamespaces gives the attributes for a host that allows everything. Where a
// start with them fails, [Namespaces] finds out what is allowed.
func AllNamespaces() *syscall.SysProcAttr {
	return attributes(allKinds(), os.Getuid(), os.Getgid(), os.Getuid() == 0)
}

func allKinds() uintptr {
	var all uintptr
	for _, k := range kinds {
		all |= k.flag
	}
	return all
}

// probe tells whether a process can be started with attr, and starts none: the
// program to execute has no name, so success of everything before it ends in
// ENOENT.
func probe(attr *syscall.SysProcAttr) error {
	_, err := syscall.ForkExec("", []string{""}, &syscall.ProcAttr{Sys: attr})
	if err == syscall.ENOENT {
		return nil
	}
	if err == nil {
		return errors.New("a program without a name was started")
	}
	return err
}

func namespaces(uid, gid int, try func(*syscall.SysProcAttr) error) (*syscall.SysProcAttr, []string, []Missing) {
	all := allKinds()
	// Mapping more than oneself takes privilege that not every root has.
	extra := uid == 0
	attr := attributes(all, uid, gid, extra)
	err := try(attr)
	if err != nil && extra {
		extra = false
		attr = attributes(all, uid, gid, extra)
		err = try(attr)
	}
	if err == nil {
		return attr, names(all), nil
	}
	// Something is refused: take each that is not, one after the other. user is
	// first, because with it the others need no privilege.
	var got uintptr
	var missing []Missing
	for _, k := range kinds {
		err := try(attributes(got|k.flag, uid, gid, false))
		if err != nil {
			missing = append(missing, Missing{k.name + " namespace", err.Error()})
			continue
		}
		got |= k.flag
	}
	return attributes(got, uid, gid, false), names(got), missing
}

func names(flags uintptr) []string {
	var s []string
	for _, k := range kinds {
		if flags&k.flag != 0 {
			s = append(s, k.name+" namespace")
		}
	}
	return s
}

func attributes(flags uintptr, uid, gid int, extra bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER == 0 {
		return attr
	}
	// Root inside, or the capabilities to mount and pivot are lost at execve;
	// Apply drops them.
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	if extra {
		ids := syscall.SysProcIDMap{ContainerID: WardenID, HostID: WardenID, Size: ChildID - WardenID + 1}
		attr.UidMappings = append(attr.UidMappings, ids)
		attr.GidMappings = append(attr.GidMappings, ids)
		attr.GidMappingsEnableSetgroups = true
	}
	return attr
}
