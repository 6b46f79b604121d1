package atls

import (
	"bytes"
	"context"
	"errors"
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

// Evidence beyond what an end takes is refused by its announced length.
func TestMaxEvidence(t *testing.T) {
	s := newSilicon(t)
	a, b := newKeep(t, s, 1), newKeep(t, s, 2)
	for name, x := range map[string]struct {
		client, server int
		ofServer       string // code of the client's verdict
		ofClient       bool   // that the server refuses the message
	}{
		"both enough":      {64 << 10, 64 << 10, "", false},
		"more than exists": {1 << 30, 1 << 30, "", false},
		"the server's":     {0, 1, "", true},
		"the client's":     {1, 0, "protocol", false},
	} {
		client, server := mutual(t, a, b, admits(t, s, b), admits(t, s, a))
		client.MaxEvidence, server.Peer.MaxEvidence = x.client, x.server
		large := func(k *keep) Prover {
			return proverFunc(func(ctx context.Context, nonce, exporter []byte) (Proof, error) {
				p, err := k.Prove(ctx, nonce, exporter)
				if x.ofClient && k == a || x.ofServer != "" && k == b {
					p.Evidence = append(p.Evidence, make([]byte, maxBeside)...)
				}
				return p, err
			})
		}
		client.Prover, server.Prover = large(a), large(b)
		c, srv := meet(t, client, server, b.tls())
		if got := failedCodes(c.err); got != x.ofServer {
			t.Errorf("%s: the client found %q, %v", name, got, c.err)
		}
		if errors.Is(srv.err, ErrMalformed) != x.ofClient || (srv.err == nil) != (c.err == nil) {
			t.Errorf("%s: the server found %v, the client %v", name, srv.err, c.err)
		}
	}
	// The length is refused before a byte of the body has come.
	c := Config{MaxEvidence: 256 << 10}
	head := []byte{byte(kindProof), 0, 0x40, 0, 0}
	if _, _, err := readAtMost(bytes.NewReader(head), c.evidenceMost(), kindProof); !errors.Is(err, ErrMalformed) {
		t.Errorf("found %v, wanted the length to be refused", err)
	}
	if _, _, err := readAtMost(bytes.NewReader(head), (&Config{}).evidenceMost(), kindProof); !errors.Is(err, io.EOF) {
		t.Errorf("found %v, wanted the body to be waited for", err)
	}
}
