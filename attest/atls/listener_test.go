package atls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func listener(t *testing.T, k *keep) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Listener{Listener: inner, Server: k.server(), Config: k.tls()}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// echo answers every client with what it says.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
	}
}

// A thousand clients at once are all served, each over its own proof, by no more than
// MaxPending unfinished.
func TestThousandAtOnce(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	var now, most, proofs atomic.Int32
	l := listener(t, k)
	l.MaxPending = 32
	l.Server = &Server{Timeout: 5 * time.Minute, Prover: proverFunc(func(ctx context.Context, nonce, exporter []byte) (Proof, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		proofs.Add(1)
		return k.Prove(ctx, nonce, exporter)
	})}
	go echo(l)
	d := Dialer{Config: admits(t, s, k)}
	d.Timeout = 5 * time.Minute
	const clients = 1000
	start := make(chan struct{})
	var wg sync.WaitGroup
	var served atomic.Int32
	for range clients {
		wg.Go(func() {
			<-start
			c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = c.Write([]byte("hello"))
			_ = c.(*Conn).CloseWrite()
			if b, err := io.ReadAll(c); string(b) == "hello" && err == nil {
				served.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	if served.Load() != clients || proofs.Load() != clients || most.Load() > 32 {
		t.Errorf("served %d, %d proofs, %d at once", served.Load(), proofs.Load(), most.Load())
	}
}

// Clients that stall or talk rubbish keep nobody out: the next is served while they are
// there, and the Refused hook hears of them.
func TestListenerOutlivesClients(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	l := listener(t, k)
	l.Server.Timeout = time.Minute
	refused := make(chan error, 64)
	l.Refused = func(_ net.Addr, err error) { refused <- err }
	go echo(l)
	for range 20 { // stalled, before and behind the handshake
		a, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := tls.Dial("tcp", l.Addr().String(), (&Config{}).TLS())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
	}
	rude, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(rude, "GET / HTTP/1.1\r\n\r\n")
	if err := <-refused; err == nil {
		t.Error("no reason")
	}
	_ = rude.Close()
	plain, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err == nil {
		t.Error("a client of another protocol is taken")
		_ = plain.Close()
	}
	d := Dialer{Config: admits(t, s, k)}
	c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	// Closed: the unfinished are ended and nobody is taken; who is connected goes on.
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for range 41 {
		select {
		case <-refused:
		case <-time.After(time.Minute):
			t.Fatal("a stalled client outlives the listener")
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("found %v", err)
	}
	_, _ = c.Write([]byte("still"))
	_ = c.(*Conn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "still" || err != nil {
		t.Errorf("found %q, %v", b, err)
	}
	_ = c.Close()
}

// pipes is a listener in memory.
type pipes struct {
	next chan net.Conn
	done chan struct{}
	once sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.next:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Where every place is taken by a client that stalls, the next gets the place of the one
// that has had it longest, and not before its grace.
func TestPlacesAreTaken(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	base := admits(t, s, k)
	base.Judge = looksAway
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{next: make(chan net.Conn), done: make(chan struct{})}
		l := &Listener{Listener: p, Server: k.server(), Config: k.tls(), MaxPending: 3}
		done := make(chan bool)
		go func() { echo(l); close(done) }()
		start := time.Now()
		var stalled []net.Conn
		for range 3 {
			near, far := net.Pipe()
			p.next <- far
			stalled = append(stalled, near)
			time.Sleep(time.Second)
		}
		near, far := net.Pipe()
		p.next <- far
		c, err := base.Client(context.Background(), near)
		if err != nil || time.Since(start) != grace {
			t.Errorf("found %v after %s, wanted a place after %s", err, time.Since(start), grace)
		}
		if _, err := stalled[0].Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the first: found %v", err)
		}
		go stalled[1].Write([]byte{22}) // it is there yet
		_ = c.Close()
		_ = l.Close()
		<-done
		synctest.Wait()
		for _, x := range stalled {
			_ = x.Close()
		}
		synctest.Wait()
	})
}

// Nobody calls Accept: what is finished waits, bounded, and Close ends it.
func TestNobodyAccepts(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	base := admits(t, s, k)
	base.Judge = looksAway
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{next: make(chan net.Conn), done: make(chan struct{})}
		l := &Listener{Listener: p, Server: k.server(), Config: k.tls(), MaxPending: 2}
		first := make(chan error)
		go func() {
			c, err := l.Accept() // once, which begins
			if err == nil {
				_ = c.Close()
			}
			first <- err
		}()
		var open []*Conn
		for range 3 {
			near, far := net.Pipe()
			p.next <- far
			c, err := base.Client(context.Background(), near)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
			go io.Copy(io.Discard, c)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		near, far := net.Pipe()
		p.next <- far
		base.Timeout = time.Hour
		if _, err := base.Client(context.Background(), near); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fourth, where two places are taken for good: found %v", err)
		}
		_ = l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("found %v", err)
		}
		for _, c := range open {
			_ = c.Close()
		}
		synctest.Wait()
	})
}

// Close before Accept.
func TestCloseFirst(t *testing.T) {
	l := listener(t, newKeep(t, newSilicon(t), 1))
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("found %v", err)
	}
}

