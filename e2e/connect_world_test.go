//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// donjon runs one to its end.
func donjon(t *testing.T, bin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(bin, "donjon"), args...)
	c.Env, c.Stdout, c.Stderr = environ(t), &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// keepPolicy writes a policy for what answers at an address.
func keepPolicy(t *testing.T, bin, addr string) string {
	t.Helper()
	status, out, errs := donjon(t, bin, "policy", "init", "-q", "--from-keep", addr)
	if status != 0 {
		t.Fatalf("policy init: %d\n%s", status, errs)
	}
	name := filepath.Join(t.TempDir(), "keep.toml")
	put(t, name, out)
	return name
}

// A connected is a donjon connect that listens.
type connected struct {
	addr string
	cmd  *exec.Cmd

	mu   sync.Mutex
	said strings.Builder
}

func (c *connected) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

// waitFor waits until it has said what matches.
func (c *connected) waitFor(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for range 300 {
		if re.MatchString(c.text()) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("connect has not said %q:\n%s", pattern, c.text())
}

// connecting starts one and waits until it listens.
func connecting(t *testing.T, bin, keep, policy string, args ...string) *connected {
	t.Helper()
	c := &connected{}
	c.cmd = exec.Command(filepath.Join(bin, "donjon"), append([]string{"connect", keep, "--policy", policy, "--json"}, args...)...)
	c.cmd.Env = environ(t)
	errs, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(errs); s.Scan(); {
			c.mu.Lock()
			c.said.WriteString(s.Text() + "\n")
			c.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Signal(unix.SIGTERM)
		<-read
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("connect ended with %v:\n%s", err, c.text())
		}
	})
	c.waitFor(t, `listening on (\S+);`)
	c.addr = regexp.MustCompile(`listening on (\S+);`).FindStringSubmatch(c.text())[1]
	return c
}

// A crossing is an address whose connections somebody in between leads where he likes:
// to several addresses in turn.
type crossing struct {
	addr string
	to   atomic.Pointer[[]string]
}

func newCrossing(t *testing.T, to ...string) *crossing {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	x := &crossing{addr: l.Addr().String()}
	x.lead(to...)
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			to := *x.to.Load()
			go join(c, to[n%len(to)])
		}
	}()
	return x
}

func (x *crossing) lead(to ...string) { x.to.Store(&to) }

// join leads a connection to an address, or to a Unix socket.
func join(c net.Conn, to string) {
	defer c.Close()
	network := "tcp"
	if filepath.IsAbs(to) {
		network = "unix"
	}
	far, err := net.Dial(network, to)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, c)
		_ = far.(interface{ CloseWrite() error }).CloseWrite()
	}()
	_, _ = io.Copy(c, far)
}

// servingKeep is an unmodified HTTP server in a Keep with a TLS listener.
func servingKeep(t *testing.T, bin string) *served {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join(bin, "server.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "main.wasm"), string(b))
	s := servingOver(t, "tls", bin, dir)
	_ = s.dial().Close()
	return s
}

// pipeKeep is a Keep that joins its one client to what listens on a port here. more is
// of its listener.
func pipeKeep(t *testing.T, bin, to string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	b := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "main.wasm"), "./testdata/guest/pipe")
	b.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := b.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "Donjon.toml"), fmt.Sprintf(`[[files]]
kind = "null"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "listen"
name = "web"
prot = "tls"
addr = "127.0.0.1"
port = 9443
%s
[[files]]
kind = "connect"
name = "peer"
prot = "tcp"
host = %q
port = %s
`, strings.Join(more, "\n"), host, port))
	own, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + own
	k := exec.Command(filepath.Join(bin, "donjon"), "run", "-q", "--tee", "sim", "--allow-connect", host, "--bind", "web="+addr, dir)
	k.Env, k.Stderr = environ(t), os.Stderr
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = k.Process.Signal(unix.SIGTERM)
		_ = k.Wait()
	})
	for range 600 {
		if c, err := net.Dial("tcp", addr); err == nil { // a client that says nothing: the guest never hears of it
			_ = c.Close()
			return addr
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the Keep does not listen")
	return ""
}
