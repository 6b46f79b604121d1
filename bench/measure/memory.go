//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const mib = 1 << 20

// memory measures the proportional set size of all processes of a side.
func memory(ctx context.Context, e *env) (report, error) {
	keepOf := func(cache, wasm string, args ...string) *exec.Cmd {
		c := exec.Command(e.bin, append([]string{"run", "-q", "--tee", "sim", wasm, "--"}, args...)...)
		c.Env = e.environ(cache)
		return c
	}
	one := func(wasm string, args ...string) *exec.Cmd {
		return exec.Command(e.guest("oneprocess"), append([]string{"-cache", filepath.Join(e.out, "one-cache"), wasm}, args...)...)
	}
	hello, grow := e.guest("hello.c.wasm"), e.guest("grow.c.wasm")
	sides := []struct {
		name, says string
		command    func() *exec.Cmd
		peak, last series
		parts      []series
	}{
		{name: "C hello that waits, sim Keep", says: "hello", command: func() *exec.Cmd { return keepOf(e.warm(), hello, "wait") }},
		{name: "C hello that waits, sim Keep, cold cache", says: "hello", command: func() *exec.Cmd { return keepOf(e.fresh("", 0), hello, "wait") }},
		{name: "C hello that waits, one process", says: "hello", command: func() *exec.Cmd { return one(hello, "wait") }},
		{name: "600 MB grown, sim Keep", says: "grown", command: func() *exec.Cmd { return keepOf(e.warm(), grow) }},
		{name: "600 MB grown, one process", says: "grown", command: func() *exec.Cmd { return one(grow) }},
	}
	for range e.rounds {
		for i := range sides {
			s := &sides[i]
			peak, last, err := watchMemory(ctx, s.command(), s.says)
			if err != nil {
				return report{}, fmt.Errorf("%s: %w", s.name, err)
			}
			s.peak, s.last = append(s.peak, float64(peak)/mib), append(s.last, sum(last)/mib)
			for k, v := range last {
				if len(s.parts) <= k {
					s.parts = append(s.parts, nil)
				}
				s.parts[k] = append(s.parts[k], float64(v)/mib)
			}
		}
	}
	t := table{head: []string{"side", "PSS at rest, MiB", "of these donjon + warden + exec child", "greatest PSS seen, MiB"}}
	for _, s := range sides {
		var parts []string
		if len(s.parts) == 3 {
			for _, p := range s.parts {
				parts = append(parts, digits(p.median()))
			}
		}
		t.add(s.name, s.last.spread(""), strings.Join(parts, " + "), s.peak.spread(""))
	}
	return report{tables: []table{t}, bars: []bar{
		{what: "sim Keep running the C hello: sum of PSS", got: sides[0].last, unit: " MiB", limit: 64},
		{what: "600 MB of guest memory: greatest sum of PSS", got: sides[3].peak, unit: " MiB", limit: 700},
	}}, nil
}

func sum(v []int64) float64 {
	var s int64
	for _, x := range v {
		s += x
	}
	return float64(s)
}

// watchMemory runs a program that says a word and then waits for the end of its
// input. It samples the sum of PSS from the start until 1 s after the word.
func watchMemory(ctx context.Context, cmd *exec.Cmd, says string) (peak int64, last []int64, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, nil, err
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	t := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer t.Stop()
	said := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, says) {
			err = fmt.Errorf("found %.80q, wanted %q", line, says)
		}
		said <- err
	}()
	var until <-chan time.Time
	for done := false; !done && err == nil; {
		last = last[:0]
		for _, p := range tree(cmd.Process.Pid) {
			if n, e := pss(p); e == nil { // it may have just ended, or not yet begun
				last = append(last, n)
			}
		}
		peak = max(peak, int64(sum(last)))
		select {
		case err = <-said:
			until = time.After(time.Second)
			said = nil
		case <-until:
			done = true
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = in.Close()
	_, _ = io.Copy(io.Discard, out)
	if werr := cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("%w: %.300s", werr, errs.String()))
	}
	return peak, last, err
}
