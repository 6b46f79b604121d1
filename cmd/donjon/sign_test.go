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

// What can be no workload gets no signature and no policy.
func TestOnlyModules(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := writeFiles(t, map[string]string{"text.wasm": "hello\n", "empty": "", "cut": "\x00asm\x01", "component.wasm": "\x00asm\x0d\x00\x01\x00"})
	folder := writeFiles(t, map[string]string{"main.wasm": "hello\n", "Donjon.toml": ""})
	key := filepath.Join(dir, "key")
	if status, _, errs := command(t, "sign", "--new-key", key); status != 0 {
		t.Fatal(errs)
	}
	for _, c := range []struct{ file, want string }{
		{filepath.Join(dir, "text.wasm"), "no WebAssembly module"}, {folder, "no WebAssembly module"},
		{filepath.Join(dir, "empty"), "empty"}, {filepath.Join(dir, "cut"), "cut short"}, {filepath.Join(dir, "component.wasm"), "component"},
	} {
		for _, args := range [][]string{
			{"sign", "--key", key, "--name", "n", "--version", "1"},
			{"steward", "workload", "allow", "--state", filepath.Join(dir, "S")},
			{"steward", "policy", "show", "--state", filepath.Join(dir, "S")},
		} {
			status, _, errs := command(t, append(args, c.file)...)
			if status != statusWorkload || !strings.Contains(errs, c.file+": ") || !strings.Contains(errs, c.want) || !strings.Contains(errs, "hint: ") {
				t.Errorf("%s of %s: found status %d, %q, wanted %d and %q", args[0], c.file, status, errs, statusWorkload, c.want)
			}
		}
		if found, _ := filepath.Glob(c.file + "*sig"); len(found) > 0 {
			t.Errorf("found the signature %v", found)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "Donjon.sig")); err == nil {
		t.Error("the folder has a signature")
	}
}
