//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/image/measure"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// peerPolicy admits Keeps of this lab's machine and program; keys name the workload.
func (l *lab) peerPolicy(t *testing.T, keys string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, "donjon-keep"))
	if err != nil {
		t.Fatal(err)
	}
	launch, root := measure.Sim(sha256.Sum256(b)), sha256.Sum256(l.sil.Root())
	return fmt.Sprintf("version = 1\n%s\nrequire_claims = true\nsimulated_roots = [\"%x\"]\nallow_simulated = true\n[snp]\nlaunch_digests = [\"%x\"]\n", keys, root, launch)
}

// twoRoles is one workload for both sides: bob and carol serve Keeps that alice.toml
// admits, alice passes what clients ask on to the Keep at port, which bob.toml admits.
func twoRoles(port int) string {
	entry := func(e, role, more string) string { return e + "role = \"" + role + "\"\n" + more }
	return withRoles + streams +
		entry(webEntry("tls"), "bob", "attest = \"alice.toml\"\n") +
		entry(webEntry("tls"), "carol", "attest = \"alice.toml\"\n") +
		entry(webEntry("tls"), "alice", "") +
		entry(peerEntry("tls", "127.0.0.1", port), "alice", "attest = \"bob.toml\"\n")
}

// in is the workload in a role.
func in(t *testing.T, w *workload.Workload, role string) *workload.Workload {
	t.Helper()
	as := *w
	if err := as.InRole(role); err != nil {
		t.Fatal(err)
	}
	return &as
}

// askTLS asks an ordinary listener.
func askTLS(t *testing.T, addr, line string) (string, error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return ask(c, line)
}

func portOf(t *testing.T) int {
	t.Helper()
	s, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// at binds the listener "web" to a port.
func at(port int) func(*keep.Options) {
	return func(o *keep.Options) { o.Bind = map[string]string{"web": "127.0.0.1:" + strconv.Itoa(port)} }
}

// refusedBy waits for a Keep that does not run because of its peer.
func (r *running) refusedBy(t *testing.T, text string) {
	t.Helper()
	r.wait(t)
	if r.err != nil || r.out.Exit.Kind != link.ExitFailed || !strings.Contains(r.out.Exit.Text, text) {
		t.Errorf("found %+v, %v, wanted the failure %q", r.out.Exit, r.err, text)
	}
	if r.stdout.Len() > 0 {
		t.Errorf("the workload ran: %q", r.stdout.String())
	}
}

// proverFunc makes evidence.
type proverFunc func(nonce, exporter []byte) ([]byte, error)

func (f proverFunc) Prove(_ context.Context, nonce, exporter []byte) (atls.Proof, error) {
	b, err := f(nonce, exporter)
	return atls.Proof{Evidence: b}, err
}

// shownBy is the evidence in the certificate of a Keep's listener.
func shownBy(addr string, as tls.Certificate) ([]byte, error) {
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{atls.Protocol}, Certificates: []tls.Certificate{as}})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ev, err := evidence.FromCertificate(c.ConnectionState().PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	return ev.Encode()
}

// A wire carries connections from one port to another, and keeps all that crosses.
type wire struct {
	to int
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *wire) seen() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.b.Bytes())
}

func newWire(t *testing.T, from int) *wire {
	t.Helper()
	w := &wire{to: portOf(t)}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(from))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				k, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(w.to))
				if err != nil {
					return
				}
				defer k.Close()
				go func() {
					_, _ = io.Copy(io.MultiWriter(k, w), c)
					_ = k.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(io.MultiWriter(c, w), k)
			}()
		}
	}()
	return w
}

func leafKey(t *testing.T, c tls.Certificate) string {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}
