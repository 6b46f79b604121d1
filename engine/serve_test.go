//go:build linux

package engine

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// passing makes a guest's listener on which connections are passed, as the warden
// does, and a function that passes one.
func passing(t testing.TB) (File, func() (net.Conn, error)) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[1]) })
	var mu sync.Mutex
	return File{Name: "web", Kind: Listener, FD: pair[0]}, func() (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		c, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		err = unix.Sendmsg(pair[1], []byte{0}, unix.UnixRights(c[0]), nil, 0)
		unix.Close(c[0])
		f := os.NewFile(uintptr(c[1]), "conn")
		defer f.Close()
		if err != nil {
			return nil, err
		}
		return net.FileConn(f)
	}
}

// listening makes a guest's listener that is a real socket.
func listening(t testing.TB) (File, func() (net.Conn, error)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	return File{Name: "web", Kind: SocketListener, FD: fd}, func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

type running struct {
	t    testing.TB
	done chan struct{}
	res  Outcome
	err  error
}

func start(t testing.TB, p *Program, g Guest) *running {
	r := &running{t: t, done: make(chan struct{})}
	go func() {
		r.res, r.err = p.Run(context.Background(), g)
		close(r.done)
	}()
	return r
}

func (r *running) wants(status uint32) {
	r.t.Helper()
	<-r.done
	if r.err != nil || r.res.Status != status || r.res.Trap != "" {
		r.t.Errorf("outcome: found %+v, %v, wanted status %d", r.res, r.err, status)
	}
}

// TestWebServer serves three hundred connections that are all open at once, with
// an unmodified net/http program.
func TestWebServer(t *testing.T) {
	module := goGuest(t, "web")
	for name, listener := range map[string]func(testing.TB) (File, func() (net.Conn, error)){"passed": passing, "socket": listening} {
		t.Run(name, func(t *testing.T) {
			p := compile(t, module, Options{})
			web, dial := listener(t)
			r := start(t, p, Guest{Args: []string{"web"}, Files: []File{null("stdin"), null("stdout"), null("stderr"), web}})
			const conns = 300
			tr := &http.Transport{
				DialContext:         func(context.Context, string, string) (net.Conn, error) { return dial() },
				MaxIdleConnsPerHost: conns,
			}
			c := &http.Client{Transport: tr}
			var wg sync.WaitGroup
			half := make(chan struct{})
			var open sync.WaitGroup
			open.Add(conns)
			for i := range conns {
				wg.Add(1)
				go func() {
					defer wg.Done()
					// The body comes in two halves, the second when all
					// connections have sent the first.
					body, w := io.Pipe()
					go func() {
						fmt.Fprintf(w, "first %d ", i)
						open.Done()
						<-half
						io.WriteString(w, "second")
						w.Close()
					}()
					res, err := c.Post("http://guest/", "text/plain", body)
					if err != nil {
						t.Error(err)
						body.CloseWithError(err)
						return
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					if want := fmt.Sprintf("you said first %d second", i); err != nil || string(b) != want {
						t.Errorf("answer: found %q, %v, wanted %q", b, err, want)
					}
				}()
			}
			open.Wait()
			close(half)
			wg.Wait()
			res, err := c.Get("http://guest/quit")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			tr.CloseIdleConnections()
			r.wants(0)
		})
	}
}

func TestPollServer(t *testing.T) {
	module := cGuest(t, "echo")
	for name, listener := range map[string]func(testing.TB) (File, func() (net.Conn, error)){"passed": passing, "socket": listening} {
		t.Run(name, func(t *testing.T) {
			p := compile(t, module, Options{})
			web, dial := listener(t)
			const conns = 200
			r := start(t, p, Guest{Args: []string{"echo", fmt.Sprint(conns)}, Files: []File{null("stdin"), null("stdout"), null("stderr"), web}})
			all := make([]net.Conn, conns)
			for i := range all {
				c, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				all[i] = c
			}
			for round := range 3 {
				for i, c := range all {
					text := strings.Repeat(fmt.Sprintf("%d.%d ", round, i), 100)
					if _, err := io.WriteString(c, text); err != nil {
						t.Fatal(err)
					}
					b := make([]byte, len(text))
					if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
						t.Fatalf("echo %d of connection %d: found %q, %v", round, i, b, err)
					}
				}
			}
			for _, c := range all {
				c.Close()
			}
			r.wants(0)
		})
	}
}

// TestListenerEnds: a closed listener is an error of accept, not a wait for ever.
func TestListenerEnds(t *testing.T) {
	p := compile(t, cGuest(t, "echo"), Options{})
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1]) // the warden closed the listener
	r := start(t, p, Guest{Args: []string{"echo", "1"}, Files: []File{null("stdin"), null("stdout"), null("stderr"),
		{Name: "web", Kind: Listener, FD: pair[0]}}})
	r.wants(13) // accept failed
}

// BenchmarkHostCall is one clock_time_get, from the guest's call to its return.
func BenchmarkHostCall(b *testing.B) {
	p := compile(b, cGuest(b, "calls"), Options{})
	b.ReportAllocs()
	res, err := p.Run(context.Background(), Guest{Args: []string{"calls", fmt.Sprint(b.N)}})
	if err != nil || res != (Outcome{}) {
		b.Fatalf("found %+v, %v", res, err)
	}
}

// BenchmarkEcho is one message of 64 bytes through a polling C server and back,
// over a passed connection.
func BenchmarkEcho(b *testing.B) {
	p := compile(b, cGuest(b, "echo"), Options{})
	web, dial := passing(b)
	r := start(b, p, Guest{Args: []string{"echo", "1"}, Files: []File{null("stdin"), null("stdout"), null("stderr"), web}})
	c, err := dial()
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 64)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	c.Close()
	r.wants(0)
}
