package atls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// seeds are the messages of the vectors.
func seeds(f *testing.F) {
	for _, m := range vectorMessages(f) {
		f.Add(m.wire(f))
	}
}

// Whatever comes: an error, or messages that encode to the bytes that were read.
func FuzzMessage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		k, body, err := read(r, kindRequest, kindEvidence, kindProof, kindAccept)
		var again any
		switch k {
		case kindRequest:
			again, err = decodeRequest(body)
		case kindEvidence, kindProof:
			again, err = decodeProof(k, body)
		case kindAccept:
			again, err = accept{}, decode(body, &accept{})
		default:
			if err == nil {
				t.Fatal("neither a message nor an error")
			}
			var refused *RemoteError
			if errors.As(err, &refused) && (refused.Code == "" || len(refused.Code) > maxCode || len(refused.Text) > maxText) {
				t.Errorf("found the refusal %q", refused.Code)
			}
			return
		}
		if err != nil {
			return
		}
		var w bytes.Buffer
		if err := write(&w, k, again); err != nil || !bytes.Equal(w.Bytes(), b[:len(b)-r.Len()]) {
			t.Errorf("read %x, wrote %x, %v", b, w.Bytes(), err)
		}
	})
}

// FuzzClient gives a client, behind a handshake of its own, any bytes in the place of its
// server's: it never admits, and it ends.
func FuzzClient(f *testing.F) {
	seeds(f)
	k := newKeep(f, newSilicon(f), 1)
	p := policy.Default()
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := connected(t)
		go func() {
			conn := tls.Server(far, k.server().TLS(k.tls()))
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if conn.Handshake() == nil {
				_, _ = conn.Write(b)
				_ = conn.CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			}
			_ = conn.Close()
		}()
		c := Config{Options: attest.Options{Policy: p}, Prover: k, Certificate: &k.cert}
		conn, err := c.Client(context.Background(), near)
		if err == nil || conn != nil {
			t.Fatalf("admitted by %x", b)
		}
		var v *verdict.Error
		if errors.As(err, &v) && v.Verdict.Outcome == verdict.Admitted {
			t.Errorf("found %v", err)
		}
	})
}

// FuzzServer gives a server that demands Keeps any bytes in the place of a client's: a
// report is made for a request in its form alone, and nobody is admitted.
func FuzzServer(f *testing.F) {
	seeds(f)
	k := newKeep(f, newSilicon(f), 1)
	mine := newCertificate(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := connected(t)
		made := 0
		server := &Server{Peer: &Config{Options: attest.Options{Policy: policy.Default()}}, Prover: proverFunc(func(ctx context.Context, n, e []byte) (Proof, error) {
			made++
			return k.Prove(ctx, n, e)
		})}
		go func() {
			conn := tls.Client(near, (&Config{Certificate: &mine}).TLS())
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if conn.Handshake() == nil {
				_, _ = conn.Write(b)
				_ = conn.CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			}
			_ = conn.Close()
		}()
		conn := tls.Server(far, server.TLS(k.tls()))
		if out, err := server.Attest(context.Background(), conn); err == nil || out != nil {
			t.Fatalf("admitted by %x", b)
		}
		_ = conn.Close()
		_, body, err := read(bytes.NewReader(b), kindRequest)
		if err == nil {
			var q request
			if q, err = decodeRequest(body); err == nil && !q.Attested {
				err = ErrUnproven
			}
		}
		if (err == nil) != (made == 1) || made > 1 {
			t.Errorf("%d proofs for %x (%v)", made, b, err)
		}
	})
}
