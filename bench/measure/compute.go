//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A job is a guest with a scale that takes about half a second in WebAssembly.
type job struct {
	name, language string
	n              int
}

func jobs() []job {
	return []job{
		{"sha256", "c", 2}, {"sha256", "go", 1},
		{"sort", "c", 1}, {"sort", "go", 3},
		{"nbody", "c", 30}, {"nbody", "go", 10},
		{"deflate", "c", 2}, {"deflate", "go", 1},
		{"json", "go", 1},
	}
}

// An engine runs a guest; the first is ours.
type engine struct {
	name    string
	command func(job) *exec.Cmd
}

func engines(e *env) []engine {
	wasm := func(j job) string { return e.guest(j.name + "." + j.language + ".wasm") }
	all := []engine{
		{"sim Keep", func(j job) *exec.Cmd {
			c := exec.Command(e.bin, "run", "-q", "--tee", "sim", wasm(j), "--", strconv.Itoa(j.n))
			c.Env = e.environ(e.warm())
			return c
		}},
		{"wazero", func(j job) *exec.Cmd {
			return exec.Command(e.wazero, "run", "-cachedir", filepath.Join(e.out, "wazero-cache"), wasm(j), strconv.Itoa(j.n))
		}},
		{"native", func(j job) *exec.Cmd {
			return exec.Command(e.guest(j.name+"."+j.language+".native"), strconv.Itoa(j.n))
		}},
	}
	node, err := exec.LookPath("node")
	if err != nil {
		e.say("no node on this machine: its WASI is left out")
		return all
	}
	return append(all, engine{"node", func(j job) *exec.Cmd {
		return exec.Command(node, "--no-warnings", filepath.Join(e.root, "bench", "measure", "node.mjs"), wasm(j), strconv.Itoa(j.n))
	}})
}

// elapsed runs a guest and gives what it says that its computing took, the
// processor time of all of it with its start-up, and the result.
func (g engine) elapsed(j job) (took, cpu time.Duration, result string, err error) {
	cmd := g.command(j)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return 0, 0, "", fmt.Errorf("%s of %s on %s: %w: %.300s", j.name, j.language, g.name, err, errs.String())
	}
	_, rest, ok := strings.Cut(errs.String(), "elapsed_ns ")
	line, _, _ := strings.Cut(rest, "\n")
	ns, err := strconv.ParseInt(line, 10, 64)
	if !ok || err != nil || ns <= 0 {
		return 0, 0, "", fmt.Errorf("%s of %s on %s: found %.300q, wanted elapsed_ns and a number", j.name, j.language, g.name, errs.String())
	}
	return time.Duration(ns), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), out.String(), nil
}

func compute(ctx context.Context, e *env) (report, error) {
	all := engines(e)
	t := table{head: []string{"guest", "n"}}
	for _, g := range all {
		t.head = append(t.head, g.name+", ms")
	}
	for _, g := range all[1:] {
		t.head = append(t.head, "throughput, ratio to "+g.name)
	}
	t.head = append(t.head, "processor, ratio to wazero")
	var worst series
	var worstName string
	for _, j := range jobs() {
		times, cpu, err := j.measure(ctx, e, all)
		if err != nil {
			return report{}, err
		}
		cells := []string{j.name + ", " + map[string]string{"c": "C", "go": "Go"}[j.language], strconv.Itoa(j.n)}
		for _, s := range times {
			cells = append(cells, s.spread(""))
		}
		for _, s := range times[1:] {
			cells = append(cells, s.per(times[0]).spread(""))
		}
		cells = append(cells, cpu[0].per(cpu[1]).spread(""))
		t.add(cells...)
		if r := times[1].per(times[0]); worst == nil || r.median() < worst.median() {
			worst, worstName = r, cells[0]
		}
	}
	return report{tables: []table{t}, bars: []bar{
		{what: "throughput, ratio to wazero, the worst guest (" + worstName + ")", got: worst, limit: 0.95, atLeast: true}}}, nil
}

// measure gives two series for each engine. Rounds run forth and back, and one
// more before them fills the caches.
func (j job) measure(ctx context.Context, e *env, all []engine) (times, cpu []series, err error) {
	times, cpu = make([]series, len(all)), make([]series, len(all))
	results := map[string]string{}
	for round := range e.rounds + 1 {
		order := make([]int, len(all))
		for i := range order {
			order[i] = i
		}
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, i := range order {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			d, c, result, err := all[i].elapsed(j)
			if err != nil {
				return nil, nil, err
			}
			results[result] = all[i].name
			if round > 0 {
				times[i], cpu[i] = append(times[i], ms(d)), append(cpu[i], ms(c))
			}
		}
	}
	if len(results) != 1 {
		return nil, nil, fmt.Errorf("%s of %s: the engines disagree: found %v", j.name, j.language, results)
	}
	return times, cpu, nil
}
