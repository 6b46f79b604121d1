package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const most = 1000

func parse(s string) (Response, error) { return read(bufio.NewReader(strings.NewReader(s)), most) }

func TestAnswersRead(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		status int
		media  string
		body   string
		close  bool
	}{
		"length":         {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: application/json\r\n\r\nhello", 200, "application/json", "hello", false},
		"nothing":        {"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, "", "", false},
		"no reason":      {"HTTP/1.1 403\r\nContent-Length: 1\r\n\r\nx", 403, "", "x", false},
		"parameters":     {"HTTP/1.1 403 Forbidden\r\nContent-Type: Application/Problem+JSON ; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}", 403, "application/problem+json", "{}", false},
		"chunks":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n", 200, "", "hello 0123456789", false},
		"close":          {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 200, "", "x", true},
		"kept":           {"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", 200, "", "x", false},
		"a redirect":     {"HTTP/1.1 307 Go\r\nLocation: https://elsewhere\r\nContent-Length: 0\r\n\r\n", 307, "", "", false},
		"all that fits":  {"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), 200, "", strings.Repeat("x", 1000), false},
		"bytes of UTF-8": {"HTTP/1.1 200 ö\r\nX: ü\r\nContent-Length: 0\r\n\r\n", 200, "", "", false},
	} {
		r, err := parse(c.in)
		if err != nil || r.Status != c.status || r.Type != c.media || string(r.Body) != c.body || r.close != c.close {
			t.Errorf("%s: found %+v, %v", name, r, err)
		}
	}
}

func TestAnswersRefused(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	for name, in := range map[string]string{
		"nothing":                   "",
		"HTTP/1.0":                  "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/2":                    "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
		"no status":                 "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
		"a status of four digits":   "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
		"an interim answer":         "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n",
		"no content":                "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
		"status 600":                "HTTP/1.1 600 No\r\nContent-Length: 0\r\n\r\n",
		"bare LF":                   "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
		"bare CR":                   ok + "X: a\rb\r\nContent-Length: 0\r\n\r\n",
		"a zero byte":               ok + "X: \x00\r\nContent-Length: 0\r\n\r\n",
		"an escape":                 ok + "X: \x1b[31m\r\nContent-Length: 0\r\n\r\n",
		"a folded line":             ok + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
		"space before the colon":    ok + "Content-Length : 0\r\n\r\n",
		"no colon":                  ok + "Content-Length\r\n\r\n",
		"no name":                   ok + ": x\r\nContent-Length: 0\r\n\r\n",
		"neither length nor chunks": ok + "\r\nhello",
		"both":                      ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"both, the other way":       ok + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"length twice":              ok + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
		"two lengths":               ok + "Content-Length: 5, 5\r\n\r\nhello",
		"a signed length":           ok + "Content-Length: +5\r\n\r\nhello",
		"a negative length":         ok + "Content-Length: -5\r\n\r\nhello",
		"a length in hex":           ok + "Content-Length: 0x5\r\n\r\nhello",
		"a huge length":             ok + "Content-Length: 99999999999999999999\r\n\r\n",
		"a length over the bound":   ok + "Content-Length: 1001\r\n\r\n" + strings.Repeat("x", 1001),
		"cut in the head":           "HTTP/1.1 200 OK\r\nContent-Le",
		"cut in the body":           ok + "Content-Length: 5\r\n\r\nhell",
		"gzip, chunked":             ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"gzip":                      ok + "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
		"chunks over the bound":     ok + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + strings.Repeat("x", 1000) + "\r\n1\r\nx\r\n0\r\n\r\n",
		"a chunk over the bound":    ok + "Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
		"a chunk's extension":       ok + "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
		"a long chunk":              ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
		"a long size":               ok + "Transfer-Encoding: chunked\r\n\r\n000000001\r\nx\r\n0\r\n\r\n",
		"a trailer":                 ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
		"no last chunk":             ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"a long head":               ok + "X: " + strings.Repeat("x", maxHead) + "\r\nContent-Length: 0\r\n\r\n",
		"many fields":               ok + strings.Repeat("X: y\r\n", maxFields) + "Content-Length: 0\r\n\r\n",
	} {
		if r, err := parse(in); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
	// The control: many fields, and no more.
	if _, err := parse(ok + strings.Repeat("X: y\r\n", maxFields-2) + "Content-Length: 0\r\n\r\n"); err != nil {
		t.Errorf("the control: %v", err)
	}
}

// Against net/http's server: both forms of a body, two requests on one connection,
// and none after the server's word that it closes.
func TestWithARealServer(t *testing.T) {
	var hosts []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("found %s with %q, %v", r.Method, r.Header, err)
		}
		hosts = append(hosts, r.Host)
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/chunks":
			for len(b) > 0 {
				n := min(len(b), 100)
				_, _ = w.Write(b[:n])
				w.(http.Flusher).Flush()
				b = b[n:]
			}
		case "/close":
			w.Header().Set("Connection", "close")
			_, _ = w.Write(b)
		default:
			_, _ = w.Write(b)
		}
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := New(conn, "steward.example:8443")
	want := bytes.Repeat([]byte("0123456789"), 100)
	for _, path := range []string{"/", "/chunks", "/", "/close"} {
		r, err := c.Post(path, want, most)
		if err != nil || r.Status != 200 || !bytes.Equal(r.Body, want) || r.Type != "application/json" {
			t.Fatalf("%s: found %+v, %v", path, r, err)
		}
	}
	if _, err := c.Post("/", nil, most); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: found %v", err)
	}
	if len(hosts) != 4 || hosts[0] != "steward.example:8443" {
		t.Errorf("found the hosts %q", hosts)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := read(bufio.NewReader(bytes.NewReader(b)), most)
		if err != nil {
			return
		}
		if len(r.Body) > most || r.Status < 200 || r.Status > 599 {
			t.Fatalf("found %+v", r)
		}
		// Whatever is accepted here means the same to net/http.
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b, err)
		}
		body, err := io.ReadAll(std.Body)
		if err != nil || std.StatusCode != r.Status || !bytes.Equal(body, r.Body) {
			t.Fatalf("net/http reads %d, %q, %v where this reads %+v", std.StatusCode, body, err, r)
		}
	})
}
