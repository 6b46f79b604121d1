//go:build linux

package warden

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
)

// Application bytes that come with accept reach the guest, whole and once: in its record,
// in the records behind it, and in the same write of the carrier.
func TestAttestedEarlyBytes(t *testing.T) {
	s := newSite(t, newProcessor(t, digest))
	long := make([]byte, 100_000)
	rand.Read(long)
	for name, write := range map[string]func(c *tls.Conn, h *held){
		"in one record": func(c *tls.Conn, h *held) { _, _ = c.Write(append(message(4, 0xa0), "hello"...)) },
		"in one write": func(c *tls.Conn, h *held) {
			h.waits = true
			_, _ = c.Write(message(4, 0xa0))
			_, _ = c.Write([]byte("hello"))
			h.flush()
		},
		"with the end": func(c *tls.Conn, h *held) {
			h.waits = true
			_, _ = c.Write(append(message(4, 0xa0), "hello"...))
			_ = c.CloseWrite()
			h.flush()
		},
		"accept a byte a write": func(c *tls.Conn, h *held) {
			for _, b := range append(message(4, 0xa0), "hello"...) {
				_, _ = c.Write([]byte{b})
			}
		},
		"many records": func(c *tls.Conn, h *held) {
			h.waits = true
			_, _ = c.Write(message(4, 0xa0))
			_, _ = c.Write(long)
			h.flush()
		},
		"with the request, unseen": nil,
	} {
		c, h := s.shaken()
		h.waits = write == nil
		_, _ = c.Write(asks(make([]byte, 32)))
		if write == nil {
			_, _ = c.Write(append(message(4, 0xa0), "hello"...))
			h.flush()
		}
		if kind, _, err := answer(c); kind != 2 || err != nil {
			t.Fatalf("%s: found type %d, %v", name, kind, err)
		}
		if write != nil {
			write(c, h)
		}
		want := []byte("hello")
		if name == "many records" {
			want = long
		}
		g := <-s.guest
		got := make([]byte, len(want))
		if _, err := io.ReadFull(g, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: found %d bytes, %v", name, len(got), err)
		}
		_, _ = g.Write([]byte("back"))
		back := make([]byte, 4)
		if _, err := io.ReadFull(c, back); err != nil || string(back) != "back" {
			t.Errorf("%s: found %q, %v", name, back, err)
		}
		_ = c.CloseWrite()
		if b, err := io.ReadAll(g); len(b) != 0 || err != nil {
			t.Errorf("%s: found %q behind it, %v", name, b, err)
		}
		_ = g.Close()
		_ = c.Close()
	}
}

