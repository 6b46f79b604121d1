// Command deflate packs and unpacks n pieces of 4 MiB of text-like bytes with
// compress/flate and compares (bench/guests/README.md).
package main

import (
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/donjon-tee/donjon/bench/guests/go/guest"
)

const size = 4 << 20

func main() {
	defer guest.Elapsed(time.Now())
	if err := run(guest.Scale()); err != nil {
		fmt.Fprintln(os.Stderr, "deflate:", err)
		os.Exit(1)
	}
}

func run(n int) error {
	r := guest.Rand(4)
	in := make([]byte, size)
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.DefaultCompression)
	if err != nil {
		return err
	}
	var sum uint32
	total := 0
	for range n {
		text(in, &r)
		packed.Reset()
		z.Reset(&packed)
		if _, err := z.Write(in); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		back, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed.Bytes())))
		if err != nil {
			return err
		}
		if !bytes.Equal(in, back) {
			return fmt.Errorf("what was unpacked differs")
		}
		sum = crc32.Update(sum, crc32.IEEETable, packed.Bytes())
		total += packed.Len()
	}
	fmt.Printf("deflate %08x %d\n", sum, total)
	return nil
}

// text fills p with words of a small vocabulary, the frequent ones more often.
func text(p []byte, r *guest.Rand) {
	var words [256][]byte
	for i := range words {
		w := make([]byte, 2+r.Next()%9)
		for j := range w {
			w[j] = byte('a' + r.Next()%26)
		}
		words[i] = append(w, ' ')
	}
	for n := 0; n < len(p); {
		v := r.Next()
		n += copy(p[n:], words[v&255&(v>>8)])
	}
}
