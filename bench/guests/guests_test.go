// Package guests holds the tests of the benchmark guests, which are built for
// this machine: a benchmark of a wrong program measures nothing.
package guests

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func buildC(t *testing.T, name string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler on this machine")
	}
	program := filepath.Join(t.TempDir(), name)
	args := []string{"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-ffp-contract=off", "-o", program, filepath.Join("c", name+".c"), "-lm"}
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

func buildGo(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "./go/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// The lines are the same in C and Go, native and in WebAssembly, wherever one
// algorithm is asked for; the compressors differ from each other.
func TestChecksums(t *testing.T) {
	for _, tt := range []struct{ name, build, want string }{
		{"sha256", "c go", "sha256 3ce4e58fd6bcb93685738208a8dd70da399ce72958a99ac986bd9666c52abda2\n"},
		{"sort", "c go", "sort 4f93bc1fe7c761fd\n"},
		{"nbody", "c go", "nbody 739baff85387f2b5\n"},
		{"deflate", "c", "deflate 85a5b19e 1460292\n"},
		// What Go's own packages write may change with Go: only that it ends well.
		{"deflate", "go", ""},
		{"json", "go", ""},
	} {
		for _, language := range strings.Fields(tt.build) {
			t.Run(tt.name+"/"+language, func(t *testing.T) {
				build := map[string]func(*testing.T, string) string{"c": buildC, "go": buildGo}[language]
				program := build(t, tt.name)
				out, err := exec.Command(program).Output()
				if err != nil || !strings.HasPrefix(string(out), tt.name+" ") || tt.want != "" && string(out) != tt.want {
					t.Errorf("found %v, %q, wanted %q", err, out, tt.want)
				}
				for _, bad := range []string{"0", "1001", "x", "-1"} {
					if exec.Command(program, bad).Run() == nil {
						t.Errorf("n = %q is taken", bad)
					}
				}
			})
		}
	}
}

// start runs a server guest with a listener as its descriptor 3.
func start(t *testing.T, program, name string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no sockets on this machine: %v", err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "FD_NAMES=stdin:stdout:stderr:"+name, "FD_COUNT=4")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return l.Addr().String()
}

// Every connection gets its own bytes back, also when it writes far more than it
// reads and leaves in the middle.
func TestEcho(t *testing.T) {
	addr := start(t, buildC(t, "echo"), "echo")
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if i%8 == 7 {
				_, _ = c.Write([]byte("gone"))
				return
			}
			sent := make([]byte, 200_000)
			r := rand.NewChaCha8([32]byte{byte(i)})
			_, _ = r.Read(sent)
			go func() {
				_, _ = c.Write(sent)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			back, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(sent, back) {
				t.Errorf("connection %d: found %d of %d bytes, %v", i, len(back), len(sent), err)
			}
		})
	}
	wg.Wait()
}

func TestEchoNeedsItsListener(t *testing.T) {
	cmd := exec.Command(buildC(t, "echo"))
	cmd.Env = []string{"FD_NAMES=stdin:echoes:ech"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "echo: ") {
		t.Errorf("found %v, %q", err, out)
	}
}

func TestHTTP(t *testing.T) {
	addr := start(t, buildGo(t, "http"), "web")
	r, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != "hello from a Keep\n" {
		t.Errorf("found %q, %v", b, err)
	}
}
