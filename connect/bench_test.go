//go:build linux

package connect

import (
	"context"
	"crypto/tls"
	"io"
	"testing"
)

// BenchmarkSetUp is one attested connection, with both ends in this process.
func BenchmarkSetUp(b *testing.B) {
	k := newKeep(b, func(c *tls.Conn) { _, _ = c.Write([]byte{1}); _, _ = io.Copy(io.Discard, c) })
	d := k.dialer()
	for b.Loop() {
		c, err := d.Dial(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.ReadFull(c.tls, make([]byte, 1))
		_ = c.Close()
	}
}
