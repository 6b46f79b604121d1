// Package metrics counts, and writes what it counted in Prometheus' text form
// (exposition format, version 0.0.4). It has what a Steward needs of the official
// client and none of its start-up cost: every donjon command would pay that.
package metrics

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// ContentType is that of what Set.Write writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// maxSeries bounds the series of one family; what comes after is counted in one of
// its own, whose labels are all "other". Labels are to be from few values.
const maxSeries = 1000

// Set is a page of metrics, in the order in which they were made. Make all of them
// before the first Write; their values may be changed and written by many goroutines.
type Set struct{ families []family }

type family interface{ write(w *bufio.Writer) }

// Write writes the page.
func (s *Set) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, f := range s.families {
		f.write(out)
	}
	return out.Flush()
}

func head(w *bufio.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, escapeHelp.Replace(help), name, kind)
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Counter only grows.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// series are the members of a family, by their labels' values.
type series[T any] struct {
	name, kind, help string
	labels           []string
	make             func() *T
	show             func(w *bufio.Writer, name, labels string, v *T)

	mu   sync.RWMutex
	list map[string]*T // by the labels as they are written
}

// with gives the member with these values.
func (s *series[T]) with(values []string) *T {
	if len(values) != len(s.labels) {
		panic(fmt.Sprintf("metrics: %s has %d labels, found %d values", s.name, len(s.labels), len(values)))
	}
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s.labels[i] + `="` + escapeLabel.Replace(strings.ToValidUTF8(v, "\uFFFD")) + `"`)
	}
	key := b.String()
	s.mu.RLock()
	m := s.list[key]
	full := len(s.list) >= maxSeries
	s.mu.RUnlock()
	if m != nil {
		return m
	}
	if full && slices.ContainsFunc(values, func(v string) bool { return v != "other" }) {
		return s.with(slices.Repeat([]string{"other"}, len(values)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list[key] == nil {
		s.list[key] = s.make()
	}
	return s.list[key]
}

func (s *series[T]) write(w *bufio.Writer) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.list) == 0 {
		return
	}
	head(w, s.name, s.kind, s.help)
	keys := make([]string, 0, len(s.list))
	for k := range s.list {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		s.show(w, s.name, k, s.list[k])
	}
}

func sample(w *bufio.Writer, name, labels, value string) {
	if labels != "" {
		labels = "{" + labels + "}"
	}
	fmt.Fprintf(w, "%s%s %s\n", name, labels, value)
}

// CounterVec is a counter for each combination of labels.
type CounterVec struct{ series[Counter] }

// With gives the counter with these values of the labels, in their order.
func (c *CounterVec) With(values ...string) *Counter { return c.with(values) }

// CounterVec adds counters with labels.
func (s *Set) CounterVec(name, help string, labels ...string) *CounterVec {
	c := &CounterVec{series[Counter]{name: name, kind: "counter", help: help, labels: labels, make: func() *Counter { return new(Counter) }, list: map[string]*Counter{},
		show: func(w *bufio.Writer, name, labels string, c *Counter) {
			sample(w, name, labels, strconv.FormatUint(c.n.Load(), 10))
		}}}
	s.families = append(s.families, c)
	return c
}

// Counter adds a counter.
func (s *Set) Counter(name, help string) *Counter { return s.CounterVec(name, help).With() }

// Histogram counts values by upper bounds.
type Histogram struct {
	mu     sync.Mutex
	bounds []float64
	counts []uint64 // of each bound alone, and of what is over the last
	sum    float64
}

// Observe counts a value.
func (h *Histogram) Observe(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[i]++
	h.sum += v
}

func (h *Histogram) write(w *bufio.Writer, name, labels string) {
	h.mu.Lock()
	counts, sum := slices.Clone(h.counts), h.sum
	h.mu.Unlock()
	comma := ""
	if labels != "" {
		comma = ","
	}
	var n uint64
	for i, c := range counts {
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		n += c
		sample(w, name+"_bucket", labels+comma+`le="`+number(bound)+`"`, strconv.FormatUint(n, 10))
	}
	sample(w, name+"_sum", labels, number(sum))
	sample(w, name+"_count", labels, strconv.FormatUint(n, 10))
}

// HistogramVec is a histogram for each combination of labels.
type HistogramVec struct{ series[Histogram] }

// With gives the histogram with these values of the labels, in their order.
func (h *HistogramVec) With(values ...string) *Histogram { return h.with(values) }

// HistogramVec adds histograms with these upper bounds, rising; +Inf is added.
func (s *Set) HistogramVec(name, help string, bounds []float64, labels ...string) *HistogramVec {
	h := &HistogramVec{series[Histogram]{name: name, kind: "histogram", help: help, labels: labels, list: map[string]*Histogram{},
		make: func() *Histogram { return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)} },
		show: func(w *bufio.Writer, name, labels string, h *Histogram) { h.write(w, name, labels) }}}
	s.families = append(s.families, h)
	return h
}

// Doubling gives n bounds, the first and each twice the one before.
func Doubling(first float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = first
		first *= 2
	}
	return out
}

// Value is one that is read when the page is.
type Value struct {
	Name, Help string
	Counter    bool // it only grows; else it is a gauge
	Labels     string
	V          float64
}

type values struct{ read func() []Value }

// Values adds values that read gives, each time the page is written.
func (s *Set) Values(read func() []Value) { s.families = append(s.families, values{read}) }

func (v values) write(w *bufio.Writer) {
	for _, x := range v.read() {
		kind := "gauge"
		if x.Counter {
			kind = "counter"
		}
		head(w, x.Name, kind, x.Help)
		sample(w, x.Name, x.Labels, number(x.V))
	}
}
