//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// A side gathers what the rounds gave of one server.
type side struct {
	*server
	cpu, rate, mean, p50, p99 series
	part                      []series // processor time an exchange of each process
}

func (s *side) add(l loaded) {
	s.cpu = append(s.cpu, l.cpuPer())
	s.rate = append(s.rate, l.count()/l.elapsed.Seconds())
	s.mean = append(s.mean, l.latencies.mean())
	s.p50 = append(s.p50, l.latencies.quantile(0.5))
	s.p99 = append(s.p99, l.latencies.quantile(0.99))
	for i, c := range l.cpu {
		if len(s.part) <= i {
			s.part = append(s.part, nil)
		}
		s.part[i] = append(s.part[i], us(c)/l.count())
	}
}

// parts names the processor time of a Keep's three processes.
func (s *side) parts() string {
	if len(s.part) != 3 {
		return ""
	}
	return fmt.Sprintf("%s + %s + %s", digits(s.part[0].median()), digits(s.part[1].median()), digits(s.part[2].median()))
}

// takeTurns puts the same load on each server, round by round.
func takeTurns(ctx context.Context, e *env, servers []*server, conns int, do exchange) ([]*side, error) {
	sides := make([]*side, len(servers))
	for i, s := range servers {
		sides[i] = &side{server: s}
	}
	for range e.rounds {
		for _, s := range sides {
			l, err := load(ctx, s.server, conns, e.time, do)
			if err != nil {
				return nil, err
			}
			s.add(l)
		}
	}
	return sides, nil
}

// httpServers are the sides of the row, in this order.
func httpServers(ctx context.Context, e *env) ([]*server, error) {
	wasm := e.guest("http.go.wasm")
	var all []*server
	for _, start := range []func() (*server, error){
		func() (*server, error) { return e.startKeep(ctx, "sim Keep, plain", wasm, "web", false) },
		func() (*server, error) { return e.startKeep(ctx, "sim Keep, TLS 1.3", wasm, "web", true) },
		func() (*server, error) { return e.startOne(ctx, "one process, plain", wasm, "web") },
		func() (*server, error) { return e.startNative(ctx, "native Go, plain", "http", false) },
		func() (*server, error) { return e.startNative(ctx, "native Go, TLS 1.3", "http", true) },
	} {
		s, err := start()
		if err != nil {
			stopAll(all)
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func httpRow(ctx context.Context, e *env) (report, error) {
	servers, err := httpServers(ctx, e)
	if err != nil {
		return report{}, err
	}
	defer stopAll(servers)
	const plain, secure, one = 0, 1, 2
	busy, err := takeTurns(ctx, e, servers, 16, getHTTP)
	if err != nil {
		return report{}, err
	}
	single, err := takeTurns(ctx, e, servers, 1, getHTTP)
	if err != nil {
		return report{}, err
	}
	idle, err := idleCPU(ctx, e, servers[:3])
	if err != nil {
		return report{}, err
	}
	t := table{caption: "16 connections:", head: []string{"side", "processor, µs a request", "of these donjon + warden + exec child", "ratio to one process", "requests/s"}}
	for _, s := range busy {
		t.add(s.name, s.cpu.spread(""), s.parts(), s.cpu.per(busy[one].cpu).spread(""), s.rate.spread(""))
	}
	u := table{caption: "1 connection:", head: []string{"side", "latency, µs: mean", "p50", "p99", "mean, ratio to one process", "processor, µs a request"}}
	for _, s := range single {
		u.add(s.name, s.mean.spread(""), s.p50.spread(""), s.p99.spread(""), s.mean.per(single[one].mean).spread(""), s.cpu.spread(""))
	}
	v := table{caption: "16 connections open, no request:", head: []string{"side", "processor over 5 s, %"}}
	for i, s := range servers[:3] {
		v.add(s.name, idle[i].spread(""))
	}
	return report{tables: []table{t, u, v}, bars: []bar{
		{what: "16 connections, plain: processor a request, ratio to one process", got: busy[plain].cpu.per(busy[one].cpu), limit: 1.5},
		{what: "16 connections, TLS: processor a request, ratio to one process with plain sockets", got: busy[secure].cpu.per(busy[one].cpu), limit: 1.5},
		{what: "16 connections: processor a request, TLS to plain", got: busy[secure].cpu.per(busy[plain].cpu), limit: 1.2},
		{what: "1 connection, plain: mean latency, ratio to one process", got: single[plain].mean.per(single[one].mean), limit: 1.5},
		{what: "1 connection, TLS: mean latency, ratio to one process with plain sockets", got: single[secure].mean.per(single[one].mean), limit: 1.5},
		{what: "1 connection, plain: mean latency (a goal)", got: single[plain].mean, unit: " µs", limit: 300},
		// Zero is what shows as 0.0 %.
		{what: "idle, plain: processor", got: idle[plain], unit: " %", limit: 0.05},
		{what: "idle, TLS: processor", got: idle[secure], unit: " %", limit: 0.05},
	}}, nil
}

// idleCPU holds 16 connections that have each had an answer, and measures what
// the servers use in the 5 s in which nothing is asked.
func idleCPU(ctx context.Context, e *env, servers []*server) ([]series, error) {
	out := make([]series, len(servers))
	for _, s := range servers {
		for range 16 {
			c, err := dial(ctx, s)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			if err := getHTTP(c, make([]byte, 16<<10)); err != nil {
				return nil, err
			}
		}
	}
	const window = 5 * time.Second
	pause(ctx, 2*time.Second)
	for range max(1, e.rounds/2) {
		var before []time.Duration
		for _, s := range servers {
			b, err := cpuTimes(s.pids)
			if err != nil {
				return nil, err
			}
			before = append(before, b...)
		}
		pause(ctx, window)
		n := 0
		for i, s := range servers {
			after, err := cpuTimes(s.pids)
			if err != nil {
				return nil, err
			}
			var used time.Duration
			for _, a := range after {
				used += a - before[n]
				n++
			}
			out[i] = append(out[i], 100*used.Seconds()/window.Seconds())
		}
	}
	return out, ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
