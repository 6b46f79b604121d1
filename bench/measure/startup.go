//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A program is one side of a row that runs whole programs.
type program struct {
	name    string
	command func(round int) *exec.Cmd
	want    string // what its output starts with
}

// ran is one run: time that passed, and processor time of the program and of
// those it started and waited for.
type ran struct{ wall, cpu time.Duration }

func (p program) run(ctx context.Context, round int) (ran, error) {
	if err := ctx.Err(); err != nil {
		return ran{}, err
	}
	cmd := p.command(round)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err == nil && !strings.HasPrefix(out.String(), p.want) {
		err = fmt.Errorf("found the output %.80q, wanted %q", out.String(), p.want)
	}
	if err != nil {
		return ran{}, fmt.Errorf("%s: %w: %.300s", p.name, err, errs.String())
	}
	ru := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return ran{wall, time.Duration(ru.Utime.Nano() + ru.Stime.Nano())}, nil
}

// startup measures whole programs: from fork to the parent's wait, with the
// output in between.
func startup(ctx context.Context, e *env) (report, error) {
	goHello, cHello := filepath.Join(e.root, "out", "examples", "hello", "main.wasm"), e.guest("hello.c.wasm")
	ours := func(wasm, cache string) func(int) *exec.Cmd {
		return func(round int) *exec.Cmd {
			c := exec.Command(e.bin, "run", "-q", "--tee", "sim", wasm)
			c.Env = e.environ(e.fresh(cache, round))
			return c
		}
	}
	theirs := func(wasm, cache string) func(int) *exec.Cmd {
		return func(round int) *exec.Cmd {
			return exec.Command(e.wazero, "run", "-cachedir", e.fresh(cache, round), wasm)
		}
	}
	const greeting = "hello, "
	warm := []program{
		{"Go hello, donjon", ours(goHello, e.warm()), greeting},
		{"Go hello, wazero", theirs(goHello, filepath.Join(e.out, "wazero-cache")), greeting},
		{"C hello, donjon", ours(cHello, e.warm()), greeting},
		{"C hello, wazero", theirs(cHello, filepath.Join(e.out, "wazero-cache")), greeting},
	}
	cold := []program{
		{"Go hello, donjon, cold", ours(goHello, ""), greeting},
		{"Go hello, wazero, cold", theirs(goHello, ""), greeting},
		{"C hello, donjon, cold", ours(cHello, ""), greeting},
		{"C hello, wazero, cold", theirs(cHello, ""), greeting},
	}
	wall, cpu := map[string]series{}, map[string]series{}
	for _, p := range warm {
		if _, err := p.run(ctx, -1); err != nil {
			return report{}, err
		}
	}
	var r report
	t := table{head: []string{"whole process", "runs", "wall, ms: median (least–greatest)", "processor, ms"}}
	for _, part := range []struct {
		programs []program
		runs     int
	}{{warm, e.runs}, {cold, e.rounds}} {
		for round := range part.runs {
			for _, p := range part.programs {
				got, err := p.run(ctx, round)
				if err != nil {
					return r, err
				}
				wall[p.name] = append(wall[p.name], ms(got.wall))
				cpu[p.name] = append(cpu[p.name], ms(got.cpu))
			}
		}
		for _, p := range part.programs {
			t.add(p.name, fmt.Sprint(part.runs), wall[p.name].spread(""), cpu[p.name].spread(""))
		}
	}
	r.tables = append(r.tables, t)
	r.bars = []bar{
		{what: "Go hello, warm: wall, ratio to wazero", got: wall["Go hello, donjon"].per(wall["Go hello, wazero"]), limit: 1.5},
		{what: "Go hello, warm: wall (a goal)", got: wall["Go hello, donjon"], unit: " ms", limit: 75},
		{what: "C hello, warm: wall", got: wall["C hello, donjon"], unit: " ms", limit: 25},
	}
	return r, nil
}

// fresh gives a cache folder: the named one, or for "" a new one for each round.
func (e *env) fresh(cache string, round int) string {
	if cache != "" {
		return cache
	}
	dir, err := os.MkdirTemp(e.scratch, fmt.Sprintf("cold-%d-", round))
	if err != nil {
		return filepath.Join(e.scratch, fmt.Sprintf("cold-%d", round))
	}
	return dir
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
func us(d time.Duration) float64 { return float64(d) / 1e3 }
