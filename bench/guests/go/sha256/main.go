// Command sha256 hashes 32 n blocks of 1 MiB, each with the digest of the block
// before (bench/guests/README.md).
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/bench/guests/go/guest"
)

func main() {
	defer guest.Elapsed(time.Now())
	const size = 1 << 20
	n := guest.Scale()
	p := make([]byte, size+sha256.Size)
	r := guest.Rand(1)
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Next())
	}
	var digest [sha256.Size]byte
	for range 32 * n {
		copy(p[size:], digest[:])
		digest = sha256.Sum256(p)
	}
	fmt.Printf("sha256 %x\n", digest)
}