// Clients that stall, leave or talk rubbish at each step: the guest never hears of them,
// and they keep nobody out. Two handshakes at a time are made here.
func TestAttestedHostileClients(t *testing.T) {
	s := newSite(t, newProcessor(t, digest))
	good := asks(make([]byte, 32))
	for name, x := range map[string]struct {
		does    func(c *tls.Conn)
		refused bool // and told so
	}{
		"says nothing":          {func(*tls.Conn) {}, false},
		"leaves":                {func(c *tls.Conn) { _ = c.Close() }, false},
		"half a request":        {func(c *tls.Conn) { _, _ = c.Write(good[:9]) }, false},
		"never decides":         {func(c *tls.Conn) { _, _ = c.Write(good); _, _, _ = answer(c) }, false},
		"leaves before it does": {func(c *tls.Conn) { _, _ = c.Write(good); _ = c.Close() }, false},
		"refuses": {func(c *tls.Conn) {
			_, _ = c.Write(good)
			_, _, _ = answer(c)
			_, _ = c.Write(message(5, append([]byte("\xa1\x64code\x67"), "verdict"...)...))
		}, false},
		"HTTP":           {func(c *tls.Conn) { _, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, true},
		"accept at once": {func(c *tls.Conn) { _, _ = c.Write(message(4, 0xa0)) }, true},
		"a huge length":  {func(c *tls.Conn) { _, _ = c.Write([]byte{1, 0xff, 0xff, 0xff, 0xff}) }, true},
		"a claim of its own": {func(c *tls.Conn) {
			_, _ = c.Write(message(1, append(append([]byte("\xa2"), good[6:]...), "\x67purpose\x65enrol"...)...))
		}, true},
		"a request again":         {func(c *tls.Conn) { _, _ = c.Write(good); _, _, _ = answer(c); _, _ = c.Write(good) }, true},
		"application bytes alone": {func(c *tls.Conn) { _, _ = c.Write(good); _, _, _ = answer(c); _, _ = c.Write([]byte("hello")) }, true},
	} {
		for range 3 {
			c, _ := s.shaken()
			defer c.Close()
			x.does(c)
			if !x.refused {
				continue
			}
			kind, body, err := answer(c)
			if kind != 5 || err != nil || !bytes.Contains(body, []byte(atls.RefuseMalformed)) {
				t.Errorf("%s: found type %d, %q, %v", name, kind, body, err)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: the connection goes on", name)
			}
		}
	}
	for range 3 { // and before TLS
		st := s.dial()
		defer st.Close()
		_, _ = st.Write([]byte{22, 3, 1, 2})
	}
	s.works()
	select {
	case <-s.guest:
		t.Error("the guest hears of a client that has admitted nothing")
	default:
	}
}

// T28: many clients that ask at once are told that the Keep is busy, and the Keep's own
// reports go first.
func TestT28AttestedFlood(t *testing.T) {
	p := &slowProcessor{processor: newProcessor(t, digest)}
	s := newSite(t, p)
	s.ports.shake = make(chan struct{}, maxHandshakes)
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()
	const clients = 60
	kinds := make(chan byte, clients)
	var wg sync.WaitGroup
	for range clients {
		c, _ := s.shaken()
		defer c.Close()
		wg.Go(func() {
			_, _ = c.Write(asks(make([]byte, 32)))
			kind, body, _ := answer(c)
			if kind == 5 && !bytes.Contains(body, []byte(atls.RefuseBusy)) {
				t.Errorf("found %q", body)
			}
			kinds <- kind
		})
	}
	for range clients - maxAsked { // these are told at once, while the others wait
		if kind := <-kinds; kind != 5 {
			t.Errorf("found type %d, wanted a refusal", kind)
		}
	}
	own := make(chan error, 1)
	go func() {
		_, err := s.id.evidence(evidence.PurposeEnrol, nil)
		own <- err
	}()
	await(t, "the Keep's own turn", func() bool { s.id.from.mu.Lock(); defer s.id.from.mu.Unlock(); return s.id.from.own == 1 })
	gate <- struct{}{} // the one that is being made
	gate <- struct{}{} // and then the Keep's own
	if err := <-own; err != nil {
		t.Error(err)
	}
	close(gate)
	wg.Wait()
	for range maxAsked {
		if kind := <-kinds; kind != 2 {
			t.Errorf("found type %d, wanted evidence", kind)
		}
	}
	s.works()
}

// The certificate is renewed between a client's handshake and its request: the proof is
// about the key that ended the handshake. A client that comes then sees the new one.
func TestT09RenewedBeforeTheProof(t *testing.T) {
	s := newSite(t, newProcessor(t, digest))
	config, first := s.client()
	c := tls.Client(s.dial(), config.TLS())
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	old := sha256.Sum256(c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	key, err := newTLSKey()
	if err != nil {
		t.Fatal(err)
	}
	s.id.take(key, nil)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	_, _ = c.Write(asks(nonce))
	kind, body, err := answer(c)
	if kind != 2 || err != nil {
		t.Fatalf("found type %d, %v", kind, err)
	}
	_, b, ok := bytes.Cut(body, []byte("evidence"))
	if !ok {
		t.Fatalf("found %x", body)
	}
	e, err := evidence.Parse(byteString(t, b))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := evidence.ParseClaims(e.Claims)
	state := c.ConnectionState()
	exporter, xerr := atls.Exporter(&state, nonce, atls.RoleServer)
	if err != nil || xerr != nil || claims.PubkeyHash != old || !bytes.Equal(claims.TLSExporter, exporter) || claims.Purpose != evidence.PurposeConnect {
		t.Errorf("found %+v, %v, %v", claims, err, xerr)
	}
	_ = c.Close()
	next, err := config.Client(context.Background(), s.dial())
	if err != nil {
		t.Fatal(err)
	}
	if first.PubkeyHash != sha256.Sum256(key.spki) || first.Instance != claims.Instance {
		t.Errorf("the next client: found the key %x", first.PubkeyHash)
	}
	_ = next.Close()
	_ = (<-s.guest).Close()
}
