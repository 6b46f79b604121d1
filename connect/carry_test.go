//go:build linux

package connect

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/atls"
)

type pipeEnd struct {
	io.Writer
	close func() error
}

func (p pipeEnd) Close() error { return p.close() }

// stdin and stdout: the Keep's end is the end.
func TestCarry(t *testing.T) {
	k := newKeep(t, mirror)
	c, err := k.dialer().Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	var got bytes.Buffer
	closed := false
	err = (&Proxy{}).Carry(context.Background(), c, bytes.NewReader(sent), pipeEnd{&got, func() error { closed = true; return nil }})
	if err != nil || !closed || !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%v, closed %v, %d of %d bytes", err, closed, got.Len(), len(sent))
	}
	// The Keep ends while stdin waits.
	k2 := newKeep(t, func(c *tls.Conn) { _, _ = c.Write([]byte("bye")); _ = c.Close() })
	if c, err = k2.dialer().Dial(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	defer w.Close()
	got.Reset()
	if err := (&Proxy{}).Carry(context.Background(), c, r, pipeEnd{&got, func() error { return nil }}); err != nil || got.String() != "bye" {
		t.Errorf("%v, %q", err, got.String())
	}
}

// Told to end, or too old, it ends: also where nobody takes what the Keep sends.
func TestCarryEnds(t *testing.T) {
	for name, x := range map[string]struct {
		silent, aged bool
		want         error
	}{
		"told to, and nothing comes":     {silent: true},
		"told to, and out takes nothing": {},
		"too old, and nothing comes":     {silent: true, aged: true, want: atls.ErrAged},
		"too old, and out takes nothing": {aged: true, want: atls.ErrAged},
	} {
		k := newKeep(t, func(c *tls.Conn) {
			for !x.silent {
				if _, err := c.Write(make([]byte, bufferSize)); err != nil {
					return
				}
			}
			_, _ = c.Read(make([]byte, 1))
		})
		c, err := k.dialer().Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		in, w := io.Pipe()
		defer w.Close()
		r, out := io.Pipe()
		defer r.Close()
		ctx, cancel := context.WithCancel(context.Background())
		p := &Proxy{MaxAge: time.Hour}
		if x.aged {
			p.MaxAge = 1
		}
		done := make(chan error, 1)
		go func() { done <- p.Carry(ctx, c, in, out) }()
		if !x.aged {
			if !x.silent {
				_, _ = io.ReadFull(r, make([]byte, 1))
			}
			cancel()
		}
		select {
		case err := <-done:
			if !errors.Is(err, x.want) {
				t.Errorf("%s: found %v, wanted %v", name, err, x.want)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: it does not end", name)
		}
		cancel()
	}
}

// What keeps out from taking the Keep's bytes is said.
func TestCarrySaysWhy(t *testing.T) {
	full := errors.New("no space left")
	for name, out := range map[string]pipeEnd{
		"write": {failing{full}, func() error { return nil }},
		"close": {io.Discard, func() error { return full }},
	} {
		k := newKeep(t, func(c *tls.Conn) { _, _ = c.Write([]byte("bye")); _ = c.Close() })
		c, err := k.dialer().Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		in, w := io.Pipe()
		defer w.Close()
		if err := (&Proxy{}).Carry(context.Background(), c, in, out); !errors.Is(err, full) {
			t.Errorf("%s: found %v", name, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
