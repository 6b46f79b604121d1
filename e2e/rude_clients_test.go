//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Clients that leave in the middle, reset, send garbage or read nothing cost
// themselves their connection, and nobody else anything: under the real sandbox,
// where a call too many would end the Keep.
func TestRudeClients(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	for _, prot := range []string{"tcp", "tls"} {
		t.Run(prot, func(t *testing.T) {
			dir := t.TempDir()
			module, err := os.ReadFile(filepath.Join(bin, "server.wasm"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "main.wasm"), module, 0o644); err != nil {
				t.Fatal(err)
			}
			s := servingOver(t, prot, bin, dir)
			s.dial().Close() // it listens
			anyone := &tls.Config{InsecureSkipVerify: true}
			open := func() net.Conn {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatalf("the Keep is gone: %v", err)
				}
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				return c
			}
			shaken := func() net.Conn {
				c := open()
				if prot == "tcp" {
					return c
				}
				x := tls.Client(c, anyone)
				if err := x.Handshake(); err != nil {
					t.Fatalf("handshake: %v", err)
				}
				return x
			}
			reset := func(c net.Conn) {
				if x, ok := c.(*tls.Conn); ok {
					c = x.NetConn()
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
			garbage := make([]byte, 64<<10)
			_, _ = rand.Read(garbage)
			for name, act := range map[string]func(){
				"leaves at once":    func() { _ = open().Close() },
				"resets at once":    func() { reset(open()) },
				"garbage":           func() { c := open(); _, _ = c.Write(garbage); _ = c.Close() },
				"half a hello":      func() { c := open(); _, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}); reset(c) },
				"leaves in between": func() { c := shaken(); _, _ = c.Write([]byte("GET / HT")); _ = c.Close() },
				"resets in between": func() { c := shaken(); _, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); reset(c) },
				"garbage in between": func() {
					c := shaken()
					if x, ok := c.(*tls.Conn); ok {
						_, _ = x.NetConn().Write(garbage)
					} else {
						_, _ = c.Write(garbage)
					}
					_ = c.Close()
				},
				"reads nothing": func() {
					c := shaken()
					_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
					ask := bytes.Repeat([]byte("GET /"+string(bytes.Repeat([]byte("x"), 4000))+" HTTP/1.1\r\nHost: x\r\n\r\n"), 64)
					for {
						if _, err := c.Write(ask); err != nil {
							break
						}
					}
					reset(c)
				},
			} {
				for range 8 {
					act()
				}
				scheme := map[string]string{"tcp": "http", "tls": "https"}[prot]
				client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: anyone, DisableKeepAlives: true}}
				r, err := client.Get(fmt.Sprintf("%s://%s/after", scheme, s.addr))
				if err != nil {
					t.Fatalf("after a client that %s: %v", name, err)
				}
				b, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || string(b) != "path /after\n" {
					t.Fatalf("after a client that %s: %q, %v", name, b, err)
				}
			}
		})
	}
}
