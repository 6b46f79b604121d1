// Command json writes, reads and writes again n times 10,000 records
// (bench/guests/README.md).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/donjon-tee/donjon/bench/guests/go/guest"
)

type record struct {
	ID     uint64            `json:"id"`
	Name   string            `json:"name"`
	Score  float64           `json:"score"`
	Tags   []string          `json:"tags"`
	Labels map[string]string `json:"labels"`
	Parent *record           `json:"parent,omitempty"`
}

func main() {
	defer guest.Elapsed(time.Now())
	if err := run(guest.Scale()); err != nil {
		fmt.Fprintln(os.Stderr, "json:", err)
		os.Exit(1)
	}
}

func run(n int) error {
	r := guest.Rand(5)
	var sum uint32
	for range n {
		records := make([]record, 10_000)
		for i := range records {
			records[i] = draw(&r)
			if i%3 == 0 {
				p := draw(&r)
				records[i].Parent = &p
			}
		}
		first, err := json.Marshal(records)
		if err != nil {
			return err
		}
		var back []record
		if err := json.Unmarshal(first, &back); err != nil {
			return err
		}
		second, err := json.Marshal(back)
		if err != nil {
			return err
		}
		if !bytes.Equal(first, second) {
			return fmt.Errorf("what was read back differs")
		}
		sum = crc32.Update(sum, crc32.IEEETable, second)
	}
	fmt.Printf("json %08x\n", sum)
	return nil
}

func draw(r *guest.Rand) record {
	return record{
		ID: r.Next(), Name: fmt.Sprintf("name-%x \"é\"", r.Next()), Score: float64(r.Next()>>11) / (1 << 53),
		Tags:   []string{fmt.Sprint(r.Next() % 1000), "fixed"},
		Labels: map[string]string{"a": fmt.Sprint(r.Next() % 10), "b": "two"},
	}
}
