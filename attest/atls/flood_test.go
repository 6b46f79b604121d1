package atls

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
)

// expandLabel is HKDF-Expand-Label of RFC 8446, section 7.1, with SHA-256.
func expandLabel(t testing.TB, secret []byte, label string, context []byte, n int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(info, byte(len(label))), label...)
	info = append(append(info, byte(len(context))), context...)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// logged gives a secret of a TLS key log.
func logged(t testing.TB, log, label string) []byte {
	t.Helper()
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no %s in the key log", label)
	return nil
}

// records writes a server's own records behind crypto/tls's back: TLS 1.3 with
// TLS_AES_128_GCM_SHA256, from the record that is next on.
type records struct {
	t      *testing.T
	w      io.Writer
	secret []byte
	seq    uint64
}

func (r *records) send(kind byte, content []byte) error {
	block, err := aes.NewCipher(expandLabel(r.t, r.secret, "key", nil, 16))
	if err != nil {
		r.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		r.t.Fatal(err)
	}
	nonce := expandLabel(r.t, r.secret, "iv", nil, 12)
	for i := range 8 {
		nonce[4+i] ^= byte(r.seq >> (56 - 8*i))
	}
	r.seq++
	inner := append(bytes.Clone(content), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+aead.Overhead()))
	_, err = r.w.Write(append(head, aead.Seal(nil, nonce, inner, head)...))
	return err
}

func (r *records) next() {
	r.secret, r.seq = expandLabel(r.t, r.secret, "traffic upd", nil, 32), 0
}

// A server, or a host who has its key, floods a client with TLS's own messages, in the
// place of its evidence or behind it.
func TestPostHandshakeFlood(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	keyUpdate := []byte{24, 0, 0, 1, 0}
	ticket := append([]byte{4, 0, 0, 21}, bytes.Repeat([]byte{0, 0, 0, 1}, 2)...) // lifetime, age
	ticket = append(ticket, 4, 1, 2, 3, 4, 0, 4, 1, 2, 3, 4, 0, 0)
	evidence := func(r *records, nonce, exporter []byte) error {
		p, err := k.Prove(context.Background(), nonce, exporter)
		if err != nil {
			return err
		}
		return r.send(23, message(t, kindEvidence, proof{Evidence: p.Evidence}))
	}
	flood := func(r *records, n int, content []byte, update bool) error {
		for range n {
			if err := r.send(22, content); err != nil {
				return err
			}
			if update {
				r.next()
			}
		}
		return nil
	}
	for _, x := range []struct {
		name   string
		does   func(r *records, nonce, exporter []byte) error
		admits bool
	}{
		{"control", evidence, true},
		{"a key update, then evidence", func(r *records, n, e []byte) error { _ = flood(r, 1, keyUpdate, true); return evidence(r, n, e) }, true},
		{"a ticket, then evidence", func(r *records, n, e []byte) error { _ = flood(r, 1, ticket, false); return evidence(r, n, e) }, true},
		{"key updates for ever", func(r *records, _, _ []byte) error { return flood(r, 1<<20, keyUpdate, true) }, false},
		{"tickets for ever", func(r *records, _, _ []byte) error { return flood(r, 1<<20, ticket, false) }, false},
		{"empty records for ever", func(r *records, _, _ []byte) error {
			for range 1 << 20 {
				if err := r.send(23, nil); err != nil {
					return err
				}
			}
			return nil
		}, false},
	} {
		near, far := connected(t)
		done := make(chan error, 1)
		go func() { done <- takeOver(t, k, far, x.does) }()
		client := admits(t, s, k)
		c, err := client.Client(context.Background(), near)
		if (err == nil) != x.admits {
			t.Errorf("%s: found %v", x.name, err)
		}
		if c != nil {
			_ = c.Close()
		}
		_ = near.Close()
		if err := <-done; (err == nil) != x.admits {
			t.Errorf("%s: the flood ended with %v", x.name, err)
		}
	}
}

// takeOver is a server that ends the handshake and reads the request as it should, and
// then writes its own records.
func takeOver(t *testing.T, k *keep, far net.Conn, does func(r *records, nonce, exporter []byte) error) error {
	var log bytes.Buffer
	config := k.server().TLS(k.tls())
	config.KeyLogWriter = &log
	conn := tls.Server(far, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	state := conn.ConnectionState()
	if state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Errorf("this machine chooses %s: the records of this test are of another suite", tls.CipherSuiteName(state.CipherSuite))
		return nil
	}
	_, b, err := read(conn, kindRequest)
	if err != nil {
		return err
	}
	q, err := decodeRequest(b)
	if err != nil {
		return err
	}
	exporter, err := Exporter(&state, q.Nonce, RoleServer)
	if err != nil {
		return err
	}
	return does(&records{t: t, w: far, secret: logged(t, log.String(), "SERVER_TRAFFIC_SECRET_0")}, q.Nonce, exporter)
}
