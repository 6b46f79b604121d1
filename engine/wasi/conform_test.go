//go:build linux

package wasi_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/vfs"
)

// TestConformance runs testdata/conform.c and files.c on every writable tree: the
// guest sees no difference between memory and a host folder across a link.
func TestConformance(t *testing.T) {
	for _, program := range []string{"conform", "files"} {
		t.Run(program, func(t *testing.T) { conformance(t, program) })
	}
}

func conformance(t *testing.T, program string) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("no clang (Debian: clang lld wasi-libc libclang-rt-dev-wasm32)")
	}
	for _, source := range []string{program + ".c", "calls.h"} { // so that go test sees when they change
		if _, err := os.ReadFile(filepath.Join("testdata", source)); err != nil {
			t.Fatal(err)
		}
	}
	wasm := filepath.Join(t.TempDir(), program+".wasm")
	if msg, err := exec.Command(clang, "--target=wasm32-wasi", "-O2", "-o", wasm, "testdata/"+program+".c").CombinedOutput(); err != nil {
		if bytes.Contains(msg, []byte("file not found")) || bytes.Contains(msg, []byte("cannot open")) {
			t.Skipf("clang has no wasm32-wasi here (Debian: lld wasi-libc libclang-rt-dev-wasm32): %s", msg)
		}
		t.Fatalf("clang: %v\n%s", err, msg)
	}
	module, err := os.ReadFile(wasm)
	if err != nil {
		t.Fatal(err)
	}
	memory := func(*testing.T) vfs.Dir { return vfs.NewMemory(vfs.Limits{}) }
	for name, tree := range map[string]func(*testing.T) vfs.Dir{
		"memory": memory, "memory, interpreted": memory,
		"served folder": func(t *testing.T) vfs.Dir {
			root, err := os.OpenRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			a, b := net.Pipe()
			served := make(chan error, 1)
			go func() { served <- vfs.Serve(context.Background(), root, b) }()
			t.Cleanup(func() {
				a.Close()
				b.Close()
				<-served
				root.Close()
			})
			return vfs.Dial(a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := engine.Compile(context.Background(), module, engine.Options{Workers: 2, Interpreter: strings.HasSuffix(name, "interpreted")})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			fd, err := unix.Dup(int(w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			// What a failing guest says fits into a pipe: nobody reads before its end.
			res, err := p.Run(context.Background(), engine.Guest{
				Args:     []string{program},
				Files:    []engine.File{{Name: "stdin", Kind: engine.Null}, {Name: "stdout", Kind: engine.Output, FD: fd}, {Name: "stderr", Kind: engine.Null}},
				Preopens: []engine.Preopen{{Guest: "/", Dir: tree(t)}},
			})
			said := make([]byte, 4096)
			n, _ := r.Read(said)
			if err != nil || res != (engine.Outcome{}) {
				t.Errorf("outcome: found %+v, %v, wanted status 0; the guest said: %s", res, err, said[:n])
			}
		})
	}
}
