package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const wanted = "/.well-known/donjon/evidence"

func TestBegins(t *testing.T) {
	for in, want := range map[string][2]bool{ // ours, decided
		"":                              {false, false},
		"G":                             {false, false},
		"GET":                           {false, false},
		"GET ":                          {false, false},
		"GET /":                         {false, false},
		"GET /.well-known/donjon/evid":  {false, false},
		"GET " + wanted:                 {false, false},
		"GET " + wanted + " ":           {true, true},
		"GET " + wanted + "?":           {true, true},
		"POST " + wanted + "?nonce=":    {true, true},
		"HEAD " + wanted + " HTTP/1.1":  {true, true},
		"GET " + wanted + "/":           {false, true},
		"GET " + wanted + "2 ":          {false, true},
		"GET " + wanted + "#":           {false, true},
		"GET /.Well":                    {false, true},
		"GET //.well":                   {false, true},
		"GET /.well-known/%64onjon":     {false, true},
		"GET /index.html":               {false, true},
		"GET  /":                        {false, true},
		"GET\t/":                        {false, true},
		"get ":                          {false, true},
		" GET":                          {false, true},
		"\r\nGET " + wanted + " ":       {false, true},
		"GET http://keep" + wanted:      {false, true}, // absolute-form is the guest's
		"PRI * HTTP/2.0\r\n\r\nSM":      {false, true},
		"OPTIONS * HTTP/1.1":            {false, true},
		"CONNECT keep:443":              {false, true},
		"\x16\x03\x01":                  {false, true},
		"\x00":                          {false, true},
		strings.Repeat("A", 16):         {false, false},
		strings.Repeat("A", 16) + " /.": {false, false},
		strings.Repeat("A", 17):         {false, true},
		strings.Repeat("A", 4096):       {false, true},
	} {
		if ours, decided := Begins([]byte(in), wanted); ours != want[0] || decided != want[1] {
			t.Errorf("%.60q: found %v, %v, wanted %v", in, ours, decided, want)
		}
	}
}

func TestRequests(t *testing.T) {
	host := "Host: keep\r\n"
	for name, c := range map[string]struct {
		in     string
		want   Request
		status int // 0: it is read
	}{
		"as browsers ask":    {"GET /a?nonce=1 HTTP/1.1\r\n" + host + "Accept: */*\r\nOrigin: https://x\r\n\r\n", Request{"GET", "/a", "nonce=1"}, 0},
		"no query":           {"GET /a HTTP/1.1\r\n" + host + "\r\n", Request{"GET", "/a", ""}, 0},
		"two ?":              {"GET /a?b?c HTTP/1.1\r\n" + host + "\r\n", Request{"GET", "/a", "b?c"}, 0},
		"HTTP/1.0":           {"GET /a HTTP/1.0\r\n\r\n", Request{"GET", "/a", ""}, 0},
		"a length of none":   {"GET /a HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", Request{"GET", "/a", ""}, 0},
		"another method":     {"POST /a HTTP/1.1\r\n" + host + "\r\n", Request{"POST", "/a", ""}, 0},
		"more behind it":     {"GET /a HTTP/1.1\r\n" + host + "\r\nGET /b HTTP/1.1\r\n", Request{"GET", "/a", ""}, 0},
		"HTTP/2":             {"GET /a HTTP/2.0\r\n" + host + "\r\n", Request{}, 505},
		"HTTP/0.9":           {"GET /a\r\n", Request{}, 400},
		"three words":        {"GET /a b HTTP/1.1\r\n" + host + "\r\n", Request{}, 400},
		"absolute-form":      {"GET http://keep/a HTTP/1.1\r\n" + host + "\r\n", Request{}, 400},
		"no host":            {"GET /a HTTP/1.1\r\n\r\n", Request{}, 400},
		"two hosts":          {"GET /a HTTP/1.1\r\n" + host + host + "\r\n", Request{}, 400},
		"a body":             {"GET /a HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nx", Request{}, 400},
		"a body in chunks":   {"GET /a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Request{}, 400},
		"bare LF":            {"GET /a HTTP/1.1\nHost: keep\n\n", Request{}, 400},
		"an escape":          {"GET /a HTTP/1.1\r\n" + host + "X: \x1b[31m\r\n\r\n", Request{}, 400},
		"a folded line":      {"GET /a HTTP/1.1\r\n" + host + " x\r\n\r\n", Request{}, 400},
		"a space in a name":  {"GET /a HTTP/1.1\r\nHost : keep\r\n\r\n", Request{}, 400},
		"too long a line":    {"GET /" + strings.Repeat("a", maxHead) + " HTTP/1.1\r\n" + host + "\r\n", Request{}, 431},
		"too many fields":    {"GET /a HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxFields+1) + host + "\r\n", Request{}, 431},
		"fields without end": {"GET /a HTTP/1.1\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 40), Request{}, 431},
	} {
		got, err := ReadRequest(iotest.OneByteReader(strings.NewReader(c.in)))
		var bad *RequestError
		switch {
		case c.status == 0:
			if err != nil || got != c.want {
				t.Errorf("%s: found %+v, %v", name, got, err)
			}
		case !errors.As(err, &bad) || bad.Status != c.status:
			t.Errorf("%s: found %+v, %v, wanted the status %d", name, got, err, c.status)
		}
	}
	for _, in := range []string{"", "GET", "GET /a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\nHost: keep\r\n"} {
		var bad *RequestError
		if _, err := ReadRequest(strings.NewReader(in)); !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &bad) {
			t.Errorf("%q: found %v, wanted the connection's end", in, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	var b bytes.Buffer
	if err := Answer(&b, 200, "application/x", []byte("body"), false); err != nil || !strings.HasSuffix(b.String(), "Connection: close\r\n\r\nbody") {
		t.Errorf("found %q, %v", b.String(), err)
	}
	for _, want := range []string{"Content-Length: 4\r\n", "Cache-Control: no-store\r\n", "Access-Control-Allow-Origin: *\r\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("found %q, wanted %q", b.String(), want)
		}
	}
	b.Reset()
	if err := Answer(&b, 405, "text/plain", []byte("no"), true); err != nil || !strings.HasSuffix(b.String(), "\r\n\r\n") || !strings.Contains(b.String(), "Allow: GET\r\n") {
		t.Errorf("found %q, %v", b.String(), err)
	}
	if err := Answer(&b, 299, "", nil, false); err == nil {
		t.Error("the status 299 is written")
	}
}

// What is decided early is decided the same of the whole, and what is ours is either
// read, with the path, or refused.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("GET " + wanted + "?nonce=00112233445566778899 HTTP/1.1\r\nHost: keep\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Add([]byte("POST " + wanted + " HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, decided := Begins(b, wanted)
		for n := range b {
			if o, d := Begins(b[:n], wanted); d && (!decided || o != ours) {
				t.Fatalf("%q: %v of %d bytes, %v, %v of all", b, o, n, ours, decided)
			} else if !d && n > maxMethod+len(wanted)+2 {
				t.Fatalf("%q: not decided after %d bytes", b, n)
			}
		}
		r, err := ReadRequest(bytes.NewReader(b))
		if ours && err == nil && r.Path != wanted {
			t.Errorf("%q: found the path %q", b, r.Path)
		}
	})
}
