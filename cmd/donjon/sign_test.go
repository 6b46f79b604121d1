//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A signature that would be a part of the workload is taken away again; signatures that
// stood in the same file stay.
func TestSignInsideItsData(t *testing.T) {
	const module = "\x00asm\x01\x00\x00\x00"
	dir := writeFiles(t, map[string]string{"m.wasm": module, "self.toml": "[[data]]\npath = \"self\"\nguest = \"/data\"\n"})
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(at("self"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at("m.wasm"), at("self/m.wasm")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"one", "other"} {
		if status, _, errs := command(t, "sign", "--new-key", at(key)); status != 0 {
			t.Fatal(errs)
		}
	}
	refused := func() {
		t.Helper()
		status, _, errs := command(t, "sign", "--key", at("one"), "--name", "n", "--version", "1", "--config", at("self.toml"), at("self/m.wasm"))
		if status != statusFailed || !strings.Contains(errs, "the workload changed") {
			t.Errorf("found status %d, %q", status, errs)
		}
	}
	refused()
	if !notThere(at("self/m.wasm.sig")) {
		t.Error("the signature is still there")
	}
	if status, _, errs := command(t, "sign", "--key", at("other"), "--name", "n", "--version", "1", at("self/m.wasm")); status != 0 {
		t.Fatal(errs)
	}
	before, err := os.ReadFile(at("self/m.wasm.sig"))
	if err != nil {
		t.Fatal(err)
	}
	refused()
	if after, err := os.ReadFile(at("self/m.wasm.sig")); err != nil || string(after) != string(before) {
		t.Errorf("found %q, %v, wanted %q", after, err, before)
	}
}
