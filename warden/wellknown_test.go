//go:build linux

package warden

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/link"
)

// A website is a listener with evidence = true, as clients reach it, and the guest's
// end of it.
type website struct {
	t     *testing.T
	host  *link.Session
	w     *warden
	guest *os.File // connections come out here
}

func newWebsite(t *testing.T, p provider, within time.Duration) *website {
	t.Helper()
	a, b := net.Pipe()
	made := make(chan *link.Session, 1)
	go func() {
		s, err := link.Guest(b)
		if err != nil {
			t.Error(err)
		}
		made <- s
	}()
	host, err := link.Host(a)
	if err != nil {
		t.Fatal(err)
	}
	g := <-made
	t.Cleanup(func() { host.Close(); g.Close() })
	w := &warden{}
	w.Now = time.Now
	if w.identity, err = newIdentity(p, digest, time.Now); err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	l := &listener{guest: ours, shown: w.shown, first: func(f *tlsFilter, st *link.Stream, shown *tls.Certificate) ([]byte, bool, error) {
		return w.firstRequest(f, st, shown, within)
	}}
	if l.tls, err = w.serverTLS(nil, false); err != nil {
		t.Fatal(err)
	}
	w.ports.shake, w.ports.open = make(chan struct{}, 4), map[uint32]*listener{0: l}
	go func() {
		for {
			st, err := g.Accept()
			if err != nil {
				return
			}
			go w.ports.accept(st)
		}
	}()
	return &website{t, host, w, theirs}
}

// raw is a client's connection before TLS.
func (s *website) raw() net.Conn {
	s.t.Helper()
	st, err := s.host.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 0, Peer: "1.2.3.4:5"}))
	if err != nil {
		s.t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	s.t.Cleanup(func() { st.Close() })
	return st
}

