//go:build linux

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// BenchmarkEnrolments sends requests to processes of donjon steward serve, over TLS and
// HTTP, from 64 callers: to one on SQLite, and to two on one PostgreSQL, alternately. The
// Keeps' part (connection, challenge, report, signature) is done before, all answers are
// looked at afterwards. Both databases wait for the disk before an enrolment is answered:
// the Steward sets SQLite so (synchronous FULL), and refuses a PostgreSQL that does not
// (steward/store, TestDurability).
//
//	go test -run xxx -bench Enrolments -benchtime 2000x ./e2e
//
// Everything shares the machine's processors, PostgreSQL too; cpu-µs/op is that of the
// Stewards alone.
func BenchmarkEnrolments(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { enrolments(b, newStewards(b, "")) })
	b.Run("postgresql-two-replicas", func(b *testing.B) { enrolments(b, newStewards(b, storetest.Postgres(b).Database(b))) })
}

func enrolments(b *testing.B, r *replicas) {
	stewards := []*replica{r.a}
	if r.b != r.a {
		stewards = append(stewards, r.b)
	}
	// The chain is remembered, and a connection to the database is open.
	for _, p := range stewards {
		if _, err := r.try(p, p); err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	var used time.Duration
	b.ResetTimer()
	b.StopTimer()
	for len(took) < b.N {
		t, cpu := enrolSome(b, r, stewards, min(b.N-len(took), atOnce))
		took, used = append(took, t...), used+cpu
	}
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrolments/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
}

// atOnce is how many enrolments are prepared before they are sent: a Steward closes a
// connection that has said nothing for ten seconds.
const atOnce = 500

// enrolSome prepares n enrolments, sends them while the benchmark's timer runs, and
// looks at the answers. It gives how long each took, and the Stewards' processor time.
func enrolSome(b *testing.B, r *replicas, stewards []*replica, n int) (took []time.Duration, used time.Duration) {
	ready := make([]*prepared, n)
	for i := range ready {
		p := stewards[i%len(stewards)]
		c, err := r.keep.challenge(p.addr)
		if err == nil {
			ready[i], err = r.keep.prepare(p.addr, c)
		}
		if err != nil {
			b.Fatal(err)
		}
		defer ready[i].end()
	}
	took = make([]time.Duration, n)
	var next atomic.Int64
	for _, p := range stewards {
		used -= p.cpu(b)
	}
	b.StartTimer()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				start := time.Now()
				if err := ready[i].send(); err != nil {
					b.Errorf("refused: %v", err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	for _, p := range stewards {
		used += p.cpu(b)
	}
	for _, p := range ready {
		if e, err := p.read(); err != nil || string(e.secrets["db-password"]) != replicaSecret {
			b.Fatalf("an answer is not good: %v", err)
		}
	}
	return took, used
}

// cpu is the processor time that a replica has used (proc(5): fields 14 and 15 of stat,
// in hundredths of a second).
func (p *replica) cpu(t testing.TB) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var sum time.Duration
	for _, x := range f[11:13] {
		n, err := strconv.Atoi(x)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}
