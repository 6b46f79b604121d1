package atls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// counting counts the writes to a connection, and fails them from one on; 0: none.
type counting struct {
	net.Conn
	writes, fails int
	most          int // in one write, bytes
}

var errLine error = &net.OpError{Op: "write", Err: errors.New("the line is dead")}

func (c *counting) Write(b []byte) (int, error) {
	if c.writes++; c.writes == c.fails {
		_ = c.Conn.Close()
		return 0, errLine
	}
	c.most = max(c.most, len(b))
	return c.Conn.Write(b)
}

// What a client has to say before it waits goes out in one write, and each write that fails
// is a connection that broke: no verdict, and no connection.
func TestClientWrites(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	try := func(fails int) (*counting, end, end) {
		near, far := connected(t)
		below := &counting{Conn: near, fails: fails}
		c, srv := between(t, below, far, client, k.server(), k.tls())
		return below, c, srv
	}
	below, c, srv := try(0)
	if c.err != nil || srv.err != nil {
		t.Fatal(c.err, srv.err)
	}
	const wanted = 3 // its hello; the end of the handshake with the request; that it accepts
	if below.writes != wanted {
		t.Errorf("found %d writes, wanted %d", below.writes, wanted)
	}
	for fails := 1; fails <= wanted; fails++ {
		_, c, srv := try(fails)
		if c.conn != nil || srv.conn != nil || outcome(c.err) != "" || c.err == nil {
			t.Errorf("write %d fails: found %v, %v", fails, c.err, srv.err)
		}
	}
}

// What is held is bounded, arrives in order, and is let go where it cannot be sent.
func TestHeld(t *testing.T) {
	near, far := connected(t)
	below := &counting{Conn: near}
	u := &uncut{Conn: below, hold: true}
	var sent []byte
	for i, size := range []int{1, holdMost - 1, 1, holdMost, holdMost + 1, 5} {
		b := bytes.Repeat([]byte{byte(i)}, size)
		if n, err := u.Write(b); n != size || err != nil {
			t.Fatal(n, err)
		}
		if sent = append(sent, b...); len(u.held) > holdMost {
			t.Errorf("%d bytes are held", len(u.held))
		}
	}
	if err := u.release(); err != nil || u.held != nil {
		t.Errorf("found %v, %d bytes held", err, len(u.held))
	}
	_ = near.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(far); err != nil || !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("found %d bytes, %v, wanted the %d that were written", got.Len(), err, len(sent))
	}

	near, _ = connected(t)
	u = &uncut{Conn: &counting{Conn: near, fails: 1}, hold: true}
	_, _ = u.Write([]byte("lost"))
	if _, err := u.Read(make([]byte, 1)); err != errLine {
		t.Errorf("found %v", err)
	}
	if err := u.release(); err != nil || u.held != nil {
		t.Errorf("sent again: %v", err)
	}
}

// The context ends while something is held, and while it is judged.
func TestEndsWhileHeld(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	ctx, cancel := context.WithCancel(context.Background())
	client.Judge = func(_ context.Context, p Proof, o attest.Options) (*verdict.Verdict, error) {
		v := client.Verifier.Verify(p.Evidence, o)
		cancel()
		return v, nil
	}
	near, far := connected(t)
	go func() { _, _ = k.server().Attest(context.Background(), tls.Server(far, k.server().TLS(k.tls()))) }()
	c, err := client.Client(ctx, near)
	if c != nil || !errors.Is(err, context.Canceled) || outcome(err) != "" {
		t.Errorf("found %v, %v", c, err)
	}
}