func (s *website) client(protos ...string) *tls.Conn {
	s.t.Helper()
	c := tls.Client(s.raw(), &tls.Config{InsecureSkipVerify: true, NextProtos: protos}) // what it shows is compared with the claims
	if err := c.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// comes says whether the guest gets a connection within a time, and gives it.
func (s *website) comes(within time.Duration) net.Conn {
	s.t.Helper()
	if err := unix.SetNonblock(int(s.guest.Fd()), false); err != nil {
		s.t.Fatal(err)
	}
	timeout := unix.NsecToTimeval(within.Nanoseconds())
	if err := unix.SetsockoptTimeval(int(s.guest.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		s.t.Fatal(err)
	}
	var one [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(s.guest.Fd()), one[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		s.t.Fatalf("found %d messages, %v", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		s.t.Fatalf("found %v, %v", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "conn")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	s.t.Cleanup(func() { c.Close() })
	return c
}

// try sends bytes in one record and reads the answer to the connection's end.
func (s *website) try(request string) (r *http.Response, body []byte, shown *x509.Certificate, err error) {
	st, err := s.host.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 0, Peer: "1.2.3.4:5"}))
	if err != nil {
		return nil, nil, nil, err
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	c := tls.Client(st, &tls.Config{InsecureSkipVerify: true}) // as in client
	if _, err := io.WriteString(c, request); err != nil {
		return nil, nil, nil, err
	}
	all, err := io.ReadAll(c) // close_notify, or it fails
	if err != nil {
		return nil, nil, nil, err
	}
	in := bufio.NewReader(bytes.NewReader(all))
	method, _, _ := strings.Cut(request, " ")
	if r, err = http.ReadResponse(in, &http.Request{Method: method}); err != nil {
		return nil, nil, nil, fmt.Errorf("%q: %w", all, err)
	}
	body, err = io.ReadAll(r.Body)
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		return nil, nil, nil, fmt.Errorf("%d bytes behind the answer", len(rest))
	}
	return r, body, c.ConnectionState().PeerCertificates[0], err
}

func (s *website) ask(request string) (*http.Response, []byte, *x509.Certificate) {
	s.t.Helper()
	r, body, shown, err := s.try(request)
	if err != nil {
		s.t.Fatalf("%.60q: %v", request, err)
	}
	return r, body, shown
}

func get(query string) string {
	return "GET " + evidencePath + query + " HTTP/1.1\r\nHost: keep\r\n\r\n"
}

func TestEvidenceByHTTP(t *testing.T) {
	s := newWebsite(t, newProcessor(t, digest), firstTime)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	for name, text := range map[string]string{"hexadecimal": hex.EncodeToString(nonce), "capitals": strings.ToUpper(hex.EncodeToString(nonce)),
		"base64url": base64.RawURLEncoding.EncodeToString(nonce)} {
		r, body, cert := s.ask(get("?nonce=" + text))
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/cmw+cbor" || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Access-Control-Allow-Origin") != "*" || !r.Close {
			t.Fatalf("%s: found %+v, %q", name, r, body)
		}
		e, err := evidence.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		c, err := evidence.ParseClaims(e.Claims)
		if err != nil || c.Purpose != evidence.PurposeHTTP || !bytes.Equal(c.Nonce, nonce) || c.PubkeyHash != sha256.Sum256(cert.RawSubjectPublicKeyInfo) || c.TLSExporter != nil {
			t.Errorf("%s: found %+v, %v", name, c, err)
		}
	}
	if c := s.comes(50 * time.Millisecond); c != nil {
		t.Error("the guest hears of a client that asked for evidence")
	}
}

// Whatever asks for the path and is not in its form gets an answer that says so, no
// report, and the guest hears nothing.
func TestEvidenceByHTTPRefused(t *testing.T) {
	p := newProcessor(t, digest)
	s := newWebsite(t, p, firstTime)
	_, _, _ = s.ask(get("")) // the certificate is made
	before := p.asked.Load()
	eight := "?nonce=" + strings.Repeat("00", 8)
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"no nonce":            {get(""), 400},
		"an empty query":      {get("?"), 400},
		"an empty nonce":      {get("?nonce="), 400},
		"7 bytes":             {get("?nonce=" + strings.Repeat("00", 7)), 400},
		"7 bytes, base64url":  {get("?nonce=AAAAAAAAAA"), 400},
		"65 bytes":            {get("?nonce=" + strings.Repeat("00", 65)), 400},
		"padding":             {get("?nonce=AAAAAAAAAAA="), 400},
		"base64 of the other": {get("?nonce=AAAAAAAAAA%2B"), 400},
		"bits behind the end": {get("?nonce=AAAAAAAAAAB"), 400},
		"not text":            {get("?nonce=\xff\xfe"), 400},
		"two nonces":          {get(eight + "&nonce=" + strings.Repeat("11", 8)), 400},
		"another key":         {get(eight + "&format=json"), 400},
		"a key before":        {get("?a=1&nonce=" + strings.Repeat("00", 8)), 400},
		"capitals in the key": {get("?Nonce=" + strings.Repeat("00", 8)), 400},
		"HEAD":                {strings.Replace(get(eight), "GET", "HEAD", 1), 405},
		"POST":                {"POST " + evidencePath + eight + " HTTP/1.1\r\nHost: keep\r\n\r\n", 405},
		"OPTIONS":             {strings.Replace(get(eight), "GET", "OPTIONS", 1), 405},
		"a body":              {"POST " + evidencePath + eight + " HTTP/1.1\r\nHost: keep\r\nContent-Length: 4\r\n\r\nbody", 400},
		"no host":             {"GET " + evidencePath + eight + " HTTP/1.1\r\n\r\n", 400},
		"HTTP/2.0":            {"GET " + evidencePath + eight + " HTTP/2.0\r\nHost: keep\r\n\r\n", 505},
		"a long line":         {get("?nonce=" + strings.Repeat("a", 20<<10)), 431},
		"long fields":         {"GET " + evidencePath + eight + " HTTP/1.1\r\nHost: keep\r\nCookie: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.status
			r, body, _ := s.ask(c.request)
			if r.StatusCode != want || r.Header.Get("Access-Control-Allow-Origin") != "*" || bytes.ContainsAny(body, "\xff") {
				t.Errorf("found %d %q, wanted %d", r.StatusCode, body, want)
			}
			if (r.Header.Get("Allow") == "GET") != (want == 405) || (len(body) == 0) != (name == "HEAD") {
				t.Errorf("found %+v, %q", r.Header, body)
			}
		})
	}
	if n := p.asked.Load() - before; n != 0 {
		t.Errorf("%d reports were made", n)
	}
	if c := s.comes(50 * time.Millisecond); c != nil {
		t.Error("the guest hears of one of them")
	}
}

