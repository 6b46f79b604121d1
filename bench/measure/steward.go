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

// stewardRow measures enrolment: benchmarks of the Steward's own tests, in rounds.
// Every decision is on disk before it is answered.
func stewardRow(ctx context.Context, e *env) (report, error) {
	type run struct{ pkg, bench, times, what string }
	runs := []run{
		{"server", "EnrolService", "2000x", "enrolments, 64 at once, SQLite; the Keeps' part done before"},
		{"server", "EnrolHalfLoad", "1000x", "250 enrolments a second offered"},
		{"server", "Enrol", "500x", "whole enrolments over TLS, the Keeps' part in the same process"},
		{"server", "Appraisal/steward", "1000x", "appraisal, the Steward's"},
		{"server", "Appraisal/library", "1000x", "appraisal, the library alone"},
		{"e2e", "Enrolments/sqlite", "2000x", "enrolments over TLS, one process, SQLite; the Keeps' part done before"},
		{"e2e", "Enrolments/postgresql-two-replicas", "2000x", "enrolments over TLS, two processes on one PostgreSQL"},
		{"store", "Decide/sqlite", "5000x", "decisions, SQLite"},
		{"store", "Decide/postgresql", "5000x", "decisions, PostgreSQL"},
		{"store", "Decide/postgresql-two-replicas", "5000x", "decisions, PostgreSQL, two replicas"},
	}
	for p, folder := range stewardTests {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", e.guest("steward-"+p+".test"), "./"+folder)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return report{}, fmt.Errorf("%s: %w\n%s", p, err, out)
		}
	}
	got := map[string]map[string]series{}
	for range e.rounds {
		for _, r := range runs {
			m, err := e.metrics(ctx, r.pkg, r.bench, r.times)
			if err != nil {
				return report{}, err
			}
			if got[r.bench] == nil {
				got[r.bench] = map[string]series{}
			}
			for k, v := range m {
				got[r.bench][k] = append(got[r.bench][k], v)
			}
		}
	}
	t := table{head: []string{"what", "a second", "p99, ms", "processor, µs each", "database, bytes each", "heap, bytes each"}}
	for _, r := range runs {
		m := got[r.bench]
		rate, cpu := m["enrolments/s"], m["cpu-µs/op"]
		if rate == nil {
			rate = m["decisions/s"]
		}
		if rate == nil {
			for _, ns := range m["ns/op"] {
				rate = append(rate, 1e9/ns)
			}
		}
		for _, v := range m["cpu-ms/decision"] {
			cpu = append(cpu, 1000*v)
		}
		t.add(r.what, rate.spread(""), m["p99-ms"].spread(""), cpu.spread(""), m["disk-B/decision"].spread(""), m["heap-B/decision"].spread(""))
	}
	r := report{tables: []table{t}}
	r.bars = []bar{
		{what: "enrolments a second, SQLite", got: got["EnrolService"]["enrolments/s"], limit: 500, atLeast: true},
		{what: "250 a second: p99", got: got["EnrolHalfLoad"]["p99-ms"], unit: " ms", limit: 100},
		{what: "appraisal: rate, ratio to the library's", got: got["Appraisal/library"]["cpu-µs/op"].per(got["Appraisal/steward"]["cpu-µs/op"]), limit: 0.8, atLeast: true},
		{what: "PostgreSQL, two replicas: enrolments, ratio to SQLite", got: got["Enrolments/postgresql-two-replicas"]["enrolments/s"].per(got["Enrolments/sqlite"]["enrolments/s"]), limit: 0.8, atLeast: true},
		{what: "PostgreSQL, two replicas: decisions, ratio to SQLite", got: got["Decide/postgresql-two-replicas"]["decisions/s"].per(got["Decide/sqlite"]["decisions/s"]), limit: 0.8, atLeast: true},
	}
	return r, nil
}

// stewardTests are the folders of the benchmarks, by their short names.
var stewardTests = map[string]string{"server": "steward/server", "store": "steward/store", "e2e": "e2e"}

// metrics runs one benchmark once and gives each of its figures by unit.
func (e *env) metrics(ctx context.Context, pkg, bench, times string) (map[string]float64, error) {
	parts := strings.Split(bench, "/")
	for i := range parts {
		parts[i] = "^" + parts[i] + "$"
	}
	parts[0] = "^Benchmark" + strings.TrimPrefix(parts[0], "^")
	cmd := exec.CommandContext(ctx, e.guest("steward-"+pkg+".test"), "-test.run", "xxx", "-test.bench", strings.Join(parts, "/"), "-test.benchtime", times)
	cmd.Dir = filepath.Join(e.root, stewardTests[pkg])
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%.500s", bench, err, out)
	}
	for l := range strings.Lines(string(out)) {
		f := strings.Fields(l)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		m := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", bench, l, err)
			}
			m[f[i+1]] = v
		}
		return m, nil
	}
	return nil, fmt.Errorf("%s: no figure in %.300q", bench, out)
}