// A server with ordinary clients too: each gets what it asks for.
func TestOffer(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	ordinary := k.tls()
	ordinary.NextProtos = []string{"http/1.1"}
	for _, dynamic := range []bool{false, true} {
		of := ordinary
		if dynamic {
			of = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return ordinary, nil }}
		}
		if k.server().TLS(of).GetConfigForClient != nil {
			t.Error("what the protocol is spoken with can be exchanged by a server's own choice")
		}
		offer := k.server().Offer(of)
		for _, x := range []struct {
			asks []string
			gets string
		}{{nil, ""}, {[]string{"http/1.1"}, "http/1.1"}, {[]string{"http/1.1", Protocol}, Protocol}, {[]string{Protocol}, Protocol}} {
			near, far := connected(t)
			go func() { _ = tls.Server(far, offer).Handshake() }()
			conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: x.asks})
			if err := conn.Handshake(); err != nil || conn.ConnectionState().NegotiatedProtocol != x.gets {
				t.Errorf("asked for %q: found %q, %v", x.asks, conn.ConnectionState().NegotiatedProtocol, err)
			}
		}
		// TLS 1.2 is for ordinary clients, where of allows it.
		for _, x := range []struct {
			asks []string
			ok   bool
		}{{[]string{Protocol}, false}, {[]string{"http/1.1"}, true}} {
			near, far := connected(t)
			go func() {
				if tls.Server(far, offer).Handshake() != nil {
					_ = far.Close()
				}
			}()
			conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: x.asks, MaxVersion: tls.VersionTLS12})
			if err := conn.Handshake(); (err == nil) != x.ok {
				t.Errorf("TLS 1.2 asked for %q: found %v", x.asks, err)
			}
		}
	}
}

// A busy Keep is asked again: within the time allowed, and no longer.
func TestBusyIsAskedAgain(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	for _, times := range []int32{2, 1 << 30} {
		var asked atomic.Int32
		l := listener(t, k)
		l.Server = &Server{Prover: proverFunc(func(ctx context.Context, nonce, exporter []byte) (Proof, error) {
			if asked.Add(1) <= times {
				return Proof{}, ErrBusy
			}
			return k.Prove(ctx, nonce, exporter)
		})}
		go echo(l)
		d := Dialer{Config: admits(t, s, k)}
		if times > 2 {
			d.Timeout = 300 * time.Millisecond
		}
		c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
		switch {
		case times == 2 && err != nil:
			t.Error(err)
		case times > 2 && (err == nil || c != nil || !errors.Is(err, ErrBusy) && !errors.Is(err, context.DeadlineExceeded)):
			t.Errorf("found %v", err)
		}
		if n := asked.Load(); n < 2 || times == 2 && n != 3 || n > 20 {
			t.Errorf("asked %d times", n)
		}
	}
}
