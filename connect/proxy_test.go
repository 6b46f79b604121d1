//go:build linux

package connect

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// mirror sends back what it gets, and ends when the other side has.
func mirror(c *tls.Conn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	_ = c.Close()
}

type halfCloser interface{ CloseWrite() error }

// What goes in comes out at the other end, all of it, after the local side has ended
// its part; in pieces of every size around that of a record and of a buffer.
func TestBothWays(t *testing.T) {
	k := newKeep(t, mirror)
	for _, place := range []string{"127.0.0.1:0", UnixPrefix + filepath.Join(t.TempDir(), "s")} {
		s := serve(t, &Proxy{Dial: k.dialer().Dial}, place)
		for _, size := range []int{0, 1, 5, 16383, 16384, 16385, bufferSize - 1, bufferSize, bufferSize + 1, 3 << 20} {
			sent := make([]byte, size)
			rand.Read(sent)
			c := s.dial(t)
			go func() {
				_, _ = c.Write(sent)
				_ = c.(halfCloser).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%s: %d bytes come back as %d, %v", place, size, len(got), err)
			}
		}
		s.end()
	}
}

// The Keep ends its part first, and is still listened to.
func TestKeepEndsFirst(t *testing.T) {
	got := make(chan []byte, 1)
	k := newKeep(t, func(c *tls.Conn) {
		_, _ = c.Write([]byte("banner"))
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- b
		_ = c.Close()
	})
	c := serve(t, &Proxy{Dial: k.dialer().Dial}, "127.0.0.1:0").dial(t)
	if b, err := io.ReadAll(c); err != nil || string(b) != "banner" {
		t.Errorf("found %q, %v", b, err)
	}
	_, _ = c.Write([]byte("late"))
	_ = c.(halfCloser).CloseWrite()
	if b := <-got; string(b) != "late" {
		t.Errorf("the Keep got %q", b)
	}
}

// A connection that is cut without a close_notify looks like no end to a local
// program: what it has may be a part.
func TestCutIsNoEnd(t *testing.T) {
	for name, cut := range map[string]func(*tls.Conn){
		"between records": func(c *tls.Conn) { _ = c.NetConn().Close() },
		"within a record": func(c *tls.Conn) {
			_, _ = c.NetConn().Write([]byte{23, 3, 3, 0x40, 0, 1, 2, 3})
			_ = c.NetConn().Close()
		},
		"half of it": func(c *tls.Conn) {
			_ = c.NetConn().(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c.NetConn())
		},
	} {
		k := newKeep(t, func(c *tls.Conn) {
			_, _ = c.Write([]byte("a part"))
			var b [1]byte
			_, _ = io.ReadFull(c, b[:]) // the local program has it
			cut(c)
		})
		s := serve(t, &Proxy{Dial: k.dialer().Dial}, "127.0.0.1:0")
		c := s.dial(t)
		var b [6]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte{1})
		if n, err := c.Read(b[:]); err == nil || err == io.EOF || n > 0 {
			t.Errorf("%s: the local program sees %d bytes and %v, wanted a reset", name, n, err)
		}
		if err := <-s.failed; !errors.Is(err, atls.ErrCut) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A Keep that is not admitted gets nothing of the request, and the local program no
// answer.
func TestRefusedGetsNothing(t *testing.T) {
	k := newKeep(t, mirror)
	s := serve(t, &Proxy{Dial: k.dialerFor([32]byte{9}).Dial}, "127.0.0.1:0")
	if c, err := s.try(t); err == nil {
		_, _ = c.Write([]byte("secret request"))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
			t.Errorf("the local program sees %d bytes and %v, wanted a reset", n, err)
		}
	}
	var refused *verdict.Error
	if err := <-s.failed; !errors.As(err, &refused) || refused.Verdict.Outcome != verdict.Refused || refused.Verdict.Deciding()[0].Code != verdict.Workload {
		t.Errorf("found %v, wanted a refusal by workload", err)
	}
	if k.attested.Load() != 0 || k.handshake.Load() != 1 {
		t.Errorf("the Keep was accepted %d times, and called %d times", k.attested.Load(), k.handshake.Load())
	}
}

