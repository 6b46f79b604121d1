//go:build linux

package warden

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/link"
)

// A site is a TLS listener of a Keep, on simulated silicon, and the link to it.
type site struct {
	t     *testing.T
	host  *link.Session
	id    *identity
	ports *ports
	guest chan *os.File // connections as the guest gets them
}

func newSite(t *testing.T, from provider) *site {
	t.Helper()
	a, b := net.Pipe()
	made := make(chan *link.Session, 1)
	go func() {
		s, err := link.Guest(b)
		if err != nil {
			t.Error(err)
		}
		made <- s
	}()
	host, err := link.Host(a)
	if err != nil {
		t.Fatal(err)
	}
	g := <-made
	id, err := newIdentity(from, digest, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w := &warden{Options: Options{Now: time.Now}, identity: id}
	config, err := w.serverTLS(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, host: host, id: id, guest: make(chan *os.File, 64)}
	s.ports = &ports{shake: make(chan struct{}, 2), open: map[uint32]*listener{0: {guest: ours, tls: config, shown: w.shown}}}
	t.Cleanup(func() {
		_, _ = host.Close(), g.Close()
		_, _ = ours.Close(), theirs.Close()
		for f := range s.guest {
			_ = f.Close()
		}
	})
	go func() {
		for {
			st, err := g.Accept()
			if err != nil {
				return
			}
			go s.ports.accept(st)
		}
	}()
	go func() { // the guest's accept
		defer close(s.guest)
		for {
			oob := make([]byte, unix.CmsgSpace(4))
			var n int
			var err error
			control(theirs, func(fd int) { _, n, _, _, err = unix.Recvmsg(fd, make([]byte, 1), oob, 0) })
			if err != nil || n == 0 {
				return
			}
			m, err := unix.ParseSocketControlMessage(oob[:n])
			if err != nil {
				return
			}
			fds, err := unix.ParseUnixRights(&m[0])
			if err != nil {
				return
			}
			s.guest <- os.NewFile(uintptr(fds[0]), "accepted")
		}
	}()
	return s
}

// dial is a client's connection, as the host carries it.
func (s *site) dial() *link.Stream {
	s.t.Helper()
	st, err := s.host.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 0}))
	if err != nil {
		s.t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(time.Minute))
	return st
}

// client is one that admits this Keep and remembers its claims. attest judges all of it
// but what a policy says.
func (s *site) client() (*atls.Config, *evidence.Claims) {
	seen := new(evidence.Claims)
	return &atls.Config{Judge: func(_ context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
		v := new(attest.Verifier).Verify(p.Evidence, o)
		e, err := evidence.Parse(p.Evidence)
		if err != nil {
			return nil, err
		}
		*seen, err = evidence.ParseClaims(e.Claims)
		v.Outcome = verdict.Admitted
		return v, err
	}}, seen
}

// shaken is a client behind the handshake, whose writes wait for flush.
func (s *site) shaken() (*tls.Conn, *held) {
	s.t.Helper()
	h := &held{Conn: s.dial()}
	c := tls.Client(h, (&atls.Config{}).TLS())
	if err := c.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return c, h
}

// held keeps what is written while it waits.
type held struct {
	net.Conn
	waits bool
	b     []byte
}

func (h *held) Write(b []byte) (int, error) {
	if h.waits {
		h.b = append(h.b, b...)
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func (h *held) flush() {
	_ = h.SetWriteDeadline(time.Time{}) // crypto/tls has ended it
	_, _ = h.Conn.Write(h.b)
	h.b, h.waits = nil, false
}

// message is one of docs/attested-connections.md.
func message(kind byte, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))), body...)
}

func asks(nonce []byte) []byte {
	return message(1, append([]byte("\xa1\x65nonce\x58\x20"), nonce...)...)
}

// answer reads one message.
func answer(c net.Conn) (kind byte, body []byte, err error) {
	head := make([]byte, 5)
	if _, err = io.ReadFull(c, head); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err = io.ReadFull(c, body)
	return head[0], body, err
}

// works says whether a genuine client is served.
func (s *site) works() {
	s.t.Helper()
	config, _ := s.client()
	c, err := config.Client(context.Background(), s.dial())
	if err != nil {
		s.t.Fatalf("a genuine client: %v", err)
	}
	g := <-s.guest
	_, _ = c.Write([]byte("hello"))
	_ = c.CloseWrite()
	if b, err := io.ReadAll(g); string(b) != "hello" || err != nil {
		s.t.Errorf("the guest read %q, %v", b, err)
	}
	_ = g.Close()
	_ = c.Close()
}

// A slowProcessor makes a report each time that gate lets it.
type slowProcessor struct {
	*processor
	mu   sync.Mutex
	gate chan struct{}
}

func (p *slowProcessor) report(data [64]byte) ([]byte, []byte, error) {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return p.processor.report(data)
}

// byteString reads one CBOR byte string.
func byteString(t *testing.T, b []byte) []byte {
	t.Helper()
	if len(b) < 3 || b[0] != 0x59 {
		t.Fatalf("no byte string of two bytes' length: %x…", b[:3])
	}
	n := int(b[1])<<8 | int(b[2])
	return b[3 : 3+n]
}
