//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stat is a field of /proc/PID/stat, counted from the state (3 in proc(5)) on.
func stat(pid, field int) int {
	s, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(s), ") ")
	f := strings.Fields(rest)
	if len(f) <= field {
		return -1
	}
	n, _ := strconv.Atoi(f[field])
	return n
}

func parent(pid int) int  { return stat(pid, 1) }
func session(pid int) int { return stat(pid, 3) }

// The first signal closes stdin and listeners and waits for the guest, the second
// does not wait. No test here would end within its deadline if one were ignored.
func TestSignals(t *testing.T) {
	b := newBench(t)
	t.Run("a guest that reads stdin ends by itself", func(t *testing.T) {
		for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM} {
			c := b.command("run", "-q", "--grace", "1h", "act.wasm", "--", "cat")
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(in, "x") // it runs once this comes back
			if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			_ = c.Process.Signal(sig)
			if status := b.wait(t, c); status != 128+int(sig) {
				t.Errorf("%v: found status %d", sig, status)
			}
			b.clean(t)
		}
	})
	t.Run("a guest that serves ends by itself", func(t *testing.T) {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		conf := filepath.Join(b.dir, "web.toml")
		text := "[[files]]\nkind = \"null\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n" +
			"[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"tcp\"\naddr = \"127.0.0.1\"\nport = " + port + "\n"
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c := b.command("run", "-q", "--grace", "1h", "--config", conf, "server.wasm")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "an answer", func() bool {
			r, err := http.Get("http://127.0.0.1:" + port + "/")
			if err != nil {
				return false
			}
			_ = r.Body.Close()
			return r.StatusCode == http.StatusOK
		})
		http.DefaultClient.CloseIdleConnections()
		_ = c.Process.Signal(unix.SIGTERM)
		if status := b.wait(t, c); status != 143 {
			t.Errorf("found status %d", status)
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err != nil {
			t.Errorf("the port is still taken: %v", err)
		} else {
			_ = l.Close()
		}
		b.clean(t)
	})
	t.Run("a guest that spins is ended after grace", func(t *testing.T) {
		var errs bytes.Buffer
		c := b.ready(t, &errs, "run", "-q", "--grace", "100ms", "act.wasm", "--", "spin")
		_ = c.Process.Signal(unix.SIGINT)
		if status := b.wait(t, c); status != 130 || errs.Len() > 0 {
			t.Errorf("found status %d, %q", status, errs.String())
		}
		b.clean(t)
	})
	t.Run("the second signal", func(t *testing.T) {
		c := b.ready(t, nil, "run", "-q", "--grace", "1h", "act.wasm", "--", "spin")
		ended := make(chan int)
		go func() { ended <- b.wait(t, c) }()
		for {
			_ = c.Process.Signal(unix.SIGTERM)
			select {
			case status := <-ended:
				if status != 143 {
					t.Errorf("found status %d", status)
				}
				b.clean(t)
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	t.Run("at any moment of the start", func(t *testing.T) {
		for i := range 6 {
			c := b.command("run", "-q", "--grace", "100ms", "--no-cache", "act.wasm", "--", "spin")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				until(t, "a Keep", func() bool { return len(b.keeps()) > 0 })
				time.Sleep(time.Duration(i-1) * 50 * time.Millisecond)
			}
			_ = c.Process.Signal(unix.SIGINT)
			if status := b.wait(t, c); status != 130 {
				t.Errorf("found status %d", status)
			}
			b.clean(t)
		}
	})
}

// Ctrl-C at a terminal reaches donjon alone, and the terminal is left as it was.
func TestTerminal(t *testing.T) {
	b := newBench(t)
	ptmx, tty := terminal(t)
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	c := b.command("run", "-q", "--grace", "200ms", "act.wasm", "--", "spin")
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(ptmx).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		t.Fatalf("found %q (%v)", line, err)
	}
	for _, p := range b.keeps() {
		if session(p) == session(c.Process.Pid) {
			t.Errorf("process %d of the Keep is in donjon's session: Ctrl-C would end it first", p)
		}
	}
	_, _ = ptmx.Write([]byte{3}) // Ctrl-C
	if status := b.wait(t, c); status != 130 {
		t.Errorf("found status %d", status)
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was not left as it was: %v, found %+v, wanted %+v", err, after, before)
	}
	b.clean(t)
}

func terminal(t *testing.T) (ptmx, tty *os.File) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { _ = ptmx.Close() })
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return ptmx, tty
}