// Each connection is verified afresh: one that was admitted says nothing about the next.
func TestVerifiedAfresh(t *testing.T) {
	k := newKeep(t, mirror)
	s := serve(t, &Proxy{Dial: k.dialer().Dial}, "127.0.0.1:0")
	talk := func() error {
		c, err := s.try(t)
		if err == nil {
			_, _ = c.Write([]byte("x"))
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		return err
	}
	if err := talk(); err != nil {
		t.Fatal(err)
	}
	k.claims.PubkeyHash[0] ^= 1 // another key than the one that ends TLS
	if talk() == nil {
		t.Error("a Keep that shows another key's evidence is talked to")
	}
	var refused *verdict.Error
	if err := <-s.failed; !errors.As(err, &refused) || refused.Verdict.Deciding()[0].Code != verdict.KeyBinding {
		t.Errorf("found %v, wanted key-binding", err)
	}
}

// A busy Keep is asked again until the time is over.
func TestBusy(t *testing.T) {
	k := newKeep(t, mirror)
	k.busy.Store(3)
	c, err := k.dialer().Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if n := k.handshake.Load(); n != 4 {
		t.Errorf("asked %d times, wanted 4", n)
	}
	k.busy.Store(1 << 20)
	d := k.dialer()
	d.Config.Timeout = 300 * time.Millisecond
	if _, err := d.Dial(context.Background()); !errors.Is(err, atls.ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("found %v", err)
	}
}

// A connection ends when its attestation is too old, in the middle of what it does.
func TestAge(t *testing.T) {
	k := newKeep(t, mirror)
	s := serve(t, &Proxy{Dial: k.dialer().Dial, MaxAge: 300 * time.Millisecond}, "127.0.0.1:0")
	c := s.dial(t)
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			break
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			break
		}
	}
	if err := <-s.failed; !errors.Is(err, atls.ErrAged) {
		t.Errorf("found %v", err)
	}
}

// A Keep that has said all it had to say and is gone, while the local program still
// sends: the program gets all of it, though it does not read before it has written.
func TestKeepGoesWithItsLastWord(t *testing.T) {
	said := make([]byte, 300_000) // more than a Unix socket holds
	rand.Read(said)
	gone := make(chan struct{})
	k := newKeep(t, func(c *tls.Conn) {
		defer close(gone)
		raw := c.NetConn().(*net.TCPConn)
		_, _ = c.Write(said)
		_ = c.CloseWrite()
		await(t, "what the Keep has sent arrives", func() (all bool) {
			r, err := raw.SyscallConn()
			if err == nil {
				_ = r.Control(func(fd uintptr) {
					n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
					all = err == nil && n == 0
				})
			}
			return all
		})
		_ = raw.SetLinger(0)
		_ = raw.Close()
	})
	d := k.dialer()
	// The rest must find room in the kernel: a window that has not grown yet has none.
	d.Net.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20) })
	}
	s := serve(t, &Proxy{Dial: d.Dial}, UnixPrefix+filepath.Join(t.TempDir(), "s"))
	c := s.dial(t)
	<-gone
	if n, err := c.Write(make([]byte, 8<<20)); err != nil {
		t.Errorf("writing ends after %d bytes: %v", n, err)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, said) {
		t.Errorf("found %d of %d bytes, %v", len(got), len(said), err)
	}
	for err := error(nil); err == nil; { // and is not listened to in vain
		if _, err = c.Write([]byte("x")); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
	s.end()
	select {
	case err := <-s.failed:
		t.Error(err)
	default:
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s: not within a minute", what)
			return
		}
	}
}

// No more than Most are carried: others wait, and get their turn.
func TestMost(t *testing.T) {
	k := newKeep(t, mirror)
	full := make(chan int, 1)
	s := serve(t, &Proxy{Dial: k.dialer().Dial, Most: 2, Full: func(n int) { full <- n }}, "127.0.0.1:0")
	first, second, third := s.dial(t), s.dial(t), s.dial(t)
	for _, c := range []net.Conn{first, second} {
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-full; n != 2 {
		t.Errorf("full at %d", n)
	}
	if n := k.attested.Load(); n != 2 {
		t.Errorf("%d connections to the Keep, wanted 2", n)
	}
	_ = first.Close()
	_, _ = third.Write([]byte("x"))
	if _, err := io.ReadFull(third, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// The end of the proxy ends everything: no local program can take it for the Keep's.
func TestEnd(t *testing.T) {
	k := newKeep(t, mirror)
	s := serve(t, &Proxy{Dial: k.dialer().Dial}, "127.0.0.1:0")
	var all []net.Conn
	for range 20 {
		c := s.dial(t)
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	s.end()
	for _, c := range all {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("found %v, wanted a reset", err)
		}
	}
	select {
	case err := <-s.failed:
		t.Errorf("an end that was asked for is called a failure: %v", err)
	default:
	}
}

// A local program that goes away, in any way, is nobody's failure, and frees its place.
func TestLocalGoes(t *testing.T) {
	k := newKeep(t, func(c *tls.Conn) {
		b := make([]byte, 1<<20)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	s := serve(t, &Proxy{Dial: k.dialer().Dial, Most: 1}, "127.0.0.1:0")
	for i := range 6 {
		c := s.dial(t)
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if i%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
	s.end()
	select {
	case err := <-s.failed:
		t.Error(err)
	default:
	}
}

// Attestations that hang keep others waiting for as long as they may take, and no
// longer; many at once all end.
func TestManyAtOnce(t *testing.T) {
	k := newKeep(t, mirror)
	k.busy.Store(20)
	s := serve(t, &Proxy{Dial: k.dialer().Dial}, "127.0.0.1:0")
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			c, err := net.Dial("tcp", s.addr.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
