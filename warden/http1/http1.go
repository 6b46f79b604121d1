// Package http1 is the little of HTTP/1.1 (RFC 9112) that a Keep speaks: to its
// Steward a POST of a body in memory and its answer, one after another on one
// connection, and to a client that asks for evidence one answer. net/http would be measured in every Keep, and reads far more than
// this: what is not needed is refused here, and everything has a bound. Deadlines
// are the connection's.
package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of an answer's head, in bytes and lines, and of its body's form.
const (
	maxHead   = 16 << 10
	maxFields = 64
	maxChunks = 64 << 10
)

// A Conn posts over a connection. It is used by one goroutine, and after an error
// not at all.
type Conn struct {
	w    io.Writer
	r    *bufio.Reader
	host string
	done bool // the server closes, or something failed
}

// New makes a Conn. host is the field Host: a name or an address, and the port
// where it is not 443.
func New(c io.ReadWriter, host string) *Conn {
	return &Conn{w: c, r: bufio.NewReaderSize(c, 4<<10), host: host}
}

// A Response is an answer whose body came whole.
type Response struct {
	Status int
	Type   string // media type, lower case, without parameters
	Body   []byte
	close  bool
}

// ErrClosed says that the server closes the connection.
var ErrClosed = errors.New("http1: the connection takes no further request")

// Post sends body as application/json and reads an answer with a body of at most
// most bytes. A redirect is an answer like any other: nothing is followed.
func (c *Conn) Post(path string, body []byte, most int) (Response, error) {
	if c.done {
		return Response{}, ErrClosed
	}
	c.done = true
	head := "POST " + path + " HTTP/1.1\r\nHost: " + c.host + "\r\nContent-Type: application/json\r\nAccept: application/json, application/problem+json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n"
	if _, err := c.w.Write(append([]byte(head), body...)); err != nil {
		// A server may answer, close and not read the rest: its answer says why.
		if r, rerr := read(c.r, most); rerr == nil && r.Status >= 400 {
			return r, nil
		}
		return Response{}, fmt.Errorf("http1: sending: %w", err)
	}
	r, err := read(c.r, most)
	if err != nil {
		return Response{}, err
	}
	c.done = r.close
	return r, nil
}

// read reads one answer.
func read(r *bufio.Reader, most int) (Response, error) {
	h := head{r: r, left: maxHead}
	out, length, err := h.parse()
	if err != nil {
		return Response{}, err
	}
	if length > int64(most) {
		return Response{}, fmt.Errorf("http1: a body of %d bytes, at most %d", length, most)
	}
	if length < 0 {
		out.Body, err = h.chunks(most)
	} else {
		out.Body, err = body(r, int(length))
	}
	return out, err
}

// head reads lines of what is not the body, in all no more than left bytes.
type head struct {
	r      *bufio.Reader
	left   int
	broken bool // the connection is: an error is its own, not the head's
}

// line gives the next line without its CR LF.
func (h *head) line() (string, error) {
	var b []byte
	for {
		c, err := h.r.ReadByte()
		if err != nil {
			h.broken = true
			return "", cut(err)
		}
		if h.left--; h.left < 0 {
			return "", fmt.Errorf("http1: a head of more than %d bytes", maxHead)
		}
		switch {
		case c == '\n' && len(b) > 0 && b[len(b)-1] == '\r':
			return string(b[:len(b)-1]), nil
		case c == '\n', c != '\r' && c != '\t' && c < ' ', c == 0x7f, len(b) > 0 && b[len(b)-1] == '\r':
			return "", errors.New("http1: a head with a control character or a line that does not end with CR LF")
		}
		b = append(b, c)
	}
}

