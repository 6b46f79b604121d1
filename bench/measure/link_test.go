//go:build linux

package main

import (
	"fmt"
	"io"
	"testing"
)

// BenchmarkLinkBulk moves data one way over a stream of the link.
func BenchmarkLinkBulk(b *testing.B) {
	out, in, end, err := linkedStreams()
	if err != nil {
		b.Fatal(err)
	}
	defer end()
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	done := make(chan error, 1)
	b.ResetTimer()
	go func() {
		_, err := io.CopyN(io.Discard, in, int64(b.N)*int64(len(buf)))
		done <- err
	}()
	for range b.N {
		if _, err := out.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLinkMessage is one message over the link and back.
func BenchmarkLinkMessage(b *testing.B) {
	for _, size := range []int{64, 1024, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			out, in, end, err := linkedStreams()
			if err != nil {
				b.Fatal(err)
			}
			defer end()
			go func() { // the other end gives each message back
				buf := make([]byte, size)
				for {
					if _, err := io.ReadFull(in, buf); err != nil {
						return
					}
					if _, err := in.Write(buf); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, size)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := out.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(out, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
