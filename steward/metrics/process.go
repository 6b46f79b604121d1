package metrics

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Process gives what is known of this process and its Go runtime, under the names
// that Prometheus' own clients use. What cannot be read is left out.
func Process() []Value {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out := []Value{
		{Name: "go_goroutines", Help: "goroutines", V: float64(runtime.NumGoroutine())},
		{Name: "go_info", Help: "the Go release that built this", Labels: `version="` + escapeLabel.Replace(runtime.Version()) + `"`, V: 1},
		{Name: "go_memstats_alloc_bytes", Help: "bytes of heap objects", V: float64(m.Alloc)},
		{Name: "go_memstats_alloc_bytes_total", Help: "bytes of heap objects ever made", Counter: true, V: float64(m.TotalAlloc)},
		{Name: "go_memstats_heap_inuse_bytes", Help: "bytes of spans in use", V: float64(m.HeapInuse)},
		{Name: "go_memstats_heap_objects", Help: "heap objects", V: float64(m.HeapObjects)},
		{Name: "go_memstats_sys_bytes", Help: "bytes had from the system", V: float64(m.Sys)},
		{Name: "go_memstats_last_gc_time_seconds", Help: "when the last collection ended, since 1970", V: float64(m.LastGC) / 1e9},
	}
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		seconds := float64(use.Utime.Sec+use.Stime.Sec) + float64(use.Utime.Usec+use.Stime.Usec)/1e6
		out = append(out, Value{Name: "process_cpu_seconds_total", Help: "processor time, user and system", Counter: true, V: seconds})
	}
	if pages, ok := statm(); ok {
		size := float64(os.Getpagesize())
		out = append(out, Value{Name: "process_virtual_memory_bytes", Help: "virtual memory", V: pages[0] * size},
			Value{Name: "process_resident_memory_bytes", Help: "resident memory", V: pages[1] * size})
	}
	if d, err := os.Open("/proc/self/fd"); err == nil {
		names, err := d.Readdirnames(-1)
		_ = d.Close()
		if err == nil {
			out = append(out, Value{Name: "process_open_fds", Help: "open file descriptors", V: float64(len(names) - 1)}) // but for d
		}
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		out = append(out, Value{Name: "process_max_fds", Help: "open file descriptors at most", V: float64(limit.Cur)})
	}
	if t, ok := started(); ok {
		out = append(out, Value{Name: "process_start_time_seconds", Help: "when it started, since 1970", V: t})
	}
	return out
}

// statm gives the first two numbers of /proc/self/statm, in pages: size and resident
// (proc(5)).
func statm() (out [2]float64, ok bool) {
	b, err := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(b))
	if err != nil || len(f) < len(out) {
		return out, false
	}
	for i := range out {
		if out[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			return out, false
		}
	}
	return out, true
}

// ticks is USER_HZ: what /proc counts time in, the same on every architecture that
// Go runs Linux on.
const ticks = 100

// started is when the process started: the boot's time (btime of /proc/stat) and the
// 22nd field of /proc/self/stat, in ticks after it (proc(5)).
func started() (float64, bool) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, false
	}
	// The second field is the program's name, which may hold spaces and brackets.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return 0, false
	}
	after, err := strconv.ParseFloat(f[19], 64)
	if err != nil {
		return 0, false
	}
	b, err = os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "btime "); ok {
			boot, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			return boot + after/ticks, err == nil
		}
	}
	return 0, false
}
