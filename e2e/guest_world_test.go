//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// C programs find what the command line says: environment, and folders under
// whatever name, absolute or not.
func TestGuestWorld(t *testing.T) {
	bin := t.TempDir()
	world, files := filepath.Join(bin, "world.wasm"), filepath.Join(bin, "files.wasm")
	clang(t, world, "-O1", "testdata/program/c/world.c")
	clang(t, files, "-O1", "../engine/wasi/testdata/files.c")
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	keepRun{workload: world}.check(t, bin)
	keepRun{workload: world, flags: []string{"--env", "b=escap \" ing", "--env", "c=new\nline", "--env", "a=", "--env", "d=ü=="},
		stdout: "<a=><b=escap \" ing><c=new\nline><d=ü==>"}.check(t, bin)
	keepRun{workload: filepath.Join(bin, "hello.wasm"), args: []string{"first", `the "second" arg`, "", "-x", "--"},
		stdout: "hello [main.wasm first the \"second\" arg  -x --] []\n"}.check(t, bin)
	for _, guest := range []string{"fs-tests.dir", "a/b", "/", "/srv/data"} {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "digits"), "01234567")
		flags := []string{"--dir", dir + "::" + guest}
		keepRun{workload: world, flags: flags, args: []string{guest}, status: 33}.check(t, bin)
		if err := os.Remove(filepath.Join(dir, "digits")); err != nil {
			t.Fatal(err)
		}
		keepRun{workload: files, flags: flags}.check(t, bin)
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: the program left %v, %v", guest, left, err)
		}
	}
	app := t.TempDir()
	if err := os.Rename(files, filepath.Join(app, "main.wasm")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(app, "Donjon.toml"), "[[scratch]]\nguest = \"/tmp\"\n")
	keepRun{workload: app}.check(t, bin)
}