// parse reads the head; length is -1 where the body comes in chunks.
func (h *head) parse() (out Response, length int64, err error) {
	status, err := h.line()
	if err != nil {
		return out, 0, err
	}
	// HTTP/1.1 SP three digits SP reason
	if len(status) < 12 || status[:9] != "HTTP/1.1 " || len(status) > 12 && status[12] != ' ' {
		return out, 0, errors.New("http1: the answer does not begin as HTTP/1.1's does")
	}
	for _, c := range []byte(status[9:12]) {
		if c < '0' || c > '9' {
			return out, 0, errors.New("http1: a status that is no number")
		}
		out.Status = 10*out.Status + int(c-'0')
	}
	if out.Status < 200 || out.Status > 599 || out.Status == 204 || out.Status == 304 {
		return out, 0, fmt.Errorf("http1: found the status %d, wanted an answer with a body", out.Status)
	}
	seen := map[string]bool{}
	length = -2
	for range maxFields {
		line, err := h.line()
		if err != nil {
			return out, 0, err
		}
		if line == "" {
			if length == -2 {
				return out, 0, errors.New("http1: an answer without Content-Length or chunks")
			}
			return out, length, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !token(name) {
			return out, 0, errors.New("http1: a field without a name")
		}
		name, value = strings.ToLower(name), strings.Trim(value, " \t")
		switch name {
		case "content-length", "transfer-encoding", "content-type", "content-encoding", "connection":
			if seen[name] {
				return out, 0, fmt.Errorf("http1: the field %s stands twice", name)
			}
			seen[name] = true
		}
		switch name {
		case "content-length":
			if length != -2 {
				return out, 0, errors.New("http1: both Content-Length and Transfer-Encoding")
			}
			if length, err = number(value, 10); err != nil {
				return out, 0, err
			}
		case "transfer-encoding":
			if length != -2 {
				return out, 0, errors.New("http1: both Content-Length and Transfer-Encoding")
			}
			if !strings.EqualFold(value, "chunked") {
				return out, 0, errors.New("http1: a transfer coding other than chunked")
			}
			length = -1
		case "content-encoding":
			return out, 0, errors.New("http1: a body with a content coding, which was not asked for")
		case "content-type":
			media, _, _ := strings.Cut(value, ";")
			out.Type = strings.ToLower(strings.Trim(media, " \t"))
		case "connection":
			out.close = !strings.EqualFold(value, "keep-alive")
		}
	}
	return out, 0, fmt.Errorf("http1: more than %d fields", maxFields)
}

// chunks reads a body in chunks (RFC 9112 section 7.1), without extensions and
// trailers: no server of ours sends any.
func (h *head) chunks(most int) ([]byte, error) {
	var out []byte
	for range maxChunks {
		h.left = 32
		line, err := h.line()
		if err != nil {
			return nil, err
		}
		n, err := number(line, 16)
		if err != nil {
			return nil, err
		}
		if n > int64(most-len(out)) {
			return nil, fmt.Errorf("http1: a body of more than %d bytes", most)
		}
		if n > 0 {
			part, err := body(h.r, int(n))
			if err != nil {
				return nil, err
			}
			out = append(out, part...)
		}
		end, err := h.line()
		if err != nil {
			return nil, err
		}
		if end != "" {
			return nil, errors.New("http1: a chunk that is longer than it says, or a trailer")
		}
		if n == 0 {
			return out, nil
		}
	}
	return nil, fmt.Errorf("http1: a body of more than %d chunks", maxChunks)
}

// body reads n bytes, and takes memory as they come: a length alone costs nothing.
func body(r io.Reader, n int) ([]byte, error) {
	out := make([]byte, 0, min(n, 64<<10))
	for len(out) < n {
		if len(out) == cap(out) {
			out = append(make([]byte, 0, min(n, 2*cap(out))), out...)
		}
		m, err := io.ReadFull(r, out[len(out):cap(out)])
		out = out[:len(out)+m]
		if err != nil {
			return nil, cut(err)
		}
	}
	return out, nil
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("http1: the answer is cut off: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("http1: reading the answer: %w", err)
}

// number reads digits alone: no sign, no space, at most 8.
func number(s string, base int) (int64, error) {
	if len(s) == 0 || len(s) > 8 || s[0] == '+' || s[0] == '-' {
		return 0, errors.New("http1: a length that is no number of at most 8 digits")
	}
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil {
		return 0, errors.New("http1: a length that is no number of at most 8 digits")
	}
	return int64(n), nil
}

// token says whether s is a field's name (RFC 9110 section 5.6.2).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
