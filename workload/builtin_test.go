package workload

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sealerDigest was computed apart from this package: what a release sealed opens with
// this digest alone.
const sealerDigest = "sha256:09098fc92280596a153dd7b5dd0db5acff12c474b7cb4a084731d80fb7833c66"

func TestSealerDigest(t *testing.T) {
	w := Sealer()
	if w.Digest.String() != sealerDigest {
		t.Errorf("found %s, wanted %s", w.Digest, sealerDigest)
	}
	if m, err := ParseManifest(w.Manifest); err != nil || len(m.Layers) != 0 {
		t.Errorf("found %+v, %v", m, err)
	}
	if blobs := w.Blobs(); len(blobs) != 1 || string(blobs[0]) != string(w.ConfigBytes) {
		t.Errorf("found %q", blobs)
	}
	c, err := ParseConfig(w.ConfigBytes)
	if err != nil || c.Builtin != BuiltinSealer || len(c.Paths()) != 0 {
		t.Errorf("found %+v, %v", c, err)
	}
	if b, err := c.Encode(); err != nil || strings.ReplaceAll(string(b), "'", "\"") != string(w.ConfigBytes) {
		t.Errorf("found %q, %v", b, err)
	}
	// As a folder it is the same.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Donjon.toml"), w.ConfigBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Load(dir, Flags{}); err != nil || l.Digest != w.Digest || len(l.Blobs()) != 1 {
		t.Fatalf("found %+v, %v", l, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.wasm"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Flags{}); err == nil || !strings.Contains(err.Error(), "runs no module") {
		t.Errorf("beside a module: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "main.wasm"), Flags{Config: filepath.Join(dir, "Donjon.toml")}); err == nil || !strings.Contains(err.Error(), "runs no module") {
		t.Errorf("for a module: %v", err)
	}
}

func TestBuiltinAlone(t *testing.T) {
	if c, err := ParseConfig([]byte("builtin = \"sealer\"\ntee = [\"vm\"]\n")); err != nil || c.Builtin != BuiltinSealer {
		t.Errorf("found %+v, %v", c, err)
	}
	for _, beside := range []string{"roles = [\"a\"]", "collateral = [\"c\"]",
		"args = [\"x\"]", "env = {A = \"b\"}", "host_args = true", "host_env = [\"A\"]", "debug_log = true", "files = []", "limits = {wall_time = \"1s\"}",
		"steward = \"https://s\"", "steward_ca = \"ca.pem\"", "scratch = [{guest = \"/x\"}]", "host_dirs = [{guest = \"/x\"}]", "data = [{path = \"x\", guest = \"/x\"}]",
	} {
		if _, err := ParseConfig([]byte("builtin = \"sealer\"\n" + beside)); err == nil || !strings.Contains(err.Error(), "only tee may stand beside it") {
			t.Errorf("%s: found %v", beside, err)
		}
	}
	for _, name := range []string{"keyring", "Sealer", "steward"} {
		if _, err := ParseConfig([]byte("builtin = \"" + name + "\"")); err == nil || !strings.Contains(err.Error(), "builtin: found") {
			t.Errorf("%s: found %v", name, err)
		}
	}
}
