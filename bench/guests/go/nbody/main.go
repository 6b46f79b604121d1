// Command nbody moves five bodies that pull at one another by 100,000 n steps
// (bench/guests/README.md). The conversions to float64 keep the compiler from
// fusing operations, which would give other bits than the C guest.
package main

import (
	"fmt"
	"math"
	"time"

	"github.com/donjon-tee/donjon/bench/guests/go/guest"
)

const bodies = 5

type system struct {
	pos, vel [bodies][3]float64
	mass     [bodies]float64
}

func main() {
	defer guest.Elapsed(time.Now())
	n := guest.Scale()
	r := guest.Rand(3)
	unit := func() float64 { return float64(r.Next()>>11) / (1 << 53) }
	var s system
	for i := range bodies {
		s.mass[i] = 0.5 + unit()
		for k := range 3 {
			s.pos[i][k] = float64(10*unit()) - 5
			s.vel[i][k] = unit() - 0.5
		}
	}
	for range 100_000 * n {
		s.step(0.001)
	}
	sum := guest.NewSum
	for i := range bodies {
		for k := range 3 {
			sum.Add(math.Float64bits(s.pos[i][k]))
		}
	}
	fmt.Printf("nbody %016x\n", uint64(sum))
}

func (s *system) step(dt float64) {
	for i := range bodies {
		for j := i + 1; j < bodies; j++ {
			var d [3]float64
			r2 := 0.01
			for k := range 3 {
				d[k] = s.pos[i][k] - s.pos[j][k]
				r2 += float64(d[k] * d[k])
			}
			pull := dt / float64(r2*math.Sqrt(r2))
			for k := range 3 {
				s.vel[i][k] -= float64(float64(d[k]*s.mass[j]) * pull)
				s.vel[j][k] += float64(float64(d[k]*s.mass[i]) * pull)
			}
		}
	}
	for i := range bodies {
		for k := range 3 {
			s.pos[i][k] += float64(dt * s.vel[i][k])
		}
	}
}
