//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/steward/store/storetest"
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

// An impostor negotiates the protocol, shows what a genuine Keep shows it, and keeps
// all that it is told.
type impostor struct {
	addr string
	mu   sync.Mutex
	got  bytes.Buffer
	n    int
}

func newImpostor(t *testing.T, genuine string) *impostor {
	t.Helper()
	cert := newAuthority(t).issue(t, "keep", time.Now().Add(time.Hour))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{atls.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	i := &impostor{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go i.relay(c, genuine)
		}
	}()
	return i
}

func (i *impostor) relay(c net.Conn, genuine string) {
	defer c.Close()
	far, err := tls.Dial("tcp", genuine, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{atls.Protocol}})
	if err != nil {
		return
	}
	defer far.Close()
	go func() { _, _ = io.Copy(c, far) }()
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		i.mu.Lock()
		i.got.Write(b[:n])
		i.n++
		i.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := far.Write(b[:n]); err != nil {
			return
		}
	}
}

// What stands at the address changes after connect has looked: the connection is
// refused, nothing of the request is sent, and the next one works once the Keep is back.
func TestConnectDiverted(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	keep := servingKeep(t, bin)
	policy := keepPolicy(t, bin, keep.addr)
	x := newCrossing(t, keep.addr)
	c := connecting(t, bin, x.addr, policy, "--listen", "127.0.0.1:0")
	get := func() (string, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		r, err := client.Post("http://"+c.addr+"/where", "text/plain", strings.NewReader("secret request"))
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return string(b), err
	}
	if got, err := get(); err != nil || got != "path /where\n" {
		t.Fatalf("through the Keep: %q, %v", got, err)
	}
	i := newImpostor(t, keep.addr)
	x.lead(i.addr)
	for range 3 {
		if got, err := get(); err == nil {
			t.Errorf("through the impostor: %q", got)
		}
	}
	c.waitFor(t, `the connection from 127.0.0.1:\d+ is refused: evidence is not genuine: the check channel-binding failed`)
	i.mu.Lock()
	if got := i.got.String(); i.n == 0 || strings.Contains(got, "secret") || strings.Contains(got, "POST") {
		t.Errorf("the impostor was told %q", got)
	}
	i.mu.Unlock()
	x.lead(keep.addr)
	if got, err := get(); err != nil || got != "path /where\n" {
		t.Errorf("through the Keep again: %q, %v", got, err)
	}
	// At once, the impostor gets no further.
	if status, _, errs := donjon(t, bin, "connect", "-q", i.addr, "--policy", policy, "--listen", "127.0.0.1:0"); status != 10 || !strings.Contains(errs, "channel-binding") {
		t.Errorf("the impostor: %d\n%s", status, errs)
	}
	if status, out, errs := donjon(t, bin, "policy", "init", "--from-keep", i.addr); status != 10 || out != "" || !strings.Contains(errs, "channel-binding") {
		t.Errorf("a policy for the impostor: %d\n%s%s", status, out, errs)
	}
}

// What is no Keep is not genuine where it answers, and not reached where it does not.
func TestConnectToOthers(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "p.toml")
	put(t, policy, "version = 1\n[snp]\n")
	a := newAuthority(t)
	cert := a.issue(t, "other", time.Now().Add(time.Hour))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes the connection, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	web := func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n")
	}
	for _, x := range []struct {
		name   string
		conf   *tls.Config // nil: plain TCP
		answer func(net.Conn)
		addr   string
		want   int
		says   string
	}{
		{name: "TLS 1.3", conf: &tls.Config{}, answer: web, want: 10, says: "the check protocol failed"},
		{name: "TLS 1.3 with protocols of its own", conf: &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, answer: web, want: 10, says: "the check protocol failed"},
		{name: "TLS 1.2", conf: &tls.Config{MaxVersion: tls.VersionTLS12}, answer: web, want: 10, says: "the check protocol failed"},
		{name: "plain HTTP", answer: web, want: 10, says: "the check protocol failed"},
		{name: "a server that speaks first", answer: func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); _, _ = io.Copy(io.Discard, c) }, want: 10, says: "the check protocol failed"},
		{name: "a server that hangs up", answer: func(net.Conn) {}, want: 1, says: "not reached"},
		{name: "nobody who answers", addr: silent.Addr().String(), want: 1, says: "not reached"},
		{name: "no such name", addr: "keep.invalid:9443", want: 1, says: "not reached"},
	} {
		if x.addr == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			x.addr = l.Addr().String()
			if x.conf != nil {
				x.conf.Certificates = []tls.Certificate{cert}
				l = tls.NewListener(l, x.conf)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						x.answer(c)
						_ = c.Close()
					}()
				}
			}()
		}
		status, _, errs := donjon(t, bin, "connect", x.addr, "--policy", policy, "--timeout", "2s")
		if status != x.want || !strings.Contains(errs, x.says) {
			t.Errorf("%s: status %d, wanted %d and %q\n%s", x.name, status, x.want, x.says, errs)
		}
	}
}

