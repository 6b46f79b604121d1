//go:build linux

package vm

import (
	"context"
	"testing"
	"time"
)

// Where QEMU has no microvm, q35 boots the same files but for the firmware and
// the modules.
func TestBootQ35(t *testing.T) {
	spec, o := bootable(t, "amd64")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	qemu, target, err := chooseTarget(targets("amd64")[1:])
	if err != nil {
		t.Skip(err)
	}
	p, err := prepare(ctx, spec, o, qemu, target)
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.Launch(ctx, spec, o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Wait()
	defer m.Kill()
	other, err := Prepare(ctx, spec, o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Measurement == other.Measurement {
		t.Error("two machines with other firmware have one launch digest")
	}
}
