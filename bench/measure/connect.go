//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// connectRow measures donjon connect against bench/attested: a server that proves itself
// with simulated silicon and does nothing else, and a plain TLS proxy that copies as
// connect does.
func connectRow(ctx context.Context, e *env) (report, error) {
	silicon := filepath.Join(e.out, "state", "donjon", "silicon")
	ca := filepath.Join(e.scratch, "ca.pem")
	srv := &server{name: "attested server", tls: true}
	plain := &server{name: "plain TLS proxy"}
	through := &server{name: "donjon connect"}
	all := []*server{srv, plain, through}
	defer stopAll(all)
	for _, s := range all {
		var err error
		if s.addr, err = freeAddr(); err != nil {
			return report{}, err
		}
	}
	if err := srv.start(ctx, exec.Command(e.guest("attested"), "-listen", srv.addr, "-silicon", silicon, "-ca", ca, "serve"), e.environ(e.warm())); err != nil {
		return report{}, err
	}
	file, p, err := e.policyFor(ctx, srv.addr)
	if err != nil {
		return report{}, err
	}
	if err := plain.start(ctx, exec.Command(e.guest("attested"), "-listen", plain.addr, "-to", srv.addr, "proxy"), nil); err != nil {
		return report{}, err
	}
	if err := through.start(ctx, exec.Command(e.bin, "connect", "-q", srv.addr, "--policy", file, "--listen", through.addr), e.environ(e.warm())); err != nil {
		return report{}, err
	}
	r, err := setUp(ctx, e, srv.addr, ca, p)
	if err != nil {
		return report{}, err
	}
	t, bars, err := bulkThrough(ctx, e, []*server{through, plain})
	if err != nil {
		return report{}, err
	}
	u, rest, err := idleConnect(ctx, e, srv.addr, file)
	r.tables, r.bars = append(r.tables, t, u), append(append(r.bars, bars...), rest)
	return r, err
}

// policyFor has donjon write a policy for a Keep.
func (e *env) policyFor(ctx context.Context, addr string) (file string, p *policy.Policy, err error) {
	c := exec.CommandContext(ctx, e.bin, "policy", "init", "-q", "--from-keep", addr)
	c.Env = e.environ(e.warm())
	text, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %.500s", err, exit.Stderr)
	}
	if err != nil {
		return "", nil, fmt.Errorf("policy init: %w", err)
	}
	file = filepath.Join(e.scratch, "keep.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", nil, err
	}
	p, err = policy.Parse(text)
	return file, p, err
}

