package atls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// frame is a message of any type with any body.
func frame(k kind, body []byte) []byte {
	return append([]byte{byte(k), byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// message is one in its form.
func message(t testing.TB, k kind, body any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, k, body); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a server says in the place of its evidence, or of its last word.
func TestMalformedServer(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	for name, says := range map[string][]byte{
		"nothing known":            []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"accept at once":           message(t, kindAccept, accept{}),
		"the client's message":     message(t, kindRequest, request{Nonce: make([]byte, NonceSize)}),
		"a client's proof":         message(t, kindProof, proof{Evidence: []byte("x")}),
		"an empty body":            frame(kindEvidence, nil),
		"no evidence":              message(t, kindEvidence, proof{}),
		"a short nonce":            message(t, kindEvidence, proof{Evidence: []byte("x"), Nonce: make([]byte, 31)}),
		"more behind the map":      frame(kindEvidence, append(body(t, proof{Evidence: []byte("x")}), 0)),
		"a longer form of the map": frame(kindEvidence, append([]byte{0xb8, 1}, body(t, proof{Evidence: []byte("x")})[1:]...)),
		"an unknown key":           frame(kindEvidence, body(t, map[string]any{"evidence": []byte("x"), "extra": 1})),
		"too long":                 {byte(kindEvidence), 0x7f, 0xff, 0xff, 0xff},
		"type 0":                   frame(0, nil),
		"type 255":                 frame(255, nil),
		"a refusal without a code": message(t, kindRefuse, refusal{Text: "x"}),
		"a refusal's code too long": message(t, kindRefuse, refusal{
			Code: strings.Repeat("x", maxCode+1)}),
	} {
		near, far := connected(t)
		go func() {
			conn := tls.Server(far, k.server().TLS(k.tls()))
			if conn.Handshake() == nil {
				_, _ = conn.Write(says)
				_, _ = io.Copy(io.Discard, conn)
			}
			_ = conn.Close()
		}()
		client := admits(t, s, k)
		if _, err := client.Client(context.Background(), near); failedCodes(err) != "protocol" || outcome(err) != verdict.NotGenuine {
			t.Errorf("%s: found %v", name, err)
		}
	}
	// Controls: a refusal in its form is that, and busy is busy.
	for _, code := range []string{RefuseBusy, RefuseInternal, "another"} {
		near, far := connected(t)
		go func() {
			conn := tls.Server(far, k.server().TLS(k.tls()))
			_ = write(conn, kindRefuse, refusal{Code: code, Text: "why\x1b[2J"})
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
		client := admits(t, s, k)
		_, err := client.Client(context.Background(), near)
		var r *RemoteError
		if !errors.As(err, &r) || r.Code != code || errors.Is(err, ErrBusy) != (code == RefuseBusy) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: found %v", code, err)
		}
	}
}

func body(t testing.TB, v any) []byte {
	t.Helper()
	m, err := encoding()
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a client says in the place of its request, or out of its turn: it is told, and no
// report is made for it.
func TestMalformedClient(t *testing.T) {
	k := newKeep(t, newSilicon(t), 1)
	good := message(t, kindRequest, request{Nonce: make([]byte, NonceSize)})
	for name, x := range map[string]struct {
		says  []byte
		proof bool // that evidence was made
	}{
		"HTTP":                   {[]byte("GET / HTTP/1.1\r\n\r\n"), false},
		"accept at once":         {message(t, kindAccept, accept{}), false},
		"evidence":               {message(t, kindEvidence, proof{Evidence: []byte("x")}), false},
		"a nonce of 31 bytes":    {message(t, kindRequest, request{Nonce: make([]byte, 31)}), false},
		"a nonce of 33 bytes":    {message(t, kindRequest, request{Nonce: make([]byte, 33)}), false},
		"an exporter of its own": {frame(kindRequest, body(t, map[string][]byte{"nonce": make([]byte, 32), "tls-exporter": make([]byte, 32)})), false},
		"a purpose of its own":   {frame(kindRequest, body(t, map[string]any{"nonce": make([]byte, 32), "purpose": "enrol"})), false},
		"too long":               {frame(kindRequest, make([]byte, maxSmall+1)), false},
		"two requests":           {append(bytes.Clone(good), good...), true},
		"a proof nobody wants":   {append(bytes.Clone(good), message(t, kindProof, proof{Evidence: []byte("x")})...), true},
		"accept with a body":     {append(bytes.Clone(good), frame(kindAccept, body(t, map[string]int{"x": 1}))...), true},
	} {
		near, far := connected(t)
		made := false
		server := &Server{Prover: proverFunc(func(ctx context.Context, n, e []byte) (Proof, error) { made = true; return k.Prove(ctx, n, e) })}
		done := make(chan error, 1)
		go func() {
			conn := tls.Server(far, server.TLS(k.tls()))
			_, err := server.Attest(context.Background(), conn)
			_ = conn.Close()
			done <- err
		}()
		conn := tls.Client(near, (&Config{}).TLS())
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(x.says)
		if x.proof {
			if _, _, err := read(conn, kindEvidence); err != nil {
				t.Errorf("%s: found %v", name, err)
			}
		}
		_, _, err := read(conn, kindAccept)
		var r *RemoteError
		if !errors.As(err, &r) || r.Code != RefuseMalformed {
			t.Errorf("%s: the client found %v", name, err)
		}
		if err := <-done; !errors.Is(err, ErrMalformed) || made != x.proof {
			t.Errorf("%s: found %v, evidence made: %v", name, err, made)
		}
		_ = conn.Close()
	}
}

// A server that pipelines: what it sends before it was accepted is read behind the
// verdict and not before, and a refused one has said it to nobody.
func TestServerTalksEarly(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	for _, genuine := range []bool{true, false} {
		client := admits(t, s, k)
		by := k
		if !genuine {
			by = newKeep(t, s, 2)
		}
		near, far := connected(t)
		go func() {
			conn := tls.Server(far, by.server().TLS(by.tls()))
			if conn.Handshake() != nil {
				return
			}
			_, b, _ := read(conn, kindRequest)
			q, _ := decodeRequest(b)
			state := conn.ConnectionState()
			exporter, _ := Exporter(&state, q.Nonce, RoleServer)
			p, _ := by.Prove(context.Background(), q.Nonce, exporter)
			var both bytes.Buffer
			_ = write(&both, kindEvidence, proof{Evidence: p.Evidence})
			both.WriteString("early")
			_, _ = conn.Write(both.Bytes())
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
		c, err := client.Client(context.Background(), near)
		if (err == nil) != genuine {
			t.Fatalf("found %v", err)
		}
		if genuine {
			if b, err := io.ReadAll(c); string(b) != "early" || err != nil {
				t.Errorf("found %q, %v", b, err)
			}
		}
	}
}

// Request bytes before the verdict: an HTTP client's request reaches nobody who was not
// admitted. All that such a server gets is the request for evidence and the refusal.
func TestNothingBeforeTheVerdict(t *testing.T) {
	s := newSilicon(t)
	k, other := newKeep(t, s, 1), newKeep(t, s, 2)
	const secret = "Bearer 0123456789"
	for _, x := range []struct {
		by   *keep
		sees bool
	}{{k, true}, {other, false}} {
		var mu sync.Mutex
		var seen bytes.Buffer
		gone := make(chan struct{})
		l := listen(t, x.by, func(c io.ReadWriter) {
			defer close(gone)
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				mu.Lock()
				seen.Write(b[:n])
				mu.Unlock()
				if bytes.Contains(b[:n], []byte("\r\n\r\n")) {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
				if err != nil {
					return
				}
			}
		})
		d := Dialer{Config: admits(t, s, k)}
		tr := &http.Transport{DialTLSContext: d.DialContext}
		req, _ := http.NewRequest("POST", "https://"+l, strings.NewReader("body"))
		req.Header.Set("Authorization", secret)
		resp, err := (&http.Client{Transport: tr}).Do(req)
		var v *verdict.Error
		if x.sees != (err == nil) || !x.sees && !errors.As(err, &v) {
			t.Errorf("found %v", err)
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		tr.CloseIdleConnections()
		<-gone
		mu.Lock()
		if strings.Contains(seen.String(), secret) != x.sees {
			t.Errorf("the server has seen %q", seen.String())
		}
		if want := len(message(t, kindRequest, request{Nonce: make([]byte, NonceSize)})); !x.sees && (seen.Len() <= want || seen.Bytes()[want] != byte(kindRefuse)) {
			t.Errorf("the server has seen %q, wanted a request and a refusal", seen.String())
		}
		mu.Unlock()
	}
}