// What is not for the path reaches the guest unchanged, however it comes in pieces, and
// nothing behind the first request is looked at.
func TestEvidenceByHTTPLeavesTheRestAlone(t *testing.T) {
	s := newWebsite(t, newProcessor(t, digest), firstTime)
	page := "GET /page HTTP/1.1\r\nHost: keep\r\n\r\n"
	large := make([]byte, 300<<10)
	rand.Read(large)
	large[0] = 0
	for name, in := range map[string]string{
		"a page":             page,
		"keep-alive":         page + get("?nonce=0011223344556677"),
		"pipelined":          "GET / HTTP/1.1\r\nHost: keep\r\n\r\n" + strings.Repeat(page, 100),
		"nearly the path":    "GET /.well-known/donjon/evidence2 HTTP/1.1\r\n\r\n",
		"absolute-form":      "GET https://keep" + evidencePath + "?nonce=0011223344556677 HTTP/1.1\r\nHost: keep\r\n\r\n",
		"percent":            "GET /.well-known/donjon/%65vidence HTTP/1.1\r\n\r\n",
		"the HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"a long line":        "GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\n\r\n",
		"no HTTP":            string(large),
		"a piece of a line":  "GET /.well-known/don",
		"nothing":            "",
	} {
		for _, piece := range []int{1, 7, len(in) + 1} {
			if piece == 1 && len(in) > 1000 {
				continue
			}
			t.Run(fmt.Sprintf("%s by %d", name, piece), func(t *testing.T) {
				c := s.client()
				go func() {
					for rest := in; rest != ""; {
						n := min(piece, len(rest))
						if _, err := io.WriteString(c, rest[:n]); err != nil {
							t.Error(err)
							return
						}
						if rest = rest[n:]; piece > 1 && piece < 100 && len(in)-len(rest) > 1000 {
							piece = len(in)
						}
					}
					_ = c.CloseWrite()
				}()
				g := s.comes(10 * time.Second)
				if g == nil {
					t.Fatal("the guest gets no connection")
				}
				got, err := io.ReadAll(g)
				if err != nil || string(got) != in {
					t.Errorf("found %d bytes, %v, wanted %d", len(got), err, len(in))
				}
				if _, err := io.WriteString(g, "answer"); err != nil {
					t.Fatal(err)
				}
				_ = g.Close()
				if back, err := io.ReadAll(c); err != nil || string(back) != "answer" {
					t.Errorf("found %q, %v", back, err)
				}
			})
		}
	}
}

// An attested connection is not looked at: its bytes are the workload's from the first.
func TestEvidenceByHTTPNotOnAttestedConnections(t *testing.T) {
	s := newWebsite(t, newProcessor(t, digest), firstTime)
	c := s.client(atls.Protocol)
	if got := c.ConnectionState().NegotiatedProtocol; got != atls.Protocol {
		t.Fatalf("found %q", got)
	}
	if _, err := io.WriteString(c, get("?nonce=0011223344556677")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if _, err := io.ReadFull(c, b); err == nil && strings.HasPrefix(string(b), "HTTP") {
		t.Errorf("found %q", b)
	}
}

// T28: one who asks for evidence without end waits with everybody else, and who comes
// when too many wait is told so.
func TestT28EvidenceByHTTPIsQueued(t *testing.T) {
	hold := make(chan struct{})
	p := newProcessor(t, digest)
	p.edit = func(n int, _ [64]byte, raw []byte) []byte {
		if n > 2 { // the self-check, the certificate
			<-hold
		}
		return raw
	}
	s := newWebsite(t, p, firstTime)
	const asked = maxAsked + 20
	got := make(chan int, asked)
	for i := range asked {
		go func() {
			r, _, _, err := s.try(get(fmt.Sprintf("?nonce=%032x", i)))
			if err != nil {
				t.Error(err)
				got <- 0
				return
			}
			if r.StatusCode == 503 && r.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			got <- r.StatusCode
		}()
	}
	for range asked - maxAsked {
		if status := <-got; status != 503 {
			t.Fatalf("found %d while the processor stood still", status)
		}
	}
	close(hold)
	for range maxAsked {
		if status := <-got; status != 200 {
			t.Errorf("found %d", status)
		}
	}
}

// A client that takes its time over its first request is not waited for, and takes up
// nothing of the guest meanwhile.
func TestEvidenceByHTTPSlowClients(t *testing.T) {
	s := newWebsite(t, newProcessor(t, digest), 300*time.Millisecond)
	for _, in := range []string{"", "GET /.well-known/donjon", "GET " + evidencePath + "?nonce=0011223344556677 HTTP/1.1\r\nHost: keep\r\n"} {
		c := s.client()
		if _, err := io.WriteString(c, in); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Errorf("%q: found %q, %v, wanted the end", in, b, err)
		}
	}
	if c := s.comes(50 * time.Millisecond); c != nil {
		t.Error("the guest hears of one of them")
	}
}

// A client that leaves in the middle leaves nothing behind.
func TestEvidenceByHTTPLeaves(t *testing.T) {
	s := newWebsite(t, newProcessor(t, digest), firstTime)
	for _, in := range []string{"", "GET /.well", "GET " + evidencePath + "?nonce=00"} {
		raw := s.raw()
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if _, err := io.WriteString(c, in); err != nil {
			t.Fatal(err)
		}
		_ = raw.Close() // without a word
	}
	r, _, _ := s.ask(get("?nonce=0011223344556677"))
	if r.StatusCode != 200 {
		t.Errorf("found %d afterwards", r.StatusCode)
	}
}
