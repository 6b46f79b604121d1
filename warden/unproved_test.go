//go:build linux

package warden

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/link"
)

// forKeeps makes the site's listener one whose clients must be Keeps, and gives a client
// that is one.
func (s *site) forKeeps() *atls.Config {
	s.t.Helper()
	of := func(id *identity, err error) (*tls.Certificate, atls.Prover) {
		if err != nil {
			s.t.Fatal(err)
		}
		cert, err := id.tlsCertificate()
		if err != nil {
			s.t.Fatal(err)
		}
		prover, err := id.proverFor(cert)
		if err != nil {
			s.t.Fatal(err)
		}
		return cert, prover
	}
	cert, prover := of(s.id, nil)
	peer, _ := s.client()
	peer.Certificate, peer.MaxEvidence, peer.MaxAge = cert, evidence.MaxSize, atls.NoMaxAge
	l := s.ports.open[0]
	l.keeps, l.large = true, make(chan struct{}, maxLarge)
	l.shown = func() (*tls.Certificate, *atls.Server, error) {
		return cert, &atls.Server{Prover: prover, Peer: peer}, nil
	}
	client, _ := s.client()
	client.Certificate, client.Prover = of(newIdentity(newProcessor(s.t, digest), digest, time.Now))
	return client
}

// THREATS T28: of clients that send large proofs and never end them, a few are read; the
// others get no further than their own small part. Keeps with small proofs are served
// meanwhile, and a place that becomes free is taken by one that waited.
func TestT28UnprovedClients(t *testing.T) {
	s := newSite(t, newProcessor(t, digest))
	keep := s.forKeeps()
	const clients, large = 5 * maxLarge, 240 << 10
	sent := make([]atomic.Int64, clients)
	conns := make([]*tls.Conn, clients)
	for i := range clients {
		c := tls.Client(s.dial(), keep.TLS())
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
		t.Cleanup(func() { _ = c.Close() })
		q := append([]byte("\xa2\x65nonce\x58\x20"), make([]byte, 32)...)
		_, _ = c.Write(message(1, append(q, "\x68attested\xf5"...)...))
		if kind, _, err := answer(c); kind != 2 || err != nil {
			t.Fatalf("found type %d, %v", kind, err)
		}
		go func() { // a proof that lacks its last bytes
			proof := message(3, make([]byte, large)...)[:large]
			for b := range slices.Chunk(proof, 4<<10) {
				n, err := c.Write(b)
				if sent[i].Add(int64(n)); err != nil {
					return
				}
			}
		}()
	}
	count := func() (whole int, total int64) {
		for i := range sent {
			n := sent[i].Load()
			if total += n; n == large {
				whole++
			}
		}
		return whole, total
	}
	still := func() (whole int, total int64) {
		for since := time.Now(); time.Since(since) < 500*time.Millisecond; time.Sleep(20 * time.Millisecond) {
			if w, n := count(); n != total {
				whole, total, since = w, n, time.Now()
			}
		}
		return whole, total
	}
	const part = freeProof + link.InitialWindow + 4<<10 // read, or on its way in the link
	if whole, total := still(); whole != maxLarge || total > maxLarge*large+(clients-maxLarge)*part {
		t.Errorf("%d clients are read to the end, %d bytes together, wanted %d", whole, total, maxLarge)
	}
	c, err := keep.Client(context.Background(), s.dial())
	if err != nil {
		t.Fatalf("a Keep with a small proof: %v", err)
	}
	_ = (<-s.guest).Close()
	_ = c.Close()

	for i := range sent { // those that wait leave no goroutine behind, those that hold a place free it
		if i%2 == 0 {
			_ = conns[i].NetConn().Close()
		}
	}
	await(t, "the others' turn", func() bool {
		n := 0
		for i := range sent {
			if i%2 == 1 && sent[i].Load() == large {
				n++
			}
		}
		return n >= maxLarge
	})
}

// A client waits for a place for as long as its proof may take, and not once it has left.
func TestUnprovedWaits(t *testing.T) {
	s := newSite(t, newProcessor(t, digest))
	places := make(chan struct{}, 1)
	first := &unproved{ctx: t.Context(), places: places, left: 10}
	st := s.dial()
	if n, err := first.room(st, 100); n != 10 || err != nil || first.has {
		t.Errorf("found %d bytes, %v", n, err)
	}
	first.took(10)
	if n, err := first.room(st, 100); n != 100 || err != nil || !first.has {
		t.Errorf("found %d bytes, %v, wanted a place", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&unproved{ctx: ctx, places: places}).room(st, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("found %v", err)
	}
	_ = st.Close()
	if _, err := (&unproved{ctx: t.Context(), places: places}).room(st, 1); err == nil {
		t.Error("a place for a client that has left")
	}
	first.done()
	first.done()
	if len(places) != 0 {
		t.Error("the place is not given back")
	}
}
