//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// enterRoot runs in fresh namespaces: it starts a child, empties the root, and
// looks around.
func enterRoot() error {
	if err := EnterRoot(1 << 20); err != nil {
		return err
	}
	for _, p := range []string{"/etc/passwd", "/proc/self/exe", "/../../etc"} {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: found %v, wanted that it does not exist", p, err)
		}
	}
	ents, err := os.ReadDir("/")
	if err != nil || len(ents) != 1 || "/"+ents[0].Name() != CacheDir {
		return fmt.Errorf("the root holds %v (%v), wanted %s alone", ents, err, CacheDir)
	}
	if wd, err := os.Getwd(); err != nil || wd != "/" {
		return fmt.Errorf("working folder %q (%v), wanted /", wd, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		return err
	}
	if want := int64(unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC); int64(st.Flags)&want != want || st.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("the root has type %#x and flags %#x", st.Type, st.Flags)
	}
	if err := os.WriteFile(CacheDir+"/x", make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("writing twice its size: found %v, wanted %v", err, unix.ENOSPC)
	}
	if err := os.Remove(CacheDir + "/x"); err != nil {
		return err
	}
	// The rest of a Keep's life, in here.
	if os.Getpid() != 1 {
		return fmt.Errorf("process id %d, wanted 1", os.Getpid())
	}
	r, err := Apply(ChildCompile, Options{CacheDir: CacheDir, UID: ChildID, GID: ChildID})
	if err != nil {
		return err
	}
	if os.Getuid() != ChildID {
		fmt.Printf("uid %d: %v\n", os.Getuid(), r.Missing)
	}
	if err := os.Setenv("CACHE", CacheDir); err != nil {
		return err
	}
	return useCache()
}

func TestNamespacesHere(t *testing.T) {
	attr, applied, missing := Namespaces()
	t.Logf("applied %v, missing %v", applied, missing)
	if len(missing) > 0 {
		t.Skipf("this host refuses %v", missing)
	}
	out := start{deed: "any: enter root", attr: attr}.lives(t)
	if os.Getuid() == 0 && out != "" {
		t.Errorf("root could not take another uid: %s", out)
	}
}

// TestNamespacesAsUser does the same as an ordinary user.
func TestNamespacesAsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TestNamespacesHere does this")
	}
	path, err := helperProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-test.run=^TestNamespacesHere$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if strings.Contains(string(b), "--- SKIP") {
		t.Skip(string(b))
	}
}

// TestFallbacks: what a host refuses is left out and named, and the rest stays.
func TestFallbacks(t *testing.T) {
	refusing := func(flags uintptr, maps bool) func(*syscall.SysProcAttr) error {
		return func(a *syscall.SysProcAttr) error {
			if a.Cloneflags&flags != 0 || maps && len(a.UidMappings) > 1 {
				return unix.EPERM
			}
			return nil
		}
	}
	needsUser := func(a *syscall.SysProcAttr) error { // an ordinary user without user namespaces
		if a.Cloneflags != 0 {
			return unix.EPERM
		}
		return nil
	}
	for _, c := range []struct {
		name    string
		uid     int
		try     func(*syscall.SysProcAttr) error
		missing string
		maps    int
	}{
		{"all, root", 0, refusing(0, false), "", 2},
		{"all, user", 1000, refusing(0, false), "", 1},
		{"root of a container", 0, refusing(0, true), "", 1},
		{"no user namespaces, root", 0, refusing(unix.CLONE_NEWUSER, false), "user namespace", 0},
		{"no cgroup and no network", 1000, refusing(unix.CLONE_NEWCGROUP|unix.CLONE_NEWNET, false), "network namespace cgroup namespace", 1},
		{"none", 1000, needsUser, "user namespace mount namespace pid namespace network namespace ipc namespace uts namespace cgroup namespace", 0},
	} {
		attr, applied, missing := namespaces(c.uid, c.uid, c.try)
		var names []string
		for _, m := range missing {
			names = append(names, m.What)
			if m.Why == "" {
				t.Errorf("%s: %s has no reason", c.name, m.What)
			}
		}
		if got := strings.Join(names, " "); got != c.missing {
			t.Errorf("%s: missing %q, wanted %q", c.name, got, c.missing)
		}
		if len(applied)+len(missing) != len(kinds) {
			t.Errorf("%s: %d applied and %d missing, wanted %d in all", c.name, len(applied), len(missing), len(kinds))
		}
		if len(attr.UidMappings) != c.maps {
			t.Errorf("%s: %d uid maps, wanted %d", c.name, len(attr.UidMappings), c.maps)
		}
		if err := c.try(attr); err != nil {
			t.Errorf("%s: the attributes do not work: %v", c.name, err)
		}
	}
}

// TestNoSecondID: in a user namespace of one id, which an ordinary user has, the
// warden stays what it is, does not complain, and keeps no capability.
func TestNoSecondID(t *testing.T) {
	attr := attributes(unix.CLONE_NEWUSER, os.Getuid(), os.Getgid(), false)
	if err := probe(attr); err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	out := start{deed: "warden: report, moved", attr: attr}.lives(t)
	if strings.Contains(out, "another uid") {
		t.Errorf("another uid is reported:\n%s", out)
	}
	if !strings.Contains(out, "CapPrm:\t0000000000000000\n") || !strings.Contains(out, "CapEff:\t0000000000000000\n") {
		t.Errorf("capabilities are left:\n%s", out)
	}
}
