//go:build linux

// Package packaging has the tests of what is shipped beside the binaries.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxExposure is what systemd-analyze security may say of the unit, in tenths: 0 is
// nothing, 100 is all of the machine.
const maxExposure = "15"

// The unit is one that systemd takes without a warning, and gives away as little as it
// says. That a Steward runs under it is not shown here: that needs a machine that systemd
// boots.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: apt-get install systemd")
	}
	unit, err := os.ReadFile("donjon-steward.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program is not where the unit has it on this machine.
	const installed = "/usr/local/bin/donjon"
	here, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unit), "ExecStart="+installed+" steward serve ") {
		t.Fatalf("the unit does not start %s", installed)
	}
	path := filepath.Join(t.TempDir(), "donjon-steward.service")
	if err := os.WriteFile(path, []byte(strings.Replace(string(unit), installed, here, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--threshold="+maxExposure, "--no-pager", path).CombinedOutput()
	if err != nil && strings.Contains(string(out), "unrecognized option") {
		t.Skipf("systemd-analyze is older than 250: %s", out)
	}
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
