//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// An exchange sends one request and reads its whole answer.
type exchange func(c net.Conn, buf []byte) error

// loaded is what one load gave: latencies in microseconds.
type loaded struct {
	elapsed   time.Duration
	latencies series
	cpu       []time.Duration // of each process of the server
}

func (l loaded) count() float64 { return float64(len(l.latencies)) }

// cpuPer is the processor time an exchange, in microseconds, of all processes.
func (l loaded) cpuPer() float64 {
	var sum time.Duration
	for _, c := range l.cpu {
		sum += c
	}
	return us(sum) / max(1, l.count())
}

func dial(ctx context.Context, s *server) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil || !s.tls {
		return c, err
	}
	// What is measured is not who the server is.
	t := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t, nil
}

// load keeps n connections busy, one exchange at a time each, for the given time
// after a tenth of it as warm-up.
func load(ctx context.Context, s *server, n int, for_ time.Duration, do exchange) (loaded, error) {
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := dial(ctx, s)
		if err != nil {
			return loaded{}, fmt.Errorf("%s: connection %d: %w", s.name, i, err)
		}
		defer c.Close()
		conns[i] = c
	}
	if _, err := drive(ctx, conns, for_/10, do); err != nil {
		return loaded{}, fmt.Errorf("%s: %w", s.name, err)
	}
	before, err := cpuTimes(s.pids)
	if err != nil {
		return loaded{}, err
	}
	start := time.Now()
	l := loaded{}
	if l.latencies, err = drive(ctx, conns, for_, do); err != nil {
		return l, fmt.Errorf("%s: %w", s.name, err)
	}
	l.elapsed = time.Since(start)
	if l.cpu, err = cpuTimes(s.pids); err != nil {
		return l, err
	}
	for i := range l.cpu {
		l.cpu[i] -= before[i]
	}
	return l, nil
}

func drive(ctx context.Context, conns []net.Conn, for_ time.Duration, do exchange) (series, error) {
	each, errs := make([]series, len(conns)), make([]error, len(conns))
	end := time.Now().Add(for_)
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			_ = c.SetDeadline(end.Add(30 * time.Second))
			buf := make([]byte, 16<<10)
			for last := time.Now(); last.Before(end) && ctx.Err() == nil; {
				if errs[i] = do(c, buf); errs[i] != nil {
					return
				}
				now := time.Now()
				each[i] = append(each[i], us(now.Sub(last)))
				last = now
			}
		})
	}
	wg.Wait()
	var all series
	for _, e := range each {
		all = append(all, e...)
	}
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("no exchange within the time")
	}
	return all, nil
}

const answer = "hello from a Keep\n"

var errAnswer = errors.New("the answer is not the one that was asked for")

// getHTTP is one request on a connection that stays open.
func getHTTP(c net.Conn, buf []byte) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: keep\r\n\r\n"); err != nil {
		return err
	}
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		n += m
		if head, body, ok := bytes.Cut(buf[:n], []byte("\r\n\r\n")); ok {
			length, ok := contentLength(head)
			if !ok || !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || length != len(answer) || len(body) > length {
				return fmt.Errorf("%w: %.200q", errAnswer, buf[:n])
			}
			if len(body) == length {
				if string(body) != answer {
					return errAnswer
				}
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
	return errAnswer
}

func contentLength(head []byte) (int, bool) {
	_, rest, ok := bytes.Cut(head, []byte("\r\nContent-Length: "))
	if !ok {
		return 0, false
	}
	digits, _, _ := bytes.Cut(rest, []byte("\r"))
	n, err := strconv.Atoi(string(digits))
	return n, err == nil
}

// echoes gives an exchange of one message of n bytes.
func echoes(n int) exchange {
	return func(c net.Conn, buf []byte) error {
		buf[0]++
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
		first := buf[0]
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			return err
		}
		if buf[0] != first {
			return errAnswer
		}
		return nil
	}
}
