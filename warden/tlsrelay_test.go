//go:build linux

package warden

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
)

// keepEnd makes a link and gives, for each call of dial, a TLS client's raw
// connection to a relay with a TLS filter, and the guest's end behind it.
func keepEnd(t *testing.T) (dial func() *handed) {
	t.Helper()
	a, b := net.Pipe()
	type end struct {
		s   *link.Session
		err error
	}
	made := make(chan end, 1)
	go func() {
		s, err := link.Guest(b)
		made <- end{s, err}
	}()
	host, err := link.Host(a)
	if err != nil {
		t.Fatal(err)
	}
	g := <-made
	if g.err != nil {
		t.Fatal(g.err)
	}
	t.Cleanup(func() { host.Close(); g.s.Close() })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"keep"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func() *handed {
		cst, err := host.Open(link.ServiceConn, nil)
		if err != nil {
			t.Fatal(err)
		}
		st, err := g.s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		guest := make(chan *os.File, 1)
		go func() {
			f, err := handshake(st, nil, tls.Server, cfg)
			if err != nil {
				close(guest)
				return
			}
			f.settle()
			ours, theirs, err := pair()
			if err != nil {
				t.Error(err)
				return
			}
			fd, err := link.Take(ours)
			if err != nil {
				t.Error(err)
				return
			}
			st.Relay(fd, f, nil)
			guest <- theirs
		}()
		return &handed{Conn: cst, guest: guest}
	}
}

// handed is a client's connection and, once the handshake is made, the guest's
// end.
type handed struct {
	net.Conn
	guest chan *os.File
}

func client(t *testing.T, dial func() *handed) (*tls.Conn, *handed, *os.File) {
	t.Helper()
	raw := dial()
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // whom it talks to is not what is tested
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	g, ok := <-raw.guest
	if !ok {
		t.Fatal("the Keep's handshake failed")
	}
	t.Cleanup(func() { g.Close(); c.Close() })
	return c, raw, g
}

func TestTLSRelayBothWays(t *testing.T) {
	c, _, g := client(t, keepEnd(t))
	want := make([]byte, 3<<20+7)
	rand.Read(want)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = c.Write(want); _ = c.CloseWrite() })
	wg.Go(func() { _, _ = g.Write(want); control(g, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }) })
	wg.Go(func() {
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("to the client: found %d bytes, %v", len(got), err)
		}
	})
	wg.Go(func() {
		got, err := io.ReadAll(g)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("to the guest: found %d bytes, %v", len(got), err)
		}
	})
	wg.Wait()
}

// The guest's close is a close_notify for the peer: the end cannot be forged by
// cutting.
func TestTLSRelayTellsTheEnd(t *testing.T) {
	c, _, g := client(t, keepEnd(t))
	_, _ = g.Write([]byte("last words"))
	_ = g.Close()
	got, err := io.ReadAll(c) // io.ErrUnexpectedEOF without a close_notify
	if err != nil || string(got) != "last words" {
		t.Errorf("found %q, %v", got, err)
	}
}

// A peer that is cut off within a record never reaches the guest as data.
func TestTLSRelayCutWithinARecord(t *testing.T) {
	dial := keepEnd(t)
	raw := dial()
	tap := &cutter{Conn: raw}
	c := tls.Client(tap, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	g, ok := <-raw.guest
	if !ok {
		t.Fatal("the Keep's handshake failed")
	}
	defer g.Close()
	tap.cut = true
	_, _ = c.Write([]byte("half of this"))
	_ = raw.Conn.(*link.Stream).CloseWrite()
	if got, _ := io.ReadAll(g); len(got) != 0 {
		t.Errorf("found %q, wanted nothing", got)
	}
}

// Bytes that are no TLS record end the connection.
func TestTLSRelayGarbage(t *testing.T) {
	c, raw, g := client(t, keepEnd(t))
	_, _ = raw.Conn.Write(bytes.Repeat([]byte("garbage "), 100))
	if got, _ := io.ReadAll(g); len(got) != 0 {
		t.Errorf("found %q, wanted nothing", got)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the client was not told")
	}
}

// cutter sends the first half of what it is told to write.
type cutter struct {
	net.Conn
	cut bool
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.cut {
		_, err := c.Conn.Write(p[:len(p)/2])
		return len(p), err
	}
	return c.Conn.Write(p)
}
