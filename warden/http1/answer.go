package http1

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

var reasons = map[int]string{200: "OK", 400: "Bad Request", 405: "Method Not Allowed", 431: "Request Header Fields Too Large",
	500: "Internal Server Error", 503: "Service Unavailable", 505: "HTTP Version Not Supported"}

// Answer writes the one answer that a connection gets: pages of every origin may read
// it, and nobody keeps it. head leaves the body out, as the answer to HEAD.
func Answer(w io.Writer, status int, kind string, body []byte, head bool) error {
	reason, ok := reasons[status]
	if !ok {
		return fmt.Errorf("http1: an answer with the status %d", status)
	}
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + reason + "\r\nContent-Type: " + kind + "\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nCache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\nCross-Origin-Resource-Policy: cross-origin\r\nX-Content-Type-Options: nosniff\r\n")
	switch status {
	case 405:
		b.WriteString("Allow: GET\r\n")
	case 503:
		b.WriteString("Retry-After: 1\r\n")
	}
	b.WriteString("Connection: close\r\n\r\n")
	if !head {
		b.Write(body)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
