package atls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Half-open and slow peers, on a clock of the test's own.

func TestSlowServer(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	base := admits(t, s, k)
	evidence := message(t, kindEvidence, proof{Evidence: make([]byte, 4096)})
	for name, server := range map[string]func(net.Conn){
		"says nothing":  func(far net.Conn) { _, _ = io.Copy(io.Discard, far) },
		"does not read": func(net.Conn) {},
		"half a record": func(far net.Conn) {
			_, _ = far.Read(make([]byte, 4096))
			_, _ = far.Write([]byte{22, 3, 3, 1})
			_, _ = io.Copy(io.Discard, far)
		},
		"no evidence": func(far net.Conn) {
			conn := tls.Server(far, k.server().TLS(k.tls()))
			_ = conn.Handshake()
			_, _ = io.Copy(io.Discard, conn)
		},
		"evidence a byte a second": func(far net.Conn) {
			conn := tls.Server(far, k.server().TLS(k.tls()))
			_ = conn.Handshake()
			go io.Copy(io.Discard, conn)
			for _, b := range evidence {
				time.Sleep(time.Second)
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			client := base
			client.Options.Policy, client.Timeout, client.Time = nil, 7*time.Second, time.Now
			done := make(chan bool)
			go func() { server(far); close(done) }()
			start := time.Now()
			_, err := client.Client(context.Background(), near)
			if !errors.Is(err, context.DeadlineExceeded) || outcome(err) != "" || time.Since(start) != 7*time.Second {
				t.Errorf("%s: found %v after %s", name, err, time.Since(start))
			}
			_ = far.Close()
			<-done
		})
	}
	// A caller who gives up is heard at once.
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := base.Client(ctx, near); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("found %v after %s", err, time.Since(start))
		}
		_ = far.Close()
	})
}

func TestSlowClient(t *testing.T) {
	k := newKeep(t, newSilicon(t), 1)
	request := message(t, kindRequest, request{Nonce: make([]byte, NonceSize)})
	shaken := func(near net.Conn) *tls.Conn {
		conn := tls.Client(near, (&Config{}).TLS())
		_ = conn.Handshake()
		return conn
	}
	for name, client := range map[string]func(net.Conn){
		"says nothing": func(near net.Conn) { _, _ = io.Copy(io.Discard, near) },
		"no request":   func(near net.Conn) { _, _ = io.Copy(io.Discard, shaken(near)) },
		"half a request": func(near net.Conn) {
			conn := shaken(near)
			_, _ = conn.Write(request[:7])
			_, _ = io.Copy(io.Discard, conn)
		},
		"does not read the evidence": func(near net.Conn) { _, _ = shaken(near).Write(request) },
		"no accept": func(near net.Conn) {
			conn := shaken(near)
			_, _ = conn.Write(request)
			_, _ = io.Copy(io.Discard, conn)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go client(near)
			server := k.server()
			server.Timeout = 7 * time.Second
			start := time.Now()
			_, err := server.Attest(context.Background(), tls.Server(far, server.TLS(k.tls())))
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 7*time.Second {
				t.Errorf("%s: found %v after %s", name, err, time.Since(start))
			}
			_, _ = near.Close(), far.Close()
			synctest.Wait()
		})
	}
}

