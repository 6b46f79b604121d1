//go:build linux

package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestHandled: each version of the interface adds what it knows, and asking a
// kernel for more than it knows would be refused as a whole (landlock(7)).
func TestHandled(t *testing.T) {
	for _, c := range []struct {
		abi        int
		p          Profile
		fs, net, s uint64
	}{
		{1, ChildRun, 0x1fff, 0, 0},
		{2, ChildRun, 0x3fff, 0, 0},
		{3, ChildRun, 0x7fff, 0, 0},
		{4, ChildRun, 0x7fff, 3, 0},
		{5, ChildRun, 0xffff, 3, 0},
		{6, ChildRun, 0xffff, 3, 3},
		{7, ChildCompile, 0xffff, 3, 3},
		{99, ChildRun, 0xffff, 3, 3},
		// The warden must be able to end its child.
		{7, Warden, 0xffff, 3, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET},
	} {
		got := handled(c.abi, c.p)
		if got.Handled_access_fs != c.fs || got.Handled_access_net != c.net || got.Scoped != c.s {
			t.Errorf("version %d, %s: found %#x %#x %#x, wanted %#x %#x %#x", c.abi, c.p,
				got.Handled_access_fs, got.Handled_access_net, got.Scoped, c.fs, c.net, c.s)
		}
		if landlockCache&^c.fs != 0 && c.abi >= 3 {
			t.Errorf("version %d: the cache folder's rights %#x go beyond %#x", c.abi, uint64(landlockCache), c.fs)
		}
	}
}
