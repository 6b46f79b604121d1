// Command generate writes sales as CSV for the analytics example: the same bytes
// for the same flags on every machine.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

func main() {
	size := flag.Int64("bytes", 50_000_000, "write rows until this many `bytes` are reached")
	seed := flag.Uint64("seed", 1, "`number` that the rows are drawn from")
	flag.Parse()
	if err := generate(os.Stdout, *size, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate writes a header and rows until at least size bytes are written.
func generate(w io.Writer, size int64, seed uint64) error {
	regions := [...]string{"Alsace", "Bretagne", "Corse", "Normandie", "Provence", "Savoie", "Touraine"}
	products := [...]string{"anvil", "bell", "candle", "drum", "easel", "flute", "globe", "harp", "ink", "jar", "kite", "lamp"}
	day := time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)
	r := rand.New(rand.NewPCG(seed, 0x646f6e6a6f6e))
	out := bufio.NewWriterSize(w, 256<<10)
	written, err := io.WriteString(out, "day,region,product,quantity,price\n")
	for n := int64(written); n < size && err == nil; n += int64(written) {
		product := r.IntN(len(products))
		written, err = fmt.Fprintf(out, "%s,%s,%s,%d,%d\n",
			day.AddDate(0, 0, r.IntN(2000)).Format(time.DateOnly), regions[r.IntN(len(regions))],
			products[product], 1+r.IntN(20), 500*(product+1)+r.IntN(400))
	}
	if err != nil {
		return err
	}
	return out.Flush()
}
