//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const handshakes = 200

// responsive measures how long the warden takes to answer while its guest
// computes: a TCP connection and a whole TLS 1.3 handshake, which the warden makes
// alone. The guest takes none of the connections.
func responsive(ctx context.Context, e *env) (report, error) {
	sides := []struct {
		name  string
		start func(name string) (*server, error)
		p50   series
		p99   series
		most  series
	}{
		{name: "sim Keep, guest computes", start: func(n string) (*server, error) {
			return e.startKeep(ctx, n, e.guest("busy.c.wasm"), "web", true)
		}},
		{name: "sim Keep, guest waits", start: func(n string) (*server, error) {
			return e.startKeep(ctx, n, e.guest("echo.c.wasm"), "echo", true)
		}},
		{name: "native Go, idle", start: func(n string) (*server, error) { return e.startNative(ctx, n, "echo", true) }},
	}
	for range e.rounds {
		for i := range sides {
			s := &sides[i]
			got, err := shakeHands(ctx, s.name, s.start)
			if err != nil {
				return report{}, err
			}
			s.p50 = append(s.p50, got.quantile(0.5))
			s.p99 = append(s.p99, got.quantile(0.99))
			s.most = append(s.most, got.quantile(1))
		}
	}
	t := table{caption: fmt.Sprintf("%d handshakes a round, one after the other:", handshakes), head: []string{"side", "p50, ms", "p99, ms", "longest, ms"}}
	for _, s := range sides {
		t.add(s.name, s.p50.spread(""), s.p99.spread(""), s.most.spread(""))
	}
	return report{tables: []table{t}, bars: []bar{
		{what: "TLS handshake while the guest computes, p99", got: sides[0].p99, unit: " ms", limit: 10}}}, nil
}

// shakeHands starts the side anew: connections that the guest never takes pile up.
func shakeHands(ctx context.Context, name string, start func(string) (*server, error)) (series, error) {
	s, err := start(name)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	pause(ctx, 500*time.Millisecond)
	var got series
	for range handshakes {
		begin := time.Now()
		c, err := dial(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		got = append(got, ms(time.Since(begin)))
		_ = c.Close()
	}
	return got, nil
}
