//go:build linux

package connect

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// counted counts the writes to a socket.
type counted struct {
	net.Conn
	writes atomic.Int32
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// The records of one write go to the socket together, and arrive whole.
func TestRecordsGoTogether(t *testing.T) {
	got := make(chan []byte, 1)
	k := newKeep(t, func(c *tls.Conn) {
		b, _ := io.ReadAll(c)
		got <- b
	})
	c, err := k.dialer().Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	below := &counted{Conn: c.wire.Conn}
	c.wire.Conn = below
	sent := bytes.Repeat([]byte("0123456789abcdef"), 3*bufferSize/16)
	for b := sent; len(b) > 0; b = b[bufferSize:] {
		if n, err := c.toKeep().Write(b[:bufferSize]); n != bufferSize || err != nil {
			t.Fatalf("found %d, %v", n, err)
		}
	}
	if n := below.writes.Load(); n != 3 {
		t.Errorf("found %d writes, wanted 3", n)
	}
	if err := c.tls.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("found %d bytes, wanted the %d that were sent", len(b), len(sent))
	}
}

// A connection whose Keep takes nothing can be closed, and the write ends with it.
func TestCloseBesideWrite(t *testing.T) {
	wait := make(chan struct{})
	k := newKeep(t, func(*tls.Conn) { <-wait })
	defer close(wait)
	c, err := k.dialer().Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	below := &counted{Conn: c.wire.Conn}
	c.wire.Conn = below
	ended := make(chan error)
	go func() {
		for {
			if _, err := c.toKeep().Write(make([]byte, bufferSize)); err != nil {
				ended <- err
				return
			}
		}
	}()
	// Until it waits in a write: it holds the lock, and no write is added.
	for last := int32(-1); ; time.Sleep(20 * time.Millisecond) {
		now := below.writes.Load()
		if now == last && !c.wire.out.TryLock() {
			break
		} else if now == last {
			c.wire.out.Unlock()
		}
		last = now
	}
	before := below.writes.Load()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the write did not fail")
	}
	if n := below.writes.Load(); n != before {
		t.Errorf("%d more writes behind the one that waited", n-before)
	}
}

// What a read writes beside a write, as where the Keep asks for new keys, keeps its place
// among what is held, whatever its size.
func TestHeldInOrder(t *testing.T) {
	near, far := net.Pipe()
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far)
		got <- b
	}()
	below := &counted{Conn: near}
	w := &wire{Conn: below, held: make([]byte, 0, 8)}
	var sent []byte
	for i, c := range []struct{ size, writes int }{{3, 0}, {5, 0}, {1, 1}, {7, 1}, {8, 2}, {9, 4}, {2, 4}} {
		b := bytes.Repeat([]byte{'a' + byte(i)}, c.size)
		sent = append(sent, b...)
		if n, err := w.Write(b); n != c.size || err != nil || int(below.writes.Load()) != c.writes {
			t.Errorf("write %d: found %d, %v, %d writes below, wanted %d", i, n, err, below.writes.Load(), c.writes)
		}
	}
	if err := w.flush(); err != nil {
		t.Error(err)
	}
	w.held = nil
	if _, err := w.Write([]byte("z")); err != nil || below.writes.Load() != 6 {
		t.Errorf("found %v, %d writes", err, below.writes.Load())
	}
	_ = near.Close()
	if b := <-got; string(b) != string(sent)+"z" {
		t.Errorf("found %q, wanted %qz", b, sent)
	}
}

// One record and not a byte of the next is what crypto/tls is given.
func TestWireGivesRecords(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		for _, n := range []int{0, 1, 300} {
			_, _ = a.Write(append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...))
		}
		_ = a.Close()
	}()
	w := &wire{Conn: b}
	var pieces []int
	for {
		n, err := w.Read(make([]byte, 4096))
		if err != nil {
			break
		}
		pieces = append(pieces, n)
	}
	sum, at := 0, []int{}
	for _, n := range pieces {
		sum += n
		at = append(at, sum)
	}
	for _, edge := range []int{5, 10, 11, 16, 316} {
		if !slices.Contains(at, edge) {
			t.Errorf("a piece goes over the edge at %d: %v", edge, pieces)
		}
	}
}
