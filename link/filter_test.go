//go:build linux

package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// rot is a filter that changes each byte, ends its stream with a mark, and owes a
// byte for each '?' that comes in.
type rot struct {
	owed  int
	ended bool
}

func (f *rot) In(dst, p []byte) ([]byte, error) {
	for _, c := range p {
		switch {
		case f.ended:
			return dst, errors.New("bytes after the end")
		case c == 0xff:
			f.ended = true
		case c == '?'+1:
			f.owed++
		case c != '!':
			dst = append(dst, c-1)
		}
	}
	if f.ended {
		return dst, io.EOF
	}
	return dst, nil
}

func (f *rot) Out(dst, p []byte) ([]byte, error) {
	for _, c := range p {
		dst = append(dst, c+1)
	}
	return dst, nil
}

func (f *rot) Ended() error {
	if !f.ended {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (f *rot) Owed(dst []byte) []byte {
	dst = append(dst, bytes.Repeat([]byte("!"), f.owed)...)
	f.owed = 0
	return dst
}

func (f *rot) End(dst []byte) []byte { return append(dst, 0xff) }

func TestRelayFilter(t *testing.T) {
	host, guest := sessions(t)
	filter := func() Filter { return &rot{} }
	near, far, ended := relayed(t, host, guest, filter, filter)
	want := bytes.Repeat([]byte("abc?d"), 400<<10/5)
	for _, c := range []*net.UnixConn{near, far} {
		go func() {
			_, _ = c.Write(want)
			_ = c.CloseWrite()
		}()
	}
	for _, c := range []*net.UnixConn{near, far} {
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, bytes.ReplaceAll(want, []byte("?"), nil)) {
			t.Errorf("found %d bytes, %v", len(got), err)
		}
	}
	wait(t, ended, 2)
}

// A stream that ends where the filter says it must not is no orderly end.
func TestRelayFilterTruncation(t *testing.T) {
	host, guest := sessions(t)
	near, far, ended := relayed(t, host, guest, func() Filter { return nil }, func() Filter { return &rot{} })
	_, _ = near.Write([]byte("bcd"))
	_ = near.CloseWrite()
	got, _ := io.ReadAll(far)
	if string(got) != "abc" {
		t.Errorf("found %q", got)
	}
	if b, err := io.ReadAll(near); err == nil && len(b) > 0 {
		t.Errorf("found %q, wanted nothing", b)
	}
	wait(t, ended, 2)
}
