package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxMethod is the longest method that begins a request for a path; RFC 9110 has none
// of more than seven letters, and WebDAV none of more than sixteen.
const maxMethod = 16

// Begins says whether the first bytes of a connection are a request for path, in
// origin-form, whatever its method and query. decided is false as long as more bytes
// may tell; they never need to be more than maxMethod, path and two.
func Begins(b []byte, path string) (ours, decided bool) {
	n := 0
	for n < len(b) && b[n] >= 'A' && b[n] <= 'Z' {
		n++
	}
	if n == len(b) {
		return false, n > maxMethod
	}
	if n == 0 || n > maxMethod || b[n] != ' ' {
		return false, true
	}
	b = b[n+1:]
	if len(b) <= len(path) {
		return false, !strings.HasPrefix(path, string(b))
	}
	end := b[len(path)]
	return string(b[:len(path)]) == path && (end == ' ' || end == '?'), true
}

// A Request is a request without a body.
type Request struct {
	Method string
	Path   string
	Query  string // as it stands behind the first ?; "": none
}

// A RequestError says why a request is answered with an error.
type RequestError struct {
	Status int
	What   string // for whoever asks: nothing of the request is in it
}

func (e *RequestError) Error() string { return "http1: " + e.What }

func bad(what string) error { return &RequestError{400, what} }

// ReadRequest reads the head of a request in origin-form that has no body, of HTTP/1.1
// or 1.0 (RFC 9112 sections 2 to 5). A request that is not of this form gives a
// *RequestError; other errors are the connection's.
func ReadRequest(from io.Reader) (Request, error) {
	h := head{r: bufio.NewReaderSize(from, 1<<10), left: maxHead}
	line := func() (string, error) {
		s, err := h.line()
		switch {
		case err == nil || errors.Is(err, io.ErrUnexpectedEOF) || h.broken:
			return s, err
		case h.left < 0:
			return "", &RequestError{431, fmt.Sprintf("the request's head has more than %d bytes", maxHead)}
		}
		return "", bad("the request's head has a control character, or a line that does not end with CR LF")
	}
	first, err := line()
	if err != nil {
		return Request{}, err
	}
	parts := strings.Split(first, " ")
	if len(parts) != 3 || !token(parts[0]) || !strings.HasPrefix(parts[1], "/") {
		return Request{}, bad("the request does not begin with a method, a path and HTTP/1.1")
	}
	if parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return Request{}, &RequestError{505, "only HTTP/1.1 is spoken here"}
	}
	out := Request{Method: parts[0]}
	out.Path, out.Query, _ = strings.Cut(parts[1], "?")
	hosts := 0
	for range maxFields {
		field, err := line()
		if err != nil {
			return Request{}, err
		}
		if field == "" {
			if hosts > 1 || hosts == 0 && parts[2] == "HTTP/1.1" {
				return Request{}, bad("the request has no field Host, or more than one")
			}
			return out, nil
		}
		name, value, ok := strings.Cut(field, ":")
		if !ok || !token(name) {
			return Request{}, bad("the request has a field without a name")
		}
		switch value = strings.Trim(value, " \t"); strings.ToLower(name) {
		case "host":
			hosts++
		case "transfer-encoding":
			return Request{}, bad("the request has a body")
		case "content-length":
			if value != "0" {
				return Request{}, bad("the request has a body")
			}
		}
	}
	return Request{}, &RequestError{431, fmt.Sprintf("the request has more than %d fields", maxFields)}
}