// resident is a process's memory, in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmRSS in %s", b)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// A thousand attested connections, all open: each is answered, and while they rest the
// process keeps under 64 MiB.
func TestConnectThousand(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	keep := servingKeep(t, bin)
	c := connecting(t, bin, keep.addr, keepPolicy(t, bin, keep.addr), "--listen", "127.0.0.1:0", "--timeout", "2m")
	all := make([]net.Conn, 1000)
	var err error
	for i := range all { // all at once: they wait for each other
		if all[i], err = net.Dial("tcp", c.addr); err != nil {
			t.Fatal(err)
		}
		defer all[i].Close()
		_ = all[i].SetDeadline(time.Now().Add(4 * time.Minute))
		if _, err := fmt.Fprintf(all[i], "GET /%d HTTP/1.1\r\nHost: keep\r\n\r\n", i); err != nil {
			t.Fatal(err)
		}
	}
	answered := func() {
		t.Helper()
		for i, conn := range all {
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("connection %d: %v\n%s", i, err, c.text())
			}
			b, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("path /%d\n", i); err != nil || string(b) != want {
				t.Fatalf("connection %d: found %q, %v", i, b, err)
			}
		}
	}
	answered()
	least := 1 << 30
	for range 100 {
		if least = min(least, resident(t, c.cmd.Process.Pid)); least < 64<<10 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("1,000 idle connections: %d KiB", least)
	if least >= 64<<10 {
		t.Errorf("1,000 idle connections: %d KiB, wanted less than 64 MiB", least)
	}
	for i, conn := range all {
		if _, err := fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: keep\r\n\r\n", i); err != nil {
			t.Fatal(err)
		}
	}
	answered()
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

// psql talks through a Unix socket, by the name it looks for.
func TestConnectPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql (apt-get install postgresql)")
	}
	cluster := storetest.Postgres(t)
	host, ok := strings.CutPrefix(strings.Fields(cluster.Database(t))[0], "host=")
	if !ok {
		t.Fatal("the cluster's folder is not known")
	}
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	keep := pipeKeep(t, bin, newCrossing(t, filepath.Join(host, ".s.PGSQL.5432")).addr)
	dir := t.TempDir()
	connecting(t, bin, keep, keepPolicy(t, bin, keep), "--listen", "unix:"+filepath.Join(dir, ".s.PGSQL.5432"))
	out, err := exec.Command(psql, "-h", dir, "-U", "postgres", "-XAtc", "select sum(n) from generate_series(1, 100000) n", "t1").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "5000050000" {
		t.Errorf("%v: %s", err, out)
	}
}

// ssh's ProxyCommand: both ends hear each other's first line.
func TestConnectSSH(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh (apt-get install openssh-client)")
	}
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() { // no SSH server: its first line, and then it hangs up
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "SSH-2.0-behind_a_Keep\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		heard <- line
	}()
	keep := pipeKeep(t, bin, l.Addr().String())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, ssh, "-v", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", fmt.Sprintf("ProxyCommand=%s connect -q %s --policy %s --stdio", filepath.Join(bin, "donjon"), keep, keepPolicy(t, bin, keep)), "keep")
	c.Env = environ(t)
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "behind_a_Keep") {
		t.Errorf("%v: %s", err, out)
	}
	select {
	case line := <-heard:
		if !strings.HasPrefix(line, "SSH-2.0-OpenSSH") {
			t.Errorf("the other end heard %q", line)
		}
	default:
		t.Error("the other end heard nothing")
	}
}

// The workload reads whose identity a client has shown: the key that connect has named.
func TestConnectIdentity(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 2)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				heard <- string(b)
			}()
		}
	}()
	me := filepath.Join(t.TempDir(), "me")
	more := []string{`client_auth = "any"`, `peer_header = "proxy-v2"`}
	// Of two alike the first is used up by writing the policy: its guest takes one client.
	first := pipeKeep(t, bin, l.Addr().String(), more...)
	status, text, errs := donjon(t, bin, "policy", "init", "--from-keep", first, "--identity", me)
	if status != 0 {
		t.Fatal(errs)
	}
	key := regexp.MustCompile(`key is sha256:([0-9a-f]{64})`).FindStringSubmatch(errs)
	if key == nil {
		t.Fatal(errs)
	}
	<-heard
	policy := filepath.Join(t.TempDir(), "keep.toml")
	put(t, policy, text)
	c := exec.Command(filepath.Join(bin, "donjon"), "connect", pipeKeep(t, bin, l.Addr().String(), more...), "--policy", policy, "--identity", me, "--stdio")
	c.Env, c.Stdin = environ(t), strings.NewReader("said")
	out, err := c.CombinedOutput()
	if err != nil || strings.Contains(string(out), "did not ask") {
		t.Fatalf("%v: %s", err, out)
	}
	got := <-heard
	want, err := hex.DecodeString(key[1])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "\r\n\r\n\x00\r\nQUIT\n") || !strings.Contains(got, "\xe4\x00\x20"+string(want)) || !strings.HasSuffix(got, "said") {
		t.Errorf("the workload reads %q, wanted a header with the key %x", got, want)
	}
}
