package metrics

import (
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func page(t *testing.T, s *Set) string {
	t.Helper()
	var b strings.Builder
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The text is written by hand from the format's description (Prometheus, "Exposition
// formats").
func TestPage(t *testing.T) {
	var s Set
	c := s.Counter("a_total", "counts\nall \\")
	v := s.CounterVec("b_total", "by route", "route", "status")
	h := s.HistogramVec("c_seconds", "time", []float64{0.5, 1}, "route")
	s.Values(func() []Value {
		return []Value{{Name: "d", Help: "a gauge", V: math.Inf(1)}, {Name: "e_total", Help: "a counter", Counter: true, Labels: `x="y"`, V: 1.5}}
	})
	c.Add(2)
	c.Inc()
	v.With("/z", "200").Inc()
	v.With(`/a"\`+"\n\xff", "404").Add(7)
	for _, x := range []float64{0.5, 0.6, 1.5} {
		h.With("/a").Observe(x)
	}
	want := `# HELP a_total counts\nall \\
# TYPE a_total counter
a_total 3
# HELP b_total by route
# TYPE b_total counter
b_total{route="/a\"\\\n` + "\uFFFD" + `",status="404"} 7
b_total{route="/z",status="200"} 1
# HELP c_seconds time
# TYPE c_seconds histogram
c_seconds_bucket{route="/a",le="0.5"} 1
c_seconds_bucket{route="/a",le="1"} 2
c_seconds_bucket{route="/a",le="+Inf"} 3
c_seconds_sum{route="/a"} 2.6
c_seconds_count{route="/a"} 3
# HELP d a gauge
# TYPE d gauge
d +Inf
# HELP e_total a counter
# TYPE e_total counter
e_total{x="y"} 1.5
`
	if got := page(t, &s); got != want {
		t.Errorf("found\n%s\nwanted\n%s", got, want)
	}
}

// A family without a member is not there: a line of it would be no sample.
func TestEmptyFamily(t *testing.T) {
	var s Set
	s.CounterVec("a_total", "x", "y")
	if got := page(t, &s); got != "" {
		t.Errorf("found %q", got)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	var s Set
	v := s.CounterVec("a_total", "x", "y")
	const more = 50
	for i := range maxSeries + more {
		v.With(strconv.Itoa(i)).Inc()
	}
	got := page(t, &s)
	if n := strings.Count(got, "a_total{"); n != maxSeries+1 {
		t.Errorf("found %d series, wanted %d", n, maxSeries+1)
	}
	if !strings.Contains(got, `a_total{y="other"} `+strconv.Itoa(more)+"\n") {
		t.Error("what is over the bound is not counted as other")
	}
}

func TestManyGoroutines(t *testing.T) {
	var s Set
	v, h := s.CounterVec("a_total", "x", "y"), s.HistogramVec("b", "x", Doubling(1, 3), "y")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				v.With(strconv.Itoa(i % 3)).Inc()
				h.With("a").Observe(float64(i))
				_ = s.Write(new(strings.Builder))
			}
		})
	}
	wg.Wait()
	if got := page(t, &s); !strings.Contains(got, `b_count{y="a"} 800`) || !strings.Contains(got, `b_bucket{y="a",le="4"} 40`) {
		t.Errorf("found\n%s", got)
	}
}

func TestProcess(t *testing.T) {
	got := map[string]float64{}
	for _, v := range Process() {
		if _, twice := got[v.Name]; twice {
			t.Errorf("%s stands twice", v.Name)
		}
		got[v.Name] = v.V
	}
	if got["go_goroutines"] < 1 || got["go_memstats_alloc_bytes"] <= 0 {
		t.Errorf("found %v", got)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc")
	}
	if age := float64(time.Now().Unix()) - got["process_start_time_seconds"]; age < -2 || age > 3600 {
		t.Errorf("found a process that started %v seconds ago", age)
	}
	if r := got["process_resident_memory_bytes"]; r < 1<<20 || r > got["process_virtual_memory_bytes"] {
		t.Errorf("found %v resident bytes, %v virtual", r, got["process_virtual_memory_bytes"])
	}
	if n := got["process_open_fds"]; n < 3 || n > got["process_max_fds"] {
		t.Errorf("found %v open files of %v", n, got["process_max_fds"])
	}
}