// setUp makes one connection after the other, plain and attested. The server says how long
// its reports took, and the verifications are timed here. A plain client verifies the
// server's certificate, as clients do; one that does not stands beside it.
func setUp(ctx context.Context, e *env, far, ca string, p *policy.Policy) (report, error) {
	trusted, err := os.ReadFile(ca)
	if err != nil {
		return report{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(trusted) {
		return report{}, fmt.Errorf("%s: no certificate", ca)
	}
	var v attest.Verifier
	var judging time.Duration
	var size int // of the evidence
	d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
	d.Config.Judge = func(_ context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
		begin := time.Now()
		out := v.Verify(p.Evidence, o)
		judging += time.Since(begin)
		size = len(p.Evidence)
		return out, nil
	}
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	nobody := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	dials := []func() (net.Conn, error){
		func() (net.Conn, error) { return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", far) },
		func() (net.Conn, error) { return exchanged(ctx, cfg, far, size) },
		func() (net.Conn, error) { return d.DialContext(ctx, "tcp", far) },
		func() (net.Conn, error) { return (&tls.Dialer{Config: nobody}).DialContext(ctx, "tcp", far) },
	}
	c, err := dials[2]() // fills what is remembered, and size
	if err != nil {
		return report{}, err
	}
	_ = c.Close()
	// The server says how long it took for its reports.
	reports := func() (n int, total time.Duration, err error) {
		c, err := dials[0]()
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		if _, err := c.Write([]byte{'r'}); err != nil {
			return 0, 0, err
		}
		var b [16]byte
		_, err = io.ReadFull(c, b[:])
		return int(binary.BigEndian.Uint64(b[:])), time.Duration(binary.BigEndian.Uint64(b[8:])), err
	}
	var times [4]series
	var report1, verify series
	for range e.rounds {
		for i, dial := range dials {
			n0, r0, err := reports()
			if err != nil {
				return report{}, err
			}
			judging = 0
			count, begin := 0, time.Now()
			for time.Since(begin) < e.time && ctx.Err() == nil {
				c, err := dial()
				if err != nil {
					return report{}, err
				}
				// Its end is seen by the server before the next begins.
				_, _ = c.Write([]byte{'i'})
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					return report{}, err
				}
				_ = c.Close()
				count++
			}
			times[i] = append(times[i], us(time.Since(begin))/float64(count))
			if i != 2 {
				continue
			}
			n1, r1, err := reports()
			if err != nil {
				return report{}, err
			}
			if n1-n0 != count {
				return report{}, fmt.Errorf("the server made %d reports for %d connections", n1-n0, count)
			}
			report1 = append(report1, us(r1-r0)/float64(count))
			verify = append(verify, us(judging)/float64(count))
		}
	}
	var bare, parts series // without the exchange that carries the evidence, and with it
	for i := range times[0] {
		bare = append(bare, times[0][i]+report1[i]+verify[i])
		parts = append(parts, times[1][i]+report1[i]+verify[i])
	}
	t := table{caption: "One connection after the other, from connect to the server's first byte; P-256 keys:", head: []string{"what", "µs"}}
	t.add("plain TLS 1.3, the certificate verified", times[0].spread(""))
	t.add("plain TLS 1.3, nobody verified", times[3].spread(""))
	t.add("plain TLS 1.3, the certificate verified, and an exchange of as many bytes as an attestation has", times[1].spread(""))
	t.add("attested", times[2].spread(""))
	t.add("of that one report of simulated silicon", report1.spread(""))
	t.add("of that one verification, chain remembered", verify.spread(""))
	return report{tables: []table{t}, bars: []bar{
		{what: "attested set-up, ratio to plain TLS 1.3 plus one report and one verification", got: times[2].per(bare), limit: 1},
		{what: "attested set-up, ratio to plain TLS 1.3 with that exchange plus one report and one verification", got: times[2].per(parts), limit: 1.1},
	}}, nil
}

// exchanged is a plain TLS connection over which as many bytes went as an attestation
// has: a request of 46 bytes, the evidence, 6 bytes that accept it.
func exchanged(ctx context.Context, cfg *tls.Config, addr string, evidence int) (net.Conn, error) {
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	q := make([]byte, 46)
	q[0] = 'e'
	binary.BigEndian.PutUint64(q[1:], uint64(evidence))
	if _, err = c.Write(q); err == nil {
		if _, err = io.CopyN(io.Discard, c, int64(evidence)); err == nil {
			_, err = c.Write(make([]byte, 6))
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// bulkThrough moves bulk bytes each way through each side in turn.
func bulkThrough(ctx context.Context, e *env, sides []*server) (table, []bar, error) {
	procs := runtime.GOMAXPROCS(runtime.NumCPU())
	defer runtime.GOMAXPROCS(procs)
	rates, cpus := make([][2]series, len(sides)), make([][2]series, len(sides))
	for range e.rounds {
		for i, s := range sides {
			for way, move := range []func(string) (time.Duration, error){download, upload} {
				if err := ctx.Err(); err != nil {
					return table{}, nil, err
				}
				before, err := cpuTime(s.pids[0])
				if err != nil {
					return table{}, nil, err
				}
				d, err := move(s.addr)
				if err != nil {
					return table{}, nil, fmt.Errorf("%s: %w", s.name, err)
				}
				after, err := cpuTime(s.pids[0])
				if err != nil {
					return table{}, nil, err
				}
				rates[i][way] = append(rates[i][way], connectBulk/mib/d.Seconds())
				cpus[i][way] = append(cpus[i][way], ms(after-before))
			}
		}
	}
	t := table{caption: fmt.Sprintf("%d MiB through the local end:", connectBulk/mib), head: []string{"side", "MiB/s from the Keep", "its processor time, ms", "MiB/s to the Keep", "its processor time, ms"}}
	for i, s := range sides {
		t.add(s.name, rates[i][0].spread(""), cpus[i][0].spread(""), rates[i][1].spread(""), cpus[i][1].spread(""))
	}
	return t, []bar{
		{what: "bulk from the Keep: rate, ratio to the plain TLS proxy", got: rates[0][0].per(rates[1][0]), limit: 0.9, atLeast: true},
		{what: "bulk to the Keep: rate, ratio to the plain TLS proxy", got: rates[0][1].per(rates[1][1]), limit: 0.9, atLeast: true},
	}, nil
}

const connectBulk = 512 * mib

func bulkRequest(kind byte) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, connectBulk)
}

func download(addr string) (time.Duration, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin := time.Now()
	if _, err := c.Write(bulkRequest('d')); err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
	if err == nil && n != connectBulk {
		err = fmt.Errorf("found %d bytes, wanted %d", n, int64(connectBulk))
	}
	return time.Since(begin), err
}

func upload(addr string) (time.Duration, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin := time.Now()
	if _, err := c.Write(bulkRequest('u')); err != nil {
		return 0, err
	}
	b := bytes.Repeat([]byte{0xa5}, 256<<10)
	for left := connectBulk; left > 0; left -= len(b) {
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
	}
	_, err = io.ReadFull(c, b[:1])
	return time.Since(begin), err
}

// idleConnect holds a thousand connections through a connect of its own that have each
// had an answer, and measures its memory at the greatest and 5 s later.
func idleConnect(ctx context.Context, e *env, srv, policy string) (table, bar, error) {
	const conns = 1000
	var before, peak, rest series
	for range max(1, e.rounds/2) {
		s := &server{name: "donjon connect"}
		var err error
		if s.addr, err = freeAddr(); err != nil {
			return table{}, bar{}, err
		}
		if err := s.start(ctx, exec.Command(e.bin, "connect", "-q", srv, "--policy", policy, "--listen", s.addr), e.environ(e.warm())); err != nil {
			return table{}, bar{}, err
		}
		defer s.stop()
		first, _, err := memoryOf(s.pids[0])
		if err != nil {
			return table{}, bar{}, err
		}
		all := make([]net.Conn, 0, conns)
		for range conns {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				return table{}, bar{}, err
			}
			defer c.Close()
			if _, err := c.Write([]byte{'i'}); err != nil {
				return table{}, bar{}, err
			}
			all = append(all, c)
		}
		for _, c := range all {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				return table{}, bar{}, err
			}
		}
		pause(ctx, 5*time.Second)
		now, greatest, err := memoryOf(s.pids[0])
		if err != nil {
			return table{}, bar{}, err
		}
		before, peak, rest = append(before, float64(first)/mib), append(peak, float64(greatest)/mib), append(rest, float64(now)/mib)
		for _, c := range all {
			_ = c.Close()
		}
		s.stop()
	}
	t := table{caption: "1,000 attested connections that have had an answer and are idle:", head: []string{"donjon connect", "resident, MiB"}}
	t.add("before", before.spread(""))
	t.add("greatest, while they are made", peak.spread(""))
	t.add("5 s later", rest.spread(""))
	return t, bar{what: "1,000 idle connections: resident memory of connect", got: rest, unit: " MiB", limit: 64}, nil
}
