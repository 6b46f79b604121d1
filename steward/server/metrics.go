package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/donjon-tee/donjon/steward/store"
)

// metrics are a Server's own: nothing is registered with the process.
type metrics struct {
	page       http.Handler
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	decisions  *prometheus.CounterVec
	challenges prometheus.Counter
	released   prometheus.Counter
	limited    prometheus.Counter
	panics     prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	reg := prometheus.NewRegistry()
	m := &metrics{
		requests:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "donjon_steward_requests_total", Help: "requests answered, by route and HTTP status"}, []string{"route", "status"}),
		seconds:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "donjon_steward_request_seconds", Help: "time to answer, by route", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"route"}),
		decisions:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "donjon_steward_decisions_total", Help: "enrolments by code (admitted, or that of the refusal) and TEE"}, []string{"code", "tee"}),
		challenges: prometheus.NewCounter(prometheus.CounterOpts{Name: "donjon_steward_challenges_total", Help: "challenges given"}),
		released:   prometheus.NewCounter(prometheus.CounterOpts{Name: "donjon_steward_secrets_released_total", Help: "secrets sealed to a Keep"}),
		limited:    prometheus.NewCounter(prometheus.CounterOpts{Name: "donjon_steward_limited_total", Help: "requests answered with 429"}),
		panics:     prometheus.NewCounter(prometheus.CounterOpts{Name: "donjon_steward_panics_total", Help: "handlers that panicked"}),
	}
	ends := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "donjon_steward_ca_seconds_left", Help: "until the workloads intermediate ends"}, func() float64 {
		return s.o.Authority.Until(100 * 365 * 24 * time.Hour).Sub(s.o.Clock()).Seconds()
	})
	reg.MustRegister(m.requests, m.seconds, m.decisions, m.challenges, m.released, m.limited, m.panics, ends,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &storeCollector{s: s})
	m.page = promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return m
}

func (s *Server) metricsPage(w http.ResponseWriter, r *http.Request) { s.metrics.page.ServeHTTP(w, r) }

// storeCollector reads the store's numbers when they are asked for.
type storeCollector struct {
	s     *Server
	stats lately[store.Stats]
}

var (
	descBytes     = prometheus.NewDesc("donjon_steward_store_bytes", "size of the database", nil, nil)
	descDecisions = prometheus.NewDesc("donjon_steward_store_decisions", "decisions kept", nil, nil)
	descUsed      = prometheus.NewDesc("donjon_steward_store_challenges", "used challenges remembered", nil, nil)
	descWaiting   = prometheus.NewDesc("donjon_steward_store_waiting", "decisions that wait for their transaction", nil, nil)
	descUp        = prometheus.NewDesc("donjon_steward_store_up", "1: the database answers", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBytes, descDecisions, descUsed, descWaiting, descUp} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	st, err := c.stats.ask(c.s.o.Store.Stats)
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	if err != nil {
		gauge(descUp, 0)
		return
	}
	gauge(descUp, 1)
	gauge(descBytes, float64(st.Bytes))
	gauge(descDecisions, float64(st.Decisions))
	gauge(descUsed, float64(st.Used))
	gauge(descWaiting, float64(st.Waiting))
}
