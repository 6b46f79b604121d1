package server

import (
	"context"
	"net/http"
	"time"

	"github.com/donjon-tee/donjon/steward/metrics"
	"github.com/donjon-tee/donjon/steward/store"
)

// counters are a Server's own.
type counters struct {
	page       metrics.Set
	requests   *metrics.CounterVec
	seconds    *metrics.HistogramVec
	decisions  *metrics.CounterVec
	challenges *metrics.Counter
	released   *metrics.Counter
	limited    *metrics.Counter
	panics     *metrics.Counter
	writing    chan struct{} // a place for each page that is being written
	stats      lately[store.Stats]
	process    lately[[]metrics.Value]
}

func newCounters(s *Server) *counters {
	m := &counters{writing: make(chan struct{}, 4)}
	p := &m.page
	m.requests = p.CounterVec("donjon_steward_requests_total", "requests answered, by route and HTTP status", "route", "status")
	m.seconds = p.HistogramVec("donjon_steward_request_seconds", "time to answer, by route", metrics.Doubling(0.0005, 15), "route")
	m.decisions = p.CounterVec("donjon_steward_decisions_total", "enrolments by code (admitted, or that of the refusal) and TEE", "code", "tee")
	m.challenges = p.Counter("donjon_steward_challenges_total", "challenges given")
	m.released = p.Counter("donjon_steward_secrets_released_total", "secrets sealed to a Keep")
	m.limited = p.Counter("donjon_steward_limited_total", "requests answered with 429")
	m.panics = p.Counter("donjon_steward_panics_total", "handlers that panicked")
	p.Values(func() []metrics.Value {
		left := s.o.Authority.Until(100 * 365 * 24 * time.Hour).Sub(s.o.Clock())
		return []metrics.Value{{Name: "donjon_steward_ca_seconds_left", Help: "until the workloads intermediate ends", V: left.Seconds()}}
	})
	p.Values(func() []metrics.Value { return m.store(s.o.Store) })
	p.Values(func() []metrics.Value {
		v, _ := m.process.ask(func(context.Context) ([]metrics.Value, error) { return metrics.Process(), nil })
		return v
	})
	return m
}

// store gives the store's numbers, read at most once a second.
func (m *counters) store(s store.Store) []metrics.Value {
	up := metrics.Value{Name: "donjon_steward_store_up", Help: "1: the database answers"}
	st, err := m.stats.ask(s.Stats)
	if err != nil {
		return []metrics.Value{up}
	}
	up.V = 1
	return []metrics.Value{up,
		{Name: "donjon_steward_store_bytes", Help: "size of the database", V: float64(st.Bytes)},
		{Name: "donjon_steward_store_decisions", Help: "decisions kept", V: float64(st.Decisions)},
		{Name: "donjon_steward_store_challenges", Help: "used challenges remembered", V: float64(st.Used)},
		{Name: "donjon_steward_store_waiting", Help: "decisions that wait for their transaction", V: float64(st.Waiting)},
	}
}

func (s *Server) metricsPage(w http.ResponseWriter, r *http.Request) {
	select {
	case s.metrics.writing <- struct{}{}:
		defer func() { <-s.metrics.writing }()
	default:
		writeText(w, http.StatusServiceUnavailable, "too many ask for it at once\n")
		return
	}
	w.Header().Set("Content-Type", metrics.ContentType)
	w.WriteHeader(http.StatusOK)
	_ = s.metrics.page.Write(w) // who reads it has gone
}