// A connection is used no longer than its age limit, whatever goes on on it, and may be
// used as long as that, however late its deadline in the handshake was.
func TestAgeLimit(t *testing.T) {
	for name, x := range map[string]struct{ given, limit time.Duration }{"given": {time.Hour, time.Hour}, "default": {0, DefaultMaxAge}} {
		s := newSilicon(t)
		k := newKeep(t, s, 1)
		base := admits(t, s, k)
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			server := k.server()
			client := base
			client.MaxAge, client.Judge = x.given, looksAway // the bubble's clock is before the certificates
			var srv *Conn
			go func() {
				srv, _ = server.Attest(context.Background(), tls.Server(&uncut{Conn: far}, server.TLS(k.tls())))
			}()
			c, err := client.Client(context.Background(), near)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			start, peer := time.Now(), make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, srv)
				peer <- err
				_ = srv.Close()
			}()
			time.Sleep(30 * time.Second) // no write falls on the instant of the limit: one that is cut says no end
			for err == nil {
				time.Sleep(time.Minute)
				_, err = c.Write([]byte("x"))
			}
			if !errors.Is(err, ErrAged) || time.Since(start) < x.limit || time.Since(start) > x.limit+time.Minute {
				t.Errorf("%s: found %v after %s", name, err, time.Since(start))
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrAged) {
				t.Errorf("%s: found %v", name, err)
			}
			if err := <-peer; err != nil {
				t.Errorf("%s: the other end found %v, wanted an end that was said", name, err)
			}
			_ = c.Close()
		})
	}
	// The other end answers the end that the age limit says: that is no end of its own.
	{
		s := newSilicon(t)
		k := newKeep(t, s, 1)
		c, srv := meet(t, admits(t, s, k), k.server(), k.tls())
		if c.err != nil || srv.err != nil {
			t.Fatal(c.err, srv.err)
		}
		c.conn.aged.Store(true)
		_ = srv.conn.Close()
		if _, err := c.conn.Read(make([]byte, 1)); err != ErrAged {
			t.Errorf("an aged connection that the other end has ended: found %v", err)
		}
		_ = c.conn.Close()
	}
	// Where the caller limits the age, no timer holds the connection.
	{
		s := newSilicon(t)
		k := newKeep(t, s, 1)
		config := admits(t, s, k)
		config.MaxAge = NoMaxAge
		c, srv := meet(t, config, k.server(), k.tls())
		if c.err != nil || srv.err != nil {
			t.Fatal(c.err, srv.err)
		}
		if c.conn.age != nil {
			t.Error("a connection without a limit here has a timer")
		}
		_, _ = c.conn.Close(), srv.conn.Close()
	}
	// Closed in time, nothing stays behind: the bubble would wait for it.
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	c, srv := meet(t, admits(t, s, k), k.server(), k.tls())
	if c.err != nil || srv.err != nil {
		t.Fatal(c.err, srv.err)
	}
	_ = c.conn.Close()
	if c.conn.age.Stop() {
		t.Error("the age limit's timer runs on")
	}
}

// A connection that somebody cuts has not ended: between two records, and within one.
func TestCut(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	for name, x := range map[string]struct {
		end  func(c *Conn)
		want error
	}{
		"said":                      {func(c *Conn) { _ = c.Close() }, nil},
		"said one way":              {func(c *Conn) { _ = c.CloseWrite() }, nil},
		"between records":           {func(c *Conn) { _ = c.NetConn().Close() }, ErrCut},
		"within a record":           {func(c *Conn) { _, _ = c.NetConn().Write([]byte{23, 3, 3, 0}); _ = c.NetConn().Close() }, ErrCut},
		"a longer record announced": {func(c *Conn) { _, _ = c.NetConn().Write([]byte{23, 3, 3, 0, 17, 0}); _ = c.NetConn().Close() }, ErrCut},
	} {
		for _, server := range []bool{false, true} {
			c, srv := meet(t, admits(t, s, k), k.server(), k.tls())
			if c.err != nil || srv.err != nil {
				t.Fatal(c.err, srv.err)
			}
			reads, ends := c.conn, srv.conn
			if server {
				reads, ends = ends, reads
			}
			_, _ = ends.Write([]byte("part"))
			x.end(ends)
			b, err := io.ReadAll(reads)
			if string(b) != "part" || !errors.Is(err, x.want) || x.want != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, read by the server %v: found %q, %v", name, server, b, err)
			}
		}
	}
}

// After the proof no deadline of the handshake is left.
func TestNoDeadlineIsLeft(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	base := admits(t, s, k)
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		client := base
		client.Judge, client.Timeout = looksAway, time.Second
		go func() {
			srv, err := k.server().Attest(context.Background(), tls.Server(far, k.server().TLS(k.tls())))
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Hour)
			_, _ = srv.Write([]byte("late"))
			_ = srv.Close()
		}()
		c, err := client.Client(context.Background(), near)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); string(b) != "late" || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("found %q, %v", b, err)
		}
		_ = c.Close()
	})
}
