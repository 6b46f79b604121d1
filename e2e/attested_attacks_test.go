//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Attacks on attested connections to Keeps that run, staged by whoever carries the
// connections: each is refused with the code that says what it is, by the library and by
// donjon connect. Those that need a Keep that lies are in attest/atls.

// policyFor writes a policy for the Keep at an address, as its owner would.
func (l *lab) policyFor(t *testing.T, address string) (file string, d atls.Dialer) {
	t.Helper()
	root := filepath.Join(l.dir, "root.der")
	if err := os.WriteFile(root, l.sil.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(l.dir, "donjon"), "policy", "init", "--trust-root", root, "--from-keep", address)
	var errs bytes.Buffer
	c.Stderr = &errs
	text, err := c.Output()
	if err != nil {
		t.Fatalf("policy init: %v\n%s", err, errs.String())
	}
	file = filepath.Join(t.TempDir(), "keep.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return file, atls.Dialer{Config: atls.Config{Verifier: new(attest.Verifier), Options: attest.Options{Policy: p}}}
}

// A middle stands between a client and to.
type middle struct {
	address string
	mu      sync.Mutex
	from    bytes.Buffer // what the client said, where the middle can read it
	keep    bytes.Buffer // what the Keep said
}

// stand gives a middle that does what carry does with each connection.
func stand(t *testing.T, carry func(m *middle, c net.Conn)) *middle {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	m := &middle{address: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); carry(m, c) }()
		}
	}()
	return m
}

// both copies each way, and keeps a copy.
func (m *middle) both(client, keep net.Conn) {
	copies := func(to io.Writer, from io.Reader, seen *bytes.Buffer) {
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			m.mu.Lock()
			seen.Write(b[:n])
			m.mu.Unlock()
			if _, werr := to.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go func() { copies(keep, client, &m.from); _ = keep.Close() }()
	copies(client, keep, &m.keep)
}

// seen is what the client said.
func (m *middle) seen() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.from.Bytes())
}

// codes of the checks that failed.
func codes(err error) string {
	var v *verdict.Error
	if !errors.As(err, &v) {
		return ""
	}
	out := []string{string(v.Verdict.Outcome)}
	for _, c := range v.Verdict.Checks {
		if c.Status == verdict.Failed {
			out = append(out, string(c.Code))
		}
	}
	return strings.Join(out, " ")
}

