//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A served is a workload in a sim Keep that listens.
type served struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
	said bytes.Buffer
}

// serving starts the workload in dir, whose listener is its descriptor 3.
func serving(t *testing.T, bin, dir string, args ...string) *served {
	t.Helper()
	return servingOver(t, "tcp", bin, dir, args...)
}

// servingOver is serving with the protocol of the listener.
func servingOver(t *testing.T, prot, bin, dir string, args ...string) *served {
	t.Helper()
	put(t, filepath.Join(dir, "Donjon.toml"), `[[files]]
kind = "null"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "listen"
name = "web"
prot = "`+prot+`"
addr = "127.0.0.1"
port = 9443
`)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, addr: "127.0.0.1:" + port}
	s.cmd = exec.Command(filepath.Join(bin, "donjon"), append([]string{"run", "-q", "--tee", "sim", "--bind", "web=" + s.addr, dir, "--"}, args...)...)
	s.cmd.Env = environ(t)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil { // the test has failed already
			_ = s.cmd.Process.Signal(unix.SIGTERM)
			_ = s.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the Keep said: %s", s.said.String())
		}
	})
	return s
}

// dial connects, and at first waits for the Keep to listen.
func (s *served) dial() net.Conn {
	s.t.Helper()
	var err error
	for range 600 {
		var c net.Conn
		if c, err = net.Dial("tcp", s.addr); err == nil {
			return c
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("the Keep does not listen: %v", err)
	return nil
}

// ends waits for the program's own end.
func (s *served) ends(status int) {
	s.t.Helper()
	_ = s.cmd.Wait()
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("status: found %d, wanted %d", got, status)
	}
}

// An unmodified Go net/http program answers three hundred connections that are all
// open, in the middle of a request, at the same time; and then it rests.
func TestGoServer(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Rename(filepath.Join(bin, "server.wasm"), filepath.Join(dir, "main.wasm")); err != nil {
		t.Fatal(err)
	}
	s := serving(t, bin, dir)
	const conns = 300
	all := make([]net.Conn, conns)
	for i := range all {
		all[i] = s.dial()
		defer all[i].Close()
		if _, err := fmt.Fprintf(all[i], "GET /%d HTTP/1.1\r\n", i); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // each connection is used again
		var wg sync.WaitGroup
		for i, c := range all {
			wg.Go(func() {
				if _, err := io.WriteString(c, "Host: keep\r\n\r\n"); err != nil {
					t.Error(err)
					return
				}
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(res.Body)
				if want := fmt.Sprintf("path /%d\n", i); err != nil || string(b) != want {
					t.Errorf("answer: found %q, %v, wanted %q", b, err, want)
				}
				if _, err := fmt.Fprintf(c, "GET /%d HTTP/1.1\r\n", i); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	rests(t, s.cmd.Process.Pid)
	_ = s.cmd.Process.Signal(unix.SIGTERM)
	s.ends(128 + int(unix.SIGTERM))
}

// A Rust program that blocks in accept and in read serves one connection after the
// other; those that wait are not lost.
func TestRustServer(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	rust(t, "serve", filepath.Join(dir, "main.wasm"))
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	const conns = 50
	s := serving(t, bin, dir, strconv.Itoa(conns))
	all := make([]net.Conn, conns)
	for i := range all {
		all[i] = s.dial()
		defer all[i].Close()
	}
	rests(t, s.cmd.Process.Pid) // blocked in read
	for i, c := range all {
		if _, err := fmt.Fprintf(c, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range all {
		b, err := io.ReadAll(c)
		n, text, _ := strings.Cut(string(b), " ")
		if _, nerr := strconv.Atoi(n); err != nil || nerr != nil || text != fmt.Sprintf("LINE %d\n", i) {
			t.Errorf("answer %d: found %q, %v", i, b, err)
		}
	}
	s.ends(0)
}

// A C program that waits in poll(2) for its listener and all its connections.
func TestPollServer(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	clang(t, filepath.Join(dir, "main.wasm"), "-O2", "../engine/testdata/echo.c")
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	const conns = 300
	s := serving(t, bin, dir, strconv.Itoa(conns))
	all := make([]net.Conn, conns)
	for i := range all {
		all[i] = s.dial()
		defer all[i].Close()
	}
	for round := range 2 {
		for i, c := range all {
			if _, err := fmt.Fprintf(c, "%d of %05d", round, i); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range all {
			want := fmt.Sprintf("%d of %05d", round, i)
			b := make([]byte, len(want))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
				t.Fatalf("echo: found %q, %v, wanted %q", b, err, want)
			}
		}
	}
	rests(t, s.cmd.Process.Pid)
	for _, c := range all {
		c.Close()
	}
	s.ends(0)
}

// rests says that a process and all that it started use no processor time for a
// second: a guest that spins never does.
func rests(t *testing.T, pid int) {
	t.Helper()
	used := 0
	for range 20 {
		before, n := ticks(t, pid)
		time.Sleep(time.Second)
		after, _ := ticks(t, pid)
		if n < 3 {
			t.Fatalf("found %d processes, wanted the launcher, the warden and the engine", n)
		}
		if used = after - before; used == 0 {
			return
		}
	}
	t.Errorf("at rest: found %d ticks of processor time in a second, wanted a second with 0", used)
}

// ticks is the processor time of a process and its descendants, and their number.
func ticks(t *testing.T, pid int) (sum, n int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parent, time := map[int]int{}, map[int]int{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		p, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')'):]), " ")
		f := strings.Fields(rest) // from the state on
		parent[p], _ = strconv.Atoi(f[1])
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		time[p] = user + system
	}
	for p := range parent {
		for a := p; a > 1; a = parent[a] {
			if a == pid {
				sum += time[p]
				n++
				break
			}
		}
	}
	return sum, n
}
