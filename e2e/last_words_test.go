//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// What a workload has sent to a peer arrives, and then its end, although the
// workload has ended long before and the peer takes its time.
func TestSentAndGone(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(filepath.Join(bin, "act.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.wasm"), module, 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "Donjon.toml"), fmt.Sprintf(`[[files]]
kind = "null"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "connect"
prot = "tcp"
host = "127.0.0.1"
port = %d
`, l.Addr().(*net.TCPAddr).Port))
	for _, n := range []int{10, 100_000, 3_000_000} {
		type got struct {
			n   int64
			err error
		}
		read := make(chan got, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				read <- got{0, err}
				return
			}
			defer c.Close()
			time.Sleep(300 * time.Millisecond)
			m, err := io.Copy(io.Discard, c)
			read <- got{m, err}
		}()
		c := exec.Command(filepath.Join(bin, "donjon"), "run", "-q", "--tee", "sim", dir, "--", "send", fmt.Sprint(n))
		c.Env = environ(t)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		select {
		case g := <-read:
			if g.err != nil || g.n != int64(n) {
				t.Errorf("%d bytes were sent: found %d, %v", n, g.n, g.err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the connection does not end")
		}
	}
}
