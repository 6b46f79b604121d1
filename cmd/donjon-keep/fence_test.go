package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What is linked into the measured program is part of every Keep's trusted base:
// nothing comes in unseen.
func TestImportsAreFenced(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0") // as it is built
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const own = "github.com/donjon-tee/donjon/"
	allowed := []string{
		own + "attest",           // the whole of it: a Keep that talks to Keeps judges evidence of every kind; its own fence keeps I/O out
		own + "steward/protocol", // what is said at enrolment, and nothing of the Steward itself
		own + "cmd/donjon-keep", own + "engine", own + "link", own + "warden", own + "workload",
		"github.com/tetratelabs/wazero", "github.com/fxamacker/cbor", "github.com/x448/float16",
		"github.com/pelletier/go-toml", "golang.org/x/sys", "golang.org/x/crypto/x509roots/fallback/bundle",
	}
	for _, p := range strings.Fields(string(out)) {
		ok := slices.ContainsFunc(allowed, func(a string) bool { return p == a || strings.HasPrefix(p, a+"/") })
		if !ok {
			t.Errorf("the measured program imports %s", p)
		}
	}
	std, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"net/http", "plugin", "runtime/cgo"} {
		if slices.Contains(strings.Fields(string(std)), banned) {
			t.Errorf("the measured program imports %s", banned)
		}
	}
}
