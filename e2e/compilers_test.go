//go:build linux

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clang builds a C program for WASI, or skips where it cannot.
func clang(t *testing.T, out string, args ...string) {
	t.Helper()
	cc, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("no clang (Debian: clang lld wasi-libc libclang-rt-dev-wasm32)")
	}
	if msg, err := exec.Command(cc, append([]string{"--target=wasm32-wasi", "-o", out}, args...)...).CombinedOutput(); err != nil {
		if bytes.Contains(msg, []byte("file not found")) || bytes.Contains(msg, []byte("cannot open")) {
			t.Skipf("clang has no wasm32-wasi here (Debian: lld wasi-libc libclang-rt-dev-wasm32): %s", msg)
		}
		t.Fatalf("clang: %v\n%s", err, msg)
	}
}

// sqliteShell builds SQLite's own command line from its published source, without
// optimizing, once.
func sqliteShell(t *testing.T) string {
	t.Helper()
	wasm := filepath.Join(kept(t), "sqlite.wasm")
	if _, err := os.Stat(wasm); err == nil {
		return wasm
	}
	source, err := filepath.Glob(filepath.Join(sqlite.fetch(t), "deps/sqlite-autoconf-*.tar.gz"))
	if err != nil || len(source) != 1 {
		t.Fatalf("the package's source: found %v, %v", source, err)
	}
	dir := t.TempDir()
	prefix := strings.TrimSuffix(filepath.Base(source[0]), ".tar.gz") + "/"
	if err := untar([]byte(readFile(t, source[0])), dir, prefix, func(name string) bool { return !strings.Contains(name, "/") }); err != nil {
		t.Fatal(err)
	}
	// What WASI has not: signals, processes, modes of files.
	out := filepath.Join(dir, "sqlite.wasm")
	clang(t, out, "-O0", "-w", "-DSQLITE_OMIT_POPEN", "-DSQLITE_NOHAVE_SYSTEM", "-Dchmod(path,mode)=0",
		"-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_GETPID", "-D_WASI_EMULATED_PROCESS_CLOCKS",
		filepath.Join(dir, "shell.c"), filepath.Join(dir, "sqlite3.c"),
		"-lwasi-emulated-signal", "-lwasi-emulated-getpid", "-lwasi-emulated-process-clocks")
	put(t, wasm+".part", readFile(t, out))
	if err := os.Rename(wasm+".part", wasm); err != nil {
		t.Fatal(err)
	}
	return wasm
}

// assemblyScript builds testdata/program/assemblyscript/main.ts.
func assemblyScript(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node, which runs the AssemblyScript compiler (Debian: nodejs)")
	}
	dir := copied(t, "assemblyscript")
	for _, p := range assemblyscript {
		at := filepath.Join(dir, "node_modules", p.name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(p.fetch(t), at); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(node, "--preserve-symlinks", "--preserve-symlinks-main", "node_modules/assemblyscript/bin/asc.js", "main.ts", "-o", "main.wasm",
		"--config", "node_modules/@assemblyscript/wasi-shim/asconfig.json")
	c.Dir = dir
	if msg, err := c.CombinedOutput(); err != nil {
		t.Fatalf("asc: %v\n%s", err, msg)
	}
	return filepath.Join(dir, "main.wasm")
}

// rust builds testdata/program/rust/<name>.rs with the first rustc that has WASI.
func rust(t *testing.T, name, out string) {
	t.Helper()
	for _, rustc := range []string{"rustc", "/usr/bin/rustc"} {
		root, err := exec.Command(rustc, "--print", "sysroot").Output()
		if err != nil {
			continue
		}
		for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} {
			if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(root)), "lib/rustlib", target, "lib")); err != nil {
				continue
			}
			args := []string{"--edition", "2021", "-O", "-C", "strip=symbols", "--target", target, "-o", out, filepath.Join("testdata/program/rust", name+".rs")}
			if _, err := exec.LookPath("wasm-ld"); err == nil {
				args = append(args, "-C", "linker=wasm-ld")
			}
			if msg, err := exec.Command(rustc, args...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", rustc, err, msg)
			}
			return
		}
	}
	t.Skip("no rustc with a WASI target (Debian: rustc libstd-rust-dev-wasm32)")
}
