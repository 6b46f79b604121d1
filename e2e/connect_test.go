//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/hex"
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
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store/storetest"
)

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
