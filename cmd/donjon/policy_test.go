//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// THREATS T14: an attacker's simulated root is written into no policy, unless a person
// names it.
func TestT14PolicyInitForeignRoot(t *testing.T) {
	s, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	evidence, root := filepath.Join(dir, "evidence.cbor"), filepath.Join(dir, "root.der")
	for name, b := range map[string][]byte{evidence: makeEvidence(t, s), root: s.Root()} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		flags []string
		want  int
	}{
		{"this machine has no root", nil, statusNotGenuine},
		{"another root named", []string{"--trust-root", strings.Repeat("5e", 32)}, statusNotGenuine},
		{"named by fingerprint", []string{"--trust-root", s.RootFingerprint()}, 0},
		{"named by certificate", []string{"--trust-root", root}, 0},
	} {
		status, out, errs := at(t, dir, append([]string{"policy", "init", "--from", evidence}, c.flags...)...)
		if status != c.want || (out == "") != (c.want != 0) || c.want == 0 && !strings.Contains(out, s.RootFingerprint()) {
			t.Errorf("%s: found status %d, wanted %d\n%s%s", c.name, status, c.want, out, errs)
		}
	}
}
