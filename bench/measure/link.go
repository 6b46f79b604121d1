//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
)

const bulk = 100 * mib

// linkRow moves 100 MiB: over the link and over the bare socket pair below it, in
// this process; then through whole programs, from stdin to stdout.
func linkRow(ctx context.Context, e *env) (report, error) {
	names := []string{"link, in one process", "socket pair alone, in one process"}
	rates := make([]series, 2)
	procs := runtime.GOMAXPROCS(runtime.NumCPU()) // both ends are in this process
	defer runtime.GOMAXPROCS(procs)
	for range e.rounds {
		for i, move := range []func() (time.Duration, error){overLink, overSockets} {
			d, err := move()
			if err != nil {
				return report{}, fmt.Errorf("%s: %w", names[i], err)
			}
			rates[i] = append(rates[i], bulk/mib/d.Seconds())
		}
	}
	t := table{head: []string{"100 MiB one way", "MiB/s", "ratio to the peer"}}
	t.add(names[0], rates[0].spread(""), rates[0].per(rates[1]).spread(""))
	t.add(names[1], rates[1].spread(""), "")
	u, err := throughPrograms(ctx, e)
	return report{tables: []table{t, u}}, err
}

func throughPrograms(ctx context.Context, e *env) (table, error) {
	cat := e.guest("cat.c.wasm")
	sides := []struct {
		name      string
		command   func() *exec.Cmd
		rate, cpu series
	}{
		{name: "sim Keep, C guest", command: func() *exec.Cmd {
			c := exec.Command(e.bin, "run", "-q", "--tee", "sim", cat)
			c.Env = e.environ(e.warm())
			return c
		}},
		{name: "one process, the same guest", command: func() *exec.Cmd {
			return exec.Command(e.guest("oneprocess"), "-cache", filepath.Join(e.out, "one-cache"), cat)
		}},
		{name: "native", command: func() *exec.Cmd { return exec.Command(e.guest("cat.c.native")) }},
	}
	for range e.rounds {
		for i := range sides {
			s := &sides[i]
			d, cpu, err := pour(ctx, s.command())
			if err != nil {
				return table{}, fmt.Errorf("%s: %w", s.name, err)
			}
			s.rate, s.cpu = append(s.rate, bulk/mib/d.Seconds()), append(s.cpu, ms(cpu))
		}
	}
	t := table{caption: "100 MiB from stdin to stdout, whole process:", head: []string{"side", "MiB/s", "rate, ratio to one process", "processor, ms"}}
	for _, s := range sides {
		t.add(s.name, s.rate.spread(""), s.rate.per(sides[1].rate).spread(""), s.cpu.spread(""))
	}
	return t, nil
}

// pour writes bulk bytes into a program and reads as many out of it.
func pour(ctx context.Context, cmd *exec.Cmd) (wall, cpu time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	var out counter
	var errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	go func() { _ = fill(in); _ = in.Close() }()
	if err := cmd.Wait(); err != nil {
		return 0, 0, fmt.Errorf("%w: %.300s", err, errs.String())
	}
	if out != bulk {
		return 0, 0, fmt.Errorf("found %d bytes of output, wanted %d", out, bulk)
	}
	return time.Since(begin), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func fill(w io.Writer) error {
	buf := bytes.Repeat([]byte{0xa5}, 32<<10)
	for left := bulk; left > 0; left -= len(buf) {
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func drain(r io.Reader) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(r, bulk), make([]byte, 32<<10))
	if err == nil && n != bulk {
		err = fmt.Errorf("found %d bytes, wanted %d", n, bulk)
	}
	return err
}

// transfer times fill at one end and drain at the other.
func transfer(w io.Writer, r io.Reader) (time.Duration, error) {
	begin := time.Now()
	filled := make(chan error, 1)
	go func() { filled <- fill(w) }()
	err := drain(r)
	return time.Since(begin), errors.Join(err, <-filled)
}

func overSockets() (time.Duration, error) {
	a, b, err := socketPair()
	if err != nil {
		return 0, err
	}
	defer a.Close()
	defer b.Close()
	return transfer(a, b)
}

func overLink() (time.Duration, error) {
	out, in, end, err := linkedStreams()
	if err != nil {
		return 0, err
	}
	defer end()
	return transfer(out, in)
}

// linkedStreams gives the two ends of a stream of a link of its own. end ends it.
func linkedStreams() (out, in *link.Stream, end func(), err error) {
	a, b, err := socketPair()
	if err != nil {
		return nil, nil, nil, err
	}
	greeted := make(chan *link.Session, 1)
	go func() {
		s, _ := link.Guest(a)
		greeted <- s
	}()
	host, err := link.Host(b)
	guest := <-greeted
	if err != nil || guest == nil {
		_ = a.Close()
		_ = b.Close()
		return nil, nil, nil, errors.Join(errors.New("the two ends did not greet each other"), err)
	}
	end = func() {
		_ = host.Close()
		_ = guest.Close()
	}
	if out, err = guest.Open(link.ServiceStdout, nil); err == nil {
		in, err = host.Accept()
	}
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	in.Grow(link.MaxWindow)
	return out, in, end, nil
}

func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, ferr := net.FileConn(f)
		conns[i], err = c, errors.Join(err, ferr, f.Close())
	}
	return conns[0], conns[1], err
}
