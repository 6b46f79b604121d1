//go:build linux

package warden

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/warden/http1"
)

// A listener with evidence = true answers one path beside the workload, with evidence
// for whoever asks by HTTP (docs/http-evidence.md). The guest owns what goes over its
// connections, so the warden looks at the beginning of each, no further than it takes
// to tell the path from another, and at nothing behind it.
const (
	evidencePath = "/.well-known/donjon/evidence"
	evidenceType = "application/cmw+cbor" // RFC 9999
	// firstTime bounds how long a client may take for its first request: browsers open
	// connections ahead of use, and try again when one is closed.
	firstTime = time.Minute
	// answeredTime and answeredBytes bound what is still read of a client that was
	// answered, so that the answer is not lost with what it sent behind its request.
	answeredTime  = 2 * time.Second
	answeredBytes = 64 << 10
)

// firstRequest answers a client whose first request is for evidence, and closes the
// connection. Of any other it gives what was read, which the guest gets first.
func (w *warden) firstRequest(f *tlsFilter, st *link.Stream, shown *tls.Certificate, within time.Duration) (read []byte, answered bool, err error) {
	_ = f.conn.SetDeadline(time.Now().Add(within))
	buf := make([]byte, 64)
	for n := 0; ; {
		m, err := f.conn.Read(buf[n:])
		n += m
		ours, decided := http1.Begins(buf[:n], evidencePath)
		switch {
		case ours:
			w.answer(f, st, shown, io.MultiReader(bytes.NewReader(buf[:n]), f.conn))
			return nil, true, nil
		case decided, err == io.EOF: // the guest hears of a client that only opens and ends, too
			_ = f.conn.SetDeadline(time.Time{})
			return buf[:n], false, nil
		case err != nil:
			return nil, false, err
		}
	}
}

func (w *warden) answer(f *tlsFilter, st *link.Stream, shown *tls.Certificate, from io.Reader) {
	r, err := http1.ReadRequest(from)
	var bad *http1.RequestError
	if err != nil && !errors.As(err, &bad) {
		_ = f.conn.Close()
		return
	}
	status, kind, body := w.evidenceAnswer(r, bad, shown)
	_ = f.conn.SetDeadline(time.Now().Add(firstTime))
	if err := http1.Answer(f.conn, status, kind, body, r.Method == "HEAD"); err != nil {
		_ = f.conn.Close()
		return
	}
	_ = f.conn.CloseWrite()
	_ = st.CloseWrite()
	_ = st.SetReadDeadline(time.Now().Add(answeredTime))
	_, _ = io.CopyN(io.Discard, st, answeredBytes)
	_ = st.Close()
}

// evidenceAnswer is what a request gets: evidence about the key that this connection
// was shown. No word of the request is in it.
func (w *warden) evidenceAnswer(r http1.Request, bad *http1.RequestError, shown *tls.Certificate) (status int, kind string, body []byte) {
	say := func(status int, text string) (int, string, []byte) {
		return status, "text/plain; charset=utf-8", []byte(text + "\n")
	}
	if bad != nil {
		return say(bad.Status, bad.What)
	}
	if r.Method != "GET" {
		return say(405, "evidence is got with GET")
	}
	nonce, err := nonceOf(r.Query)
	if err != nil {
		return say(400, err.Error())
	}
	p, err := w.identity.proverFor(shown)
	if err == nil {
		var ev evidence.Evidence
		if ev, err = p.prove(evidence.Claims{PubkeyHash: p.key, Nonce: nonce, Purpose: evidence.PurposeHTTP}); err == nil {
			body, err = ev.Encode()
		}
	}
	switch {
	case errors.Is(err, errBusy):
		return say(503, "too many ask at once: ask again in a second")
	case err != nil:
		w.log(1, "evidence by HTTP: %v", err)
		return say(500, "the evidence could not be made")
	}
	return 200, evidenceType, body
}

// nonceOf reads the query: nonce=, 8 to 64 bytes, in hexadecimal where all of it is that
// and in base64url without padding else. Nothing else may stand beside it.
func nonceOf(query string) ([]byte, error) {
	v, ok := strings.CutPrefix(query, "nonce=")
	if !ok {
		return nil, errors.New("wanted ?nonce=, 8 to 64 bytes in hexadecimal or base64url, and nothing beside it")
	}
	n, err := hex.DecodeString(v)
	if err != nil || len(v) < 16 {
		n, err = base64.RawURLEncoding.Strict().DecodeString(v)
	}
	// The decoder passes over line ends, which a request line cannot hold.
	if err != nil {
		return nil, errors.New("the nonce is neither hexadecimal nor base64url without padding")
	}
	if len(n) < 8 || len(n) > 64 {
		return nil, fmt.Errorf("a nonce of %d bytes, wanted 8 to 64", len(n))
	}
	return n, nil
}
