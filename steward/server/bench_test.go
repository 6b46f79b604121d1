package server

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
)

// premade makes n requests for a service, with the work of the Keep done beforehand:
// challenge, report and signature. The exporter is a stand-in of 32 bytes.
func premade(b *testing.B, s *steward, w testWorkload, n int) []*protocol.EnrolRequest {
	b.Helper()
	k := s.keep(w)
	session := k.connect()
	defer session.close()
	k.claims = func(c *evidence.Claims) {
		c.TLSExporter = benchExporter()
		h := sha256.Sum256(session.spki)
		c.PubkeyHash = h
	}
	out := make([]*protocol.EnrolRequest, n)
	for i := range out {
		session.challenge = s.server.enrol.Challenge().Challenge
		out[i] = session.enrolment()
	}
	return out
}

// processorTime is what this process has used: on a machine that others use too it
// says more than the clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchExporter() []byte { return make([]byte, 32) }

// BenchmarkEnrolService is what an enrolment costs behind TLS and HTTP: the evidence
// judged (chain cached), the decision on disk, certificate, token and secret made. The
// Keep's part is done beforehand.
func BenchmarkEnrolService(b *testing.B) {
	s := newSteward(b)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	requests := premade(b, s, w, b.N)
	peer := enrol.Peer{Address: "192.0.2.1:1", Request: "bench", Exporter: func([]byte) ([]byte, error) { return benchExporter(), nil }}
	var next atomic.Int64
	b.ResetTimer()
	start, used := time.Now(), processorTime()
	var wg sync.WaitGroup
	for range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				if r := s.server.enrol.Enrol(context.Background(), requests[i], peer); r.Problem != nil {
					b.Errorf("refused: %v, %v", r.Problem, r.Err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "enrolments/s")
	b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkAppraisal judges the same evidence by the same policy: the Steward's own
// appraisal, and the library alone.
func BenchmarkAppraisal(b *testing.B) {
	s := newSteward(b)
	w := newWorkload(secretConfig)
	request := premade(b, s, w, 1)[0]
	doc, err := enrol.ParseDocument([]byte(s.policyFor(w, "")))
	if err != nil {
		b.Fatal(err)
	}
	var v attest.Verifier
	for name, judge := range map[string]func() *verdict.Verdict{
		"steward": func() *verdict.Verdict {
			v, err := s.server.enrol.Dry(enrol.Trial{Evidence: request.Request}, doc)
			if err != nil {
				b.Fatal(err)
			}
			return v
		},
		"library": func() *verdict.Verdict {
			return v.Verify(request.Request, attest.Options{At: s.server.o.Clock(), Policy: doc.Policy, Purpose: evidence.PurposeEnrol})
		},
	} {
		b.Run(name, func(b *testing.B) {
			used := processorTime()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if judge().Claims == nil {
						b.Error("no claims")
					}
				}
			})
			b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkEnrolHalfLoad starts an enrolment every 4 ms (250 a second), whether or not
// those before are done, and reports how long they take.
func BenchmarkEnrolHalfLoad(b *testing.B) {
	s := newSteward(b)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	requests := premade(b, s, w, b.N)
	peer := enrol.Peer{Address: "192.0.2.1:1", Request: "bench", Exporter: func([]byte) ([]byte, error) { return benchExporter(), nil }}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range requests {
		due := start.Add(time.Duration(i) * 4 * time.Millisecond)
		time.Sleep(time.Until(due))
		wg.Add(1)
		go func() {
			defer wg.Done()
			if r := s.server.enrol.Enrol(context.Background(), requests[i], peer); r.Problem != nil {
				b.Errorf("refused: %v, %v", r.Problem, r.Err)
			}
			took[i] = time.Since(due)
		}()
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "enrolments/s")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkEnrol is the whole of it in one process, the Keeps' part too: a connection
// for each, TLS both ways, challenge, report, request, answer.
func BenchmarkEnrol(b *testing.B) {
	s := newSteward(b)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms())
	if _, _, p := s.keep(w).enrol(); p != nil {
		b.Fatal(p)
	}
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	b.ResetTimer()
	start, used := time.Now(), processorTime()
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for int(next.Add(1)) <= b.N {
				session := s.keep(w).connect()
				body := session.enrolment()
				var out protocol.EnrolResponse
				at := time.Now()
				if code, p := session.post(protocol.PathEnrol, body, &out); code != http.StatusOK {
					b.Errorf("refused: %v", p)
				}
				d := time.Since(at)
				session.close()
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "enrolments/s")
	b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N), "cpu-µs/op")
	slices.Sort(took)
	if len(took) > 0 {
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
}
