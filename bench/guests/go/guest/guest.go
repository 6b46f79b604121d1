// Package guest is what the benchmark guests in Go share: the argument and the
// numbers (bench/guests/README.md). c/rng.h is its twin.
package guest

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// Scale reads the argument n: 1 to 1000, without it 1. Anything else ends the
// program with status 2.
func Scale() int {
	if len(os.Args) < 2 {
		return 1
	}
	n, err := strconv.Atoi(os.Args[1])
	if err != nil || n < 1 || n > 1000 {
		fmt.Fprintf(os.Stderr, "found n = %q, wanted 1 to 1000\n", os.Args[1])
		os.Exit(2)
	}
	return n
}

// Elapsed says on stderr how long the computing took: what starting a program
// costs is measured elsewhere. Deferred as main's first line.
func Elapsed(start time.Time) {
	fmt.Fprintf(os.Stderr, "elapsed_ns %d\n", time.Since(start).Nanoseconds())
}

// Rand is splitmix64.
type Rand uint64

// Next gives the next 64 bits.
func (r *Rand) Next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Sum is FNV-1a over 64-bit words.
type Sum uint64

// NewSum is the sum of nothing.
const NewSum Sum = 14695981039346656037

// Add adds a word.
func (s *Sum) Add(v uint64) { *s = (*s ^ Sum(v)) * 1099511628211 }
