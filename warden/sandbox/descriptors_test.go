//go:build linux

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// inherits fails where the descriptor whose number is in CACHE is open.
func inherits() error {
	var fd int
	if _, err := fmt.Sscan(os.Getenv("CACHE"), &fd); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != unix.EBADF {
		return fmt.Errorf("descriptor %d: found %v, wanted %v", fd, err, unix.EBADF)
	}
	return nil
}

func TestInheritNothing(t *testing.T) {
	null, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // as a shell leaves it: not marked
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	fd, err := unix.FcntlInt(uintptr(null), unix.F_DUPFD, 200) // far from what the runtime opens
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path, err := helperProgram()
	if err != nil {
		t.Fatal(err)
	}
	started := func() error {
		cmd := exec.Command(path)
		cmd.Env = []string{helperVar + "=any: inherit", fmt.Sprintf("CACHE=%d", fd)}
		return cmd.Run()
	}
	if err := started(); err == nil {
		t.Fatal("the descriptor is not inherited: this test shows nothing")
	}
	if err := InheritNothing(); err != nil {
		t.Fatal(err)
	}
	if err := started(); err != nil {
		t.Errorf("the descriptor is inherited: %v", err)
	}
}