func TestAttestedAttacks(t *testing.T) {
	l := newLab(t, "relay")
	w := l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls")})
	keep := l.run(t, w, nil)
	addr := keep.address(t)
	other := l.run(t, l.workload(t, "relay", map[string]string{"Donjon.toml": "env = {A = \"another workload\"}\n" + streams + webEntry("tls")}), nil).address(t)
	twin := l.run(t, w, nil).address(t)
	file, d := l.policyFor(t, addr)

	stranger := newAuthority(t).issue(t, "localhost", time.Now().Add(time.Hour))
	pass := func(to string) *middle {
		return stand(t, func(m *middle, c net.Conn) {
			if k, err := net.Dial("tcp", to); err == nil {
				m.both(c, k)
			}
		})
	}
	// ends TLS itself, with the ALPN that it likes, and carries what is in it to the Keep.
	ends := func(alpn ...string) *middle {
		return stand(t, func(m *middle, c net.Conn) {
			front := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{stranger}, NextProtos: alpn})
			back, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: alpn})
			if err == nil && front.Handshake() == nil {
				m.both(front, back)
			}
		})
	}
	relay := ends(atls.Protocol)
	edited := func(old, new string) *middle {
		return stand(t, func(m *middle, c net.Conn) {
			b := make([]byte, 16<<10)
			n, _ := io.ReadAtLeast(c, b, 6)
			if k, err := net.Dial("tcp", addr); err == nil {
				_, _ = k.Write(bytes.Replace(b[:n], []byte(old), []byte(new), 1))
				m.both(c, k)
			}
		})
	}
	last := stand(t, func(m *middle, c net.Conn) { // what a Keep that has ended has said, once more
		conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{stranger}, NextProtos: []string{atls.Protocol}})
		if conn.Handshake() != nil {
			return
		}
		relay.mu.Lock()
		said := bytes.Clone(relay.keep.Bytes())
		relay.mu.Unlock()
		_, _ = conn.Write(said)
		_, _ = io.Copy(io.Discard, conn)
	})
	for _, x := range []struct {
		name, at, want string
		status         int
	}{
		{"control", addr, "", 0},
		{"control: somebody carries it", pass(addr).address, "", 0},
		{"the same workload in another instance", twin, "", 0},
		{"diversion to a Keep with another workload", pass(other).address, "refused workload", 11},
		{"relay of the Keep's evidence to another key", relay.address, "not_genuine channel-binding", 10},
		{"plain TLS", ends().address, "not_genuine protocol", 10},
		{"ALPN stripped on the way", edited(atls.Protocol, "donjon-nothing1").address, "not_genuine protocol", 10},
		{"no TLS", stand(t, func(_ *middle, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") }).address, "not_genuine protocol", 10},
		{"evidence of an old session", last.address, "not_genuine channel-binding nonce", 10},
	} {
		c, err := d.DialContext(context.Background(), "tcp", x.at)
		if got := codes(err); got != x.want || (err == nil) != (x.want == "") {
			t.Errorf("%s: found %q, wanted %q: %v", x.name, got, x.want, err)
		}
		if c != nil {
			if got, err := ask(c, "hello"); got != "answer hello" || err != nil {
				t.Errorf("%s: found %q, %v", x.name, got, err)
			}
			_ = c.Close()
		}
		cmd := exec.Command(filepath.Join(l.dir, "donjon"), "connect", x.at, "--policy", file)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != x.status {
			t.Errorf("%s: donjon connect: status %d, wanted %d\n%s", x.name, cmd.ProcessState.ExitCode(), x.status, out)
		}
	}
	// Who stood in the middle and could read has read the request for evidence and the
	// refusal, each time, and not a byte more.
	said := relay.seen()
	n := 0
	for len(said) >= 5 {
		size := int(said[3])<<8 | int(said[4])
		if said[0] != 1 && said[0] != 5 || len(said) < 5+size {
			t.Fatalf("the middle has read %q", said)
		}
		said = said[5+size:]
		n++
	}
	if n < 4 || len(said) != 0 {
		t.Errorf("the middle has read %d messages and %q", n, said)
	}

	// The Keep ends: its evidence proves nothing now, and its address is nobody's.
	keep.end(t)
	if _, err := d.DialContext(context.Background(), "tcp", last.address); codes(err) != "not_genuine channel-binding nonce" {
		t.Errorf("a Keep that has ended: found %v", err)
	}
	if _, err := d.DialContext(context.Background(), "tcp", addr); err == nil || codes(err) != "" {
		t.Errorf("a Keep that has ended: found %v", err)
	}
}

// Clients that stall, at every step, keep nobody out; and a thousand at once are all
// served, however busy the Keep says it is.
func TestAttestedCrowd(t *testing.T) {
	l := newLab(t, "relay")
	r := l.run(t, l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls")}), nil)
	addr := r.address(t)
	_, d := l.policyFor(t, addr)
	asks := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{atls.Protocol}}
	request := append([]byte{1, 0, 0, 0, 41, 0xa1, 0x65}, append([]byte("nonce\x58\x20"), make([]byte, 32)...)...)
	var stalled []net.Conn
	for range 100 {
		silent, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		shaken, err := tls.Dial("tcp", addr, asks)
		if err != nil {
			t.Fatal(err)
		}
		undecided, err := tls.Dial("tcp", addr, asks)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = undecided.Write(request)
		stalled = append(stalled, silent, shaken, undecided)
	}
	d.Timeout = 3 * time.Minute
	start := time.Now()
	if c, err := d.DialContext(context.Background(), "tcp", addr); err != nil {
		t.Errorf("beside those that stall: %v", err)
	} else {
		_ = c.Close()
		t.Logf("beside 300 that stall: %s", time.Since(start))
	}
	for _, c := range stalled { // the host carries 1,024 connections of a Keep at most
		_ = c.Close()
	}
	start = time.Now()
	const clients = 1000
	var served, failed atomic.Int32
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c, err := d.DialContext(context.Background(), "tcp", addr)
			if err != nil {
				if failed.Add(1) < 4 {
					t.Errorf("one of many: %v", err)
				}
				return
			}
			defer c.Close()
			if got, err := ask(c, "hello"); got == "answer hello" && err == nil {
				served.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d served in %s", served.Load(), clients, time.Since(start))
	if served.Load() != clients {
		t.Errorf("%d of %d were served", served.Load(), clients)
	}
}
