//go:build linux

package main

import (
	"context"
	"fmt"
)

func echo(ctx context.Context, e *env) (report, error) {
	wasm := e.guest("echo.c.wasm")
	var servers []*server
	defer func() { stopAll(servers) }()
	for _, start := range []func() (*server, error){
		func() (*server, error) { return e.startKeep(ctx, "sim Keep, TLS 1.3", wasm, "echo", true) },
		func() (*server, error) { return e.startNative(ctx, "native Go, TLS 1.3", "echo", true) },
		func() (*server, error) { return e.startKeep(ctx, "sim Keep, plain", wasm, "echo", false) },
		func() (*server, error) { return e.startOne(ctx, "one process, plain", wasm, "echo") },
		func() (*server, error) { return e.startNative(ctx, "native Go, plain", "echo", false) },
	} {
		s, err := start()
		if err != nil {
			return report{}, err
		}
		servers = append(servers, s)
	}
	const secure, nativeTLS, nativePlain = 0, 1, 4
	var r report
	for _, size := range []int{64, 1024} {
		sides, err := takeTurns(ctx, e, servers, 64, echoes(size))
		if err != nil {
			return r, err
		}
		t := table{caption: fmt.Sprintf("64 connections, messages of %d bytes:", size),
			head: []string{"side", "processor, µs a message", "of these donjon + warden + exec child", "ratio to native", "messages/s"}}
		for _, s := range sides {
			native := sides[nativePlain]
			if s.tls {
				native = sides[nativeTLS]
			}
			t.add(s.name, s.cpu.spread(""), s.parts(), s.cpu.per(native.cpu).spread(""), s.rate.spread(""))
		}
		r.tables = append(r.tables, t)
		r.bars = append(r.bars, bar{what: fmt.Sprintf("64 connections, TLS, %d bytes: processor a message, ratio to native", size),
			got: sides[secure].cpu.per(sides[nativeTLS].cpu), limit: 3.5})
	}
	return r, nil
}
