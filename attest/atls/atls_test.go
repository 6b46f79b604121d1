package atls

import (
	"io"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

func TestOneWay(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	c, srv := meet(t, admits(t, s, k), k.server(), k.tls())
	if c.err != nil || srv.err != nil {
		t.Fatalf("%+v, %v", c.err, srv.err)
	}
	v := c.conn.Verdict
	if v.Outcome != verdict.Admitted || !v.Simulated || v.Claims.Keep.Purpose != "connect" || string(v.Claims.Keep.Instance) != string(k.instance[:]) {
		t.Errorf("found %s", v.Text(nil))
	}
	if srv.conn.Verdict != nil || time.Since(c.conn.Since) > time.Minute {
		t.Errorf("found %v, %v", srv.conn.Verdict, c.conn.Since)
	}
	exchange(t, c.conn, srv.conn)
}

// exchange sends some bytes each way, and ends both.
func exchange(t *testing.T, a, b *Conn) {
	t.Helper()
	for _, p := range [][2]*Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = p[0].Write([]byte("hello"))
			_ = p[0].CloseWrite()
		}()
		if got, err := io.ReadAll(p[1]); string(got) != "hello" || err != nil {
			t.Errorf("found %q, %v", got, err)
		}
	}
}

func TestMutual(t *testing.T) {
	s := newSilicon(t)
	a, b := newKeep(t, s, 1), newKeep(t, s, 2)
	client, server := mutual(t, a, b, admits(t, s, b), admits(t, s, a))
	c, srv := meet(t, client, server, b.tls())
	if c.err != nil || srv.err != nil {
		t.Fatalf("%+v, %+v", c.err, srv.err)
	}
	if c.conn.Verdict.Claims.Keep.WorkloadDigest[0] != 2 || srv.conn.Verdict.Claims.Keep.WorkloadDigest[0] != 1 {
		t.Errorf("found %s, %s", c.conn.Verdict.Text(nil), srv.conn.Verdict.Text(nil))
	}
	exchange(t, c.conn, srv.conn)
}

// mutual gives the two ends of the mutual form: a connects to b.
func mutual(t *testing.T, a, b *keep, ofB, ofA Config) (Config, *Server) {
	t.Helper()
	client := ofB
	client.Prover, client.Certificate, client.Instance = a, &a.cert, a.instance[:]
	peer := ofA
	peer.Certificate, peer.Instance = &b.cert, b.instance[:]
	return client, &Server{Prover: b, Peer: &peer}
}
