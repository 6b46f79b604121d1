package store_test

import (
	"context"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// BenchmarkDecide decides from 64 callers, every answer on disk:
//
//	go test -run xxx -bench Decide -benchtime 20000x ./steward/store
//
// It reports decisions a second, their latency, the processor time of this process
// (making the decisions up is in it), and by how much the database and, after the
// first tenth, the heap grow with each.
func BenchmarkDecide(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		open := sqliteFresh(b)
		decide(b, open(store.Options{Guard: storetest.Guard{}}))
	})
	b.Run("postgresql", func(b *testing.B) {
		open := postgresFresh(storetest.Postgres(b))(b)
		decide(b, open(store.Options{Guard: storetest.Guard{}}))
	})
	b.Run("postgresql-two-replicas", func(b *testing.B) {
		open := postgresFresh(storetest.Postgres(b))(b)
		decide(b, open(store.Options{Guard: storetest.Guard{}}), open(store.Options{Guard: storetest.Guard{}}))
	})
}

// used gives the heap in use after a collection, and the database's bytes.
func used(b *testing.B, s store.Store) (heap, disk float64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	st, err := s.Stats(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return float64(m.HeapAlloc), float64(st.Bytes)
}

// cpuTime is what this process has used; PostgreSQL's own is not in it.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func decide(b *testing.B, stores ...store.Store) {
	for _, s := range stores {
		defer s.Close()
	}
	const callers = 64
	latency := make([]time.Duration, b.N)
	var next atomic.Int64
	run := func(to int) {
		var wg sync.WaitGroup
		for c := range callers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					n := int(next.Add(1)) - 1
					if n >= to {
						next.Add(-1)
						return
					}
					d := storetest.Admitted(n, storetest.T0.Add(time.Duration(n)*time.Millisecond))
					start := time.Now()
					if _, err := stores[c%len(stores)].Decide(context.Background(), d); err != nil {
						b.Error(err)
						return
					}
					latency[n] = time.Since(start)
				}
			}()
		}
		wg.Wait()
	}
	b.ResetTimer()
	cpu := cpuTime()
	warm := b.N / 10
	run(warm)
	b.StopTimer()
	heap, disk := used(b, stores[0])
	b.StartTimer()
	run(b.N)
	b.StopTimer()
	cpu = cpuTime() - cpu
	heapNow, diskNow := used(b, stores[0])
	sort.Slice(latency, func(i, j int) bool { return latency[i] < latency[j] })
	rest := float64(b.N - warm)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(float64(latency[b.N*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(cpu.Seconds()*1000/float64(b.N), "cpu-ms/decision")
	b.ReportMetric((diskNow-disk)/rest, "disk-B/decision")
	b.ReportMetric((heapNow-heap)/rest, "heap-B/decision")
}
