//go:build linux

// Command oneprocess runs a guest on the engine alone: one process, plain
// sockets, no sandbox, no proof. It is the yardstick of what a Keep adds
// (docs/benchmarks.md), and no way to run a workload.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
)

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "oneprocess:", err)
		os.Exit(125)
	}
	os.Exit(status)
}

func run(args []string) (int, error) {
	fs := flag.NewFlagSet("oneprocess", flag.ContinueOnError)
	cache := fs.String("cache", "", "folder of compiled code")
	listen := fs.String("listen", "", "a listener for the guest, `NAME=ADDRESS:PORT`")
	if err := fs.Parse(args); err != nil {
		return 0, err
	}
	if fs.NArg() < 1 {
		return 0, fmt.Errorf("found no module, wanted oneprocess [-cache DIR] [-listen NAME=ADDRESS:PORT] FILE [ARGS]")
	}
	module, err := os.ReadFile(fs.Arg(0))
	if err != nil {
		return 0, err
	}
	if *cache != "" {
		if err := os.MkdirAll(*cache, 0o755); err != nil {
			return 0, err
		}
	}
	program, err := engine.Compile(context.Background(), module, engine.Options{CacheDir: *cache, Workers: 2})
	if err != nil {
		return 0, err
	}
	defer program.Close()
	guest, err := guest(fs.Args(), *listen)
	if err != nil {
		return 0, err
	}
	out, err := program.Run(context.Background(), guest)
	if err == nil && out.Trap != "" {
		err = fmt.Errorf("the guest was stopped: %s", out.Trap)
	}
	return int(out.Status), err
}

// guest has the standard descriptors, as copies, since the engine closes what it
// is given; and perhaps a listener.
func guest(args []string, listen string) (engine.Guest, error) {
	g := engine.Guest{Args: args}
	for fd, kind := range []engine.FileKind{engine.Input, engine.Output, engine.Output} {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return g, fmt.Errorf("descriptor %d: %w", fd, err)
		}
		g.Files = append(g.Files, engine.File{Name: []string{"stdin", "stdout", "stderr"}[fd], Kind: kind, FD: n})
	}
	if listen == "" {
		return g, nil
	}
	name, addr, ok := strings.Cut(listen, "=")
	if !ok {
		return g, fmt.Errorf("-listen: found %q, wanted NAME=ADDRESS:PORT", listen)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return g, err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return g, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return g, fmt.Errorf("the listener's descriptor: %w", err)
	}
	g.Files = append(g.Files, engine.File{Name: name, Kind: engine.SocketListener, FD: fd})
	g.Env = []string{"FD_NAMES=stdin:stdout:stderr:" + name, "FD_COUNT=4"}
	return g, nil
}
