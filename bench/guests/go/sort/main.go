// Command sort sorts n million 32-bit numbers (bench/guests/README.md).
package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/bench/guests/go/guest"
)

func main() {
	defer guest.Elapsed(time.Now())
	v := make([]uint32, guest.Scale()*1_000_000)
	r := guest.Rand(2)
	for i := range v {
		v[i] = uint32(r.Next() >> 32)
	}
	slices.Sort(v)
	sum := guest.NewSum
	for _, x := range v {
		sum.Add(uint64(x))
	}
	fmt.Printf("sort %016x\n", uint64(sum))
}
