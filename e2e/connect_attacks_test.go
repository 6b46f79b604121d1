//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/atls"
)

// An impostor negotiates the protocol, shows what a genuine Keep shows it, and keeps
// all that it is told.
type impostor struct {
	addr string
	mu   sync.Mutex
	got  bytes.Buffer
	n    int
}

func newImpostor(t *testing.T, genuine string) *impostor {
	t.Helper()
	cert := newAuthority(t).issue(t, "keep", time.Now().Add(time.Hour))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{atls.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	i := &impostor{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go i.relay(c, genuine)
		}
	}()
	return i
}

func (i *impostor) relay(c net.Conn, genuine string) {
	defer c.Close()
	far, err := tls.Dial("tcp", genuine, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{atls.Protocol}})
	if err != nil {
		return
	}
	defer far.Close()
	go func() { _, _ = io.Copy(c, far) }()
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		i.mu.Lock()
		i.got.Write(b[:n])
		i.n++
		i.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := far.Write(b[:n]); err != nil {
			return
		}
	}
}

// What stands at the address changes after connect has looked: the connection is
// refused, nothing of the request is sent, and the next one works once the Keep is back.
func TestConnectDiverted(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	keep := servingKeep(t, bin)
	policy := keepPolicy(t, bin, keep.addr)
	x := newCrossing(t, keep.addr)
	c := connecting(t, bin, x.addr, policy, "--listen", "127.0.0.1:0")
	get := func() (string, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		r, err := client.Post("http://"+c.addr+"/where", "text/plain", strings.NewReader("secret request"))
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return string(b), err
	}
	if got, err := get(); err != nil || got != "path /where\n" {
		t.Fatalf("through the Keep: %q, %v", got, err)
	}
	i := newImpostor(t, keep.addr)
	x.lead(i.addr)
	for range 3 {
		if got, err := get(); err == nil {
			t.Errorf("through the impostor: %q", got)
		}
	}
	c.waitFor(t, `the connection from 127.0.0.1:\d+ is refused: evidence is not genuine: the check channel-binding failed`)
	i.mu.Lock()
	if got := i.got.String(); i.n == 0 || strings.Contains(got, "secret") || strings.Contains(got, "POST") {
		t.Errorf("the impostor was told %q", got)
	}
	i.mu.Unlock()
	x.lead(keep.addr)
	if got, err := get(); err != nil || got != "path /where\n" {
		t.Errorf("through the Keep again: %q, %v", got, err)
	}
	// At once, the impostor gets no further.
	if status, _, errs := donjon(t, bin, "connect", "-q", i.addr, "--policy", policy, "--listen", "127.0.0.1:0"); status != 10 || !strings.Contains(errs, "channel-binding") {
		t.Errorf("the impostor: %d\n%s", status, errs)
	}
	if status, out, errs := donjon(t, bin, "policy", "init", "--from-keep", i.addr); status != 10 || out != "" || !strings.Contains(errs, "channel-binding") {
		t.Errorf("a policy for the impostor: %d\n%s%s", status, out, errs)
	}
}

// What is no Keep is not genuine where it answers, and not reached where it does not.
func TestConnectToOthers(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "p.toml")
	put(t, policy, "version = 1\n[snp]\n")
	a := newAuthority(t)
	cert := a.issue(t, "other", time.Now().Add(time.Hour))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes the connection, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	web := func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n")
	}
	for _, x := range []struct {
		name   string
		conf   *tls.Config // nil: plain TCP
		answer func(net.Conn)
		addr   string
		want   int
		says   string
	}{
		{name: "TLS 1.3", conf: &tls.Config{}, answer: web, want: 10, says: "the check protocol failed"},
		{name: "TLS 1.3 with protocols of its own", conf: &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, answer: web, want: 10, says: "the check protocol failed"},
		{name: "TLS 1.2", conf: &tls.Config{MaxVersion: tls.VersionTLS12}, answer: web, want: 10, says: "the check protocol failed"},
		{name: "plain HTTP", answer: web, want: 10, says: "the check protocol failed"},
		{name: "a server that speaks first", answer: func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); _, _ = io.Copy(io.Discard, c) }, want: 10, says: "the check protocol failed"},
		{name: "a server that hangs up", answer: func(net.Conn) {}, want: 1, says: "not reached"},
		{name: "nobody who answers", addr: silent.Addr().String(), want: 1, says: "not reached"},
		{name: "no such name", addr: "keep.invalid:9443", want: 1, says: "not reached"},
	} {
		if x.addr == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			x.addr = l.Addr().String()
			if x.conf != nil {
				x.conf.Certificates = []tls.Certificate{cert}
				l = tls.NewListener(l, x.conf)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						x.answer(c)
						_ = c.Close()
					}()
				}
			}()
		}
		status, _, errs := donjon(t, bin, "connect", x.addr, "--policy", policy, "--timeout", "2s")
		if status != x.want || !strings.Contains(errs, x.says) {
			t.Errorf("%s: status %d, wanted %d and %q\n%s", x.name, status, x.want, x.says, errs)
		}
	}
}
