package atls

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Servers that do not speak the protocol, and hosts that make one look so.
func TestDowngrade(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	with := func(edit func(*tls.Config)) func(net.Conn) {
		c := k.tls()
		edit(c)
		return func(far net.Conn) {
			conn := tls.Server(far, c)
			if _, err := k.server().Attest(context.Background(), conn); err != nil {
				_ = conn.Close()
			}
		}
	}
	offer := k.server().Offer(k.tls())
	both := func(far net.Conn) {
		conn := tls.Server(far, offer)
		_, _ = k.server().Attest(context.Background(), conn)
	}
	for _, x := range []struct {
		name   string
		server func(net.Conn)
		want   string
		change func([]byte) []byte // what stands between does to the client's first record
	}{
		{"control", both, "", nil},
		{"control, one of several names", with(func(c *tls.Config) { c.NextProtos = []string{"h2", Protocol, "http/1.1"} }), "", nil},
		{"control, through somebody", both, "", func(b []byte) []byte { return b }},
		{"plain HTTP", func(far net.Conn) {
			_, _ = bufio.NewReader(far).ReadString('\n')
			_, _ = io.WriteString(far, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = far.Close()
		}, "protocol", nil},
		{"a banner", func(far net.Conn) { _, _ = io.WriteString(far, "SSH-2.0-OpenSSH_9.2\r\n") }, "protocol", nil},
		{"TLS 1.2 at most", with(func(c *tls.Config) { c.MaxVersion, c.NextProtos = tls.VersionTLS12, []string{Protocol} }), "protocol", nil},
		{"TLS 1.3 without ALPN", with(func(c *tls.Config) {}), "protocol", nil},
		{"other protocols alone", with(func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }), "protocol", nil},
		{"ALPN stripped on the way", both, "protocol", func(b []byte) []byte { return bytes.Replace(b, []byte(Protocol), []byte("donjon-nothing1"), 1) }},
		{"ALPN of another version", both, "protocol", func(b []byte) []byte { return bytes.Replace(b, []byte(Protocol), []byte("donjon-attest/0"), 1) }},
		{"the supported versions changed on the way", both, "protocol", func(b []byte) []byte {
			return bytes.Replace(b, []byte{0, 43, 0, 3, 2, 3, 4}, []byte{0, 43, 0, 3, 2, 3, 3}, 1)
		}},
	} {
		near, far := connected(t)
		if x.change != nil {
			near = altered(t, near, x.change)
			_ = far
		}
		go x.server(far)
		c, err := client.Client(context.Background(), near)
		if got := failedCodes(err); got != x.want || (err == nil) != (x.want == "") {
			t.Errorf("%s: found %q, wanted %q: %v", x.name, got, x.want, err)
		}
		if err != nil && outcome(err) != verdict.NotGenuine {
			t.Errorf("%s: found %v", x.name, outcome(err))
		}
		if c != nil {
			_ = c.Close()
		}
	}
}

// altered is somebody between the client and what to leads to, who changes the client's
// first record.
func altered(t *testing.T, to net.Conn, change func([]byte) []byte) net.Conn {
	near, far := connected(t)
	go func() {
		b := make([]byte, 16<<10)
		n, _ := io.ReadAtLeast(far, b, 6)
		_, _ = to.Write(change(b[:n]))
		go func() { _, _ = io.Copy(to, far); _ = to.Close() }()
		_, _ = io.Copy(far, to)
		_ = far.Close()
	}()
	return near
}

// A Keep that cannot be reached is no Keep that lies: no verdict.
func TestUnreachable(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	d := Dialer{Config: client}
	if _, err := d.DialContext(context.Background(), "tcp", nobody); err == nil || outcome(err) != "" {
		t.Errorf("nobody listens: found %v", err)
	}
	for name, after := range map[string]func(*tls.Conn){
		"in the handshake": nil,
		"behind it":        func(*tls.Conn) {},
		"in a message":     func(c *tls.Conn) { _, _ = c.Write([]byte{byte(kindEvidence), 0, 0}) },
	} {
		near, far := connected(t)
		go func() {
			if after != nil {
				conn := tls.Server(far, k.server().TLS(k.tls()))
				if conn.Handshake() == nil {
					after(conn)
				}
			} else {
				_, _ = far.Read(make([]byte, 1))
			}
			_ = far.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, far)
			_ = far.Close()
		}()
		if _, err := client.Client(context.Background(), near); err == nil || outcome(err) != "" || err == io.EOF {
			t.Errorf("%s: found %v", name, err)
		}
	}
}

// No session is taken up again, whoever would like to.
func TestNoResumption(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	// A server that gives tickets: the client keeps none.
	generous := k.tls()
	generous.NextProtos = []string{Protocol}
	for range 2 {
		near, far := connected(t)
		done := make(chan error, 1)
		go func() {
			conn := tls.Server(far, generous)
			out, err := k.server().Attest(context.Background(), conn)
			if err == nil {
				_, _ = out.Write([]byte("x")) // the tickets come before this
			}
			done <- err
		}()
		c, err := client.Client(context.Background(), near)
		if err != nil || c.ConnectionState().DidResume {
			t.Fatalf("found %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
	// A client that would: the server gives none.
	greedy := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}, ClientSessionCache: tls.NewLRUClientSessionCache(8), ServerName: "keep"}
	never := k.server().TLS(k.tls()) // one for both: its tickets would hold
	for range 2 {
		near, far := connected(t)
		go func() {
			conn := tls.Server(far, never)
			_, _ = k.server().Attest(context.Background(), conn)
			_ = conn.Close()
		}()
		conn := tls.Client(near, greedy)
		if err := conn.Handshake(); err != nil || conn.ConnectionState().DidResume {
			t.Errorf("found %v, %v", err, conn.ConnectionState().DidResume)
		}
		_ = write(conn, kindRefuse, refusal{Code: RefuseInternal})
		_, _ = io.Copy(io.Discard, conn)
	}
	// A session that was taken up all the same is not attested.
	tickets := k.tls()
	tickets.NextProtos = []string{Protocol}
	var last error
	for range 2 {
		near, far := connected(t)
		done := make(chan error, 1)
		go func() {
			conn := tls.Server(far, tickets)
			_, err := k.server().Attest(context.Background(), conn)
			_, _ = conn.Write([]byte("x"))
			done <- err
		}()
		conn := tls.Client(near, greedy)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_ = conn.Handshake()
		if conn.ConnectionState().DidResume { // nor by the client
			if _, err := client.attest(context.Background(), conn); failedCodes(err) != "protocol" {
				t.Errorf("found %v", err)
			}
		}
		_ = write(conn, kindRequest, request{Nonce: make([]byte, NonceSize)})
		_ = write(conn, kindAccept, accept{})
		_, _ = conn.Read(make([]byte, 1))
		last = <-done
		_ = conn.Close()
		if resumed := conn.ConnectionState().DidResume; resumed != (last != nil) {
			t.Errorf("resumed: %v, found %v", resumed, last)
		}
	}
	if last != ErrNotAsked {
		t.Errorf("found %v, wanted %v", last, ErrNotAsked)
	}
}

// Exporters are of TLS 1.3 alone: in 1.2 two sessions can be brought to the same one.
func TestExporterNeedsTLS13(t *testing.T) {
	k := newKeep(t, newSilicon(t), 1)
	near, far := connected(t)
	go func() { _ = tls.Server(far, k.tls()).Handshake() }()
	conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	if _, err := Exporter(&state, make([]byte, NonceSize), RoleServer); err == nil {
		t.Error("TLS 1.2 has an exporter value")
	}
}
