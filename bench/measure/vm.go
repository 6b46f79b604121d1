//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// vmRow runs the benchmarks of bench/vmbench, once for each round: they boot
// machines and take turns themselves.
func vmRow(ctx context.Context, e *env) (report, error) {
	if _, err := os.Stat(filepath.Join(e.root, "bench", "vmbench")); err != nil {
		return report{}, fmt.Errorf("no benchmarks of virtual machines: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "VM", "-benchtime", "1x", "-count", strconv.Itoa(e.rounds), "-timeout", "1h", "-v", "./bench/vmbench")
	cmd.Stderr = e.log
	out, err := cmd.Output()
	if err != nil {
		return report{}, fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
	}
	m := benchmarkMetrics(string(out))
	if len(m["ratio"]) == 0 || len(m["in-ratio"]) == 0 {
		return report{}, fmt.Errorf("bench/vmbench measured nothing:\n%s", out)
	}
	boot := table{caption: "From QEMU's start, TCG, Debian's kernel:", head: []string{"boot", "wall, ms", "processor of QEMU, ms", "wall, ratio to empty", "processor, ratio to empty"}}
	boot.add("the kernel to an empty first process that powers off", m["empty-ms"].spread(""), m["empty-cpu-ms"].spread(""), "", "")
	boot.add("a Keep to the first output of a C hello, cold", m["hello-ms"].spread(""), m["hello-cpu-ms"].spread(""), m["ratio"].spread(""), m["cpu-ratio"].spread(""))
	port := table{caption: "100 MiB:", head: []string{"way", "link, MiB/s", "raw virtio-serial port, MiB/s", "ratio"}}
	for _, w := range []struct{ name, key string }{{"into the machine", "in"}, {"out of it", "out"}} {
		port.add(w.name, m["link-"+w.key+"-MiB/s"].spread(""), m["raw-"+w.key+"-MiB/s"].spread(""), m[w.key+"-ratio"].spread(""))
	}
	return report{tables: []table{boot, port}, bars: []bar{
		{what: "boot to the C hello's first output, ratio to an empty init", got: m["ratio"], limit: 1.3},
		{what: "memory of the machine that ran the C hello, compiled in it", got: m["machine-MiB"], unit: " MiB", limit: 160},
		{what: "link into the machine, ratio to the raw port", got: m["in-ratio"], limit: 0.7, atLeast: true},
		{what: "link out of the machine, ratio to the raw port", got: m["out-ratio"], limit: 0.7, atLeast: true},
	}}, nil
}

// benchmarkMetrics gathers what go test -bench prints, by unit.
func benchmarkMetrics(out string) map[string]series {
	m := map[string]series{}
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				m[f[i+1]] = append(m[f[i+1]], v)
			}
		}
	}
	return m
}
