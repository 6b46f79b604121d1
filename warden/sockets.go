//go:build linux

package warden

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// ports are the listeners of the guest: what the host connects comes in here.
type ports struct {
	mu    sync.Mutex
	open  map[uint32]*listener
	shake chan struct{}
}

type listener struct {
	guest *os.File    // accepted connections are passed here
	tls   *tls.Config // nil: plain
	// Of a TLS listener: what the Keep shows to this client and proves itself with.
	shown func() (*tls.Certificate, *atls.Server, error)
	// Of one that answers for its evidence by HTTP: see firstRequest. nil: it does not.
	first func(*tlsFilter, *link.Stream, *tls.Certificate) ([]byte, bool, error)
	// keeps: clients must be Keeps. header: each connection begins with who the client is.
	keeps, header bool
	large         chan struct{}                      // see unproved; nil: clients prove nothing
	limit         func(*link.Stream) func(int, bool) // see limitAge; nil: none
	refused       func(error)                        // told of clients that are turned away
}

func (p *ports) accept(st *link.Stream) {
	var c link.Conn
	if err := link.Unmarshal(st.Params(), &c); err != nil {
		st.Reset(link.CodeFailed, "the connection does not decode")
		return
	}
	p.mu.Lock()
	l := p.open[c.Index]
	p.mu.Unlock()
	if l == nil {
		st.Reset(link.CodeRefused, "nobody listens there")
		return
	}
	var filter link.Filter
	var header []byte
	if l.tls != nil {
		early, err := firstRecord(st)
		if err != nil {
			_ = st.Close()
			return
		}
		f, about, err := l.serve(p, st, early)
		if err != nil {
			if l.refused != nil {
				l.refused(err)
			}
			_ = st.Close()
			return
		}
		if filter = f; l.header {
			header = clientOf(f.conn.ConnectionState(), about).encode()
		}
	}
	ours, theirs, err := rawPair()
	if err != nil {
		_ = st.Close()
		return
	}
	if len(header) > 0 { // into an empty buffer that holds far more
		if n, err := unix.Write(ours, header); err != nil || n != len(header) {
			_ = st.Close()
			_, _ = unix.Close(ours), theirs.Close()
			return
		}
	}
	err = pass(l.guest, theirs)
	_ = theirs.Close()
	if err != nil { // the guest has closed its listener
		_ = st.Close()
		_ = unix.Close(ours)
		return
	}
	st.Relay(ours, filter, l.aged(st))
}

// aged limits the age of a connection; see limitAge.
func (l *listener) aged(st *link.Stream) func(int, bool) {
	if l.limit == nil {
		return nil
	}
	return l.limit(st)
}

// errAnswered says that the guest does not hear of a connection.
var errAnswered = errors.New("warden: a connection that is not the guest's")

// serve ends TLS for a client, and proves the Keep to one that asks for it: then the
// guest hears of the client once that has admitted the Keep, and, where clients must be
// Keeps, has been admitted; the verdict is about those.
func (l *listener) serve(p *ports, st *link.Stream, early []byte) (*tlsFilter, *verdict.Verdict, error) {
	cert, prover, err := l.shown()
	if err != nil {
		return nil, nil, err
	}
	cfg := l.tls.Clone()
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if atls.Asked(h) {
			return prover.TLS(cfg), nil
		}
		if l.keeps {
			return nil, errOrdinary
		}
		return nil, nil
	}
	p.shake <- struct{}{}
	f, err := handshake(st, early, tls.Server, cfg)
	<-p.shake
	if err != nil {
		return nil, nil, err
	}
	var about *verdict.Verdict
	if f.conn.ConnectionState().NegotiatedProtocol == atls.Protocol {
		conn, err := l.attest(f, prover)
		if err != nil {
			_ = f.conn.Close()
			return nil, nil, err
		}
		about = conn.Verdict
	} else if l.first != nil {
		read, answered, err := l.first(f, st, cert)
		if err != nil || answered {
			_ = f.conn.Close()
			return nil, nil, errors.Join(err, errAnswered)
		}
		f.early = read
	}
	if l.keeps && about == nil { // cannot be: the protocol was chosen, or the handshake has failed
		_ = f.conn.Close()
		return nil, nil, errOrdinary
	}
	f.settle()
	return f, about, nil
}

// attest proves the Keep, and has a client that must be a Keep prove itself.
func (l *listener) attest(f *tlsFilter, s *atls.Server) (*atls.Conn, error) {
	if l.large == nil {
		return s.Attest(context.Background(), f.conn)
	}
	ctx, cancel := context.WithTimeout(context.Background(), atls.DefaultTimeout)
	defer cancel()
	u := &unproved{ctx: ctx, places: l.large, left: freeProof}
	f.pipe.bound = u
	defer func() { f.pipe.bound = nil; u.done() }()
	return s.Attest(ctx, f.conn)
}

// closeAll takes no more connections: the guest's accept fails.
func (p *ports) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.open {
		_ = l.guest.Close()
		delete(p.open, i)
	}
}

func (w *warden) pool(path string, data []*os.File) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := w.named(path, data)
	if err != nil {
		return nil, err
	}
	p, err := authorities(path, b)
	if err != nil {
		return nil, &configError{what: err.Error()}
	}
	return p, nil
}

func (w *warden) listen(index uint32, f workload.File, data []*os.File) (engine.FileKind, *os.File, error) {
	l := &listener{}
	if f.Prot == "tls" {
		clients, err := w.pool(f.ClientCA, data)
		if err != nil {
			return 0, nil, err
		}
		if l.tls, err = w.serverTLS(clients, f.ClientAuth == "require"); err != nil {
			return 0, nil, err
		}
		if f.ClientAuth == "any" { // a key that the client holds, and nobody's word about it
			l.tls.ClientAuth = tls.RequireAnyClientCert
		}
		if l.shown = w.shown; f.Attest != "" {
			l.shown = func() (*tls.Certificate, *atls.Server, error) { return w.shownToKeeps(f.Attest) }
		}
		if l.keeps, l.header = f.Attest != "", f.PeerHeader != ""; l.keeps {
			l.limit = func(st *link.Stream) func(int, bool) { return w.limitAge(st, f) }
			l.large = w.peers.large
		}
		l.refused = w.refusals(f.Name, l.keeps)
		if f.Evidence {
			l.first = func(f *tlsFilter, st *link.Stream, shown *tls.Certificate) ([]byte, bool, error) {
				return w.firstRequest(f, st, shown, firstTime)
			}
		}
	}
	ours, theirs, err := pair()
	if err != nil {
		return 0, nil, err
	}
	l.guest = ours
	w.ports.mu.Lock()
	if w.ports.open == nil {
		w.ports.open = map[uint32]*listener{}
	}
	w.ports.open[index] = l
	w.ports.mu.Unlock()
	st, err := w.sess.Open(link.ServiceListen, link.Marshal(link.PortRequest{Index: index}))
	if err != nil {
		return 0, nil, err
	}
	var r link.PortReply
	_ = st.SetReadDeadline(time.Now().Add(handoverTime))
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		return 0, nil, fmt.Errorf("warden: listening for %q: %w", f.Name, err)
	}
	if !r.OK {
		return 0, nil, &portError{r.Error, r.Hint}
	}
	_ = st.SetReadDeadline(time.Time{})
	go func() { // the host closed the listener: the guest's accept fails
		_, _ = io.Copy(io.Discard, st)
		w.ports.mu.Lock()
		delete(w.ports.open, index)
		w.ports.mu.Unlock()
		_ = ours.Close()
	}()
	return engine.Listener, theirs, nil
}

// A portError is what the host said when it opened a port, with its hint.
type portError struct{ what, hint string }

func (e *portError) Error() string { return e.what }

func (e *portError) Hint() string { return e.hint }

func (w *warden) connect(index uint32, f workload.File, data []*os.File) (engine.FileKind, *os.File, error) {
	st, err := w.sess.Open(link.ServiceDial, link.Marshal(link.PortRequest{Index: index}))
	if err != nil {
		return 0, nil, err
	}
	var r link.PortReply
	_ = st.SetReadDeadline(time.Now().Add(handoverTime))
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		return 0, nil, fmt.Errorf("warden: connecting to %s: %w", f.Host, err)
	}
	if !r.OK {
		return 0, nil, &portError{r.Error, r.Hint}
	}
	_ = st.SetReadDeadline(time.Time{})
	var filter link.Filter
	switch {
	case f.Attest != "":
		shaken, err := w.attestPeer(st, f)
		if err != nil {
			return 0, nil, err
		}
		shaken.settle()
		filter = shaken
	case f.Prot == "tls":
		roots, err := w.pool(f.CA, data)
		if err != nil {
			return 0, nil, err
		}
		cfg, err := w.clientTLS(f.Host, roots)
		if err != nil {
			return 0, nil, err
		}
		shaken, err := handshake(st, nil, tls.Client, cfg)
		if err != nil {
			return 0, nil, &portError{fmt.Sprintf("TLS with %s: %v", f.Host, err), tlsHint(err)}
		}
		shaken.settle()
		filter = shaken
	}
	ours, theirs, err := rawPair()
	if err != nil {
		_ = st.Close()
		return 0, nil, err
	}
	var ended func(int, bool)
	if f.Attest != "" {
		ended = w.limitAge(st, f)
	}
	st.Relay(ours, filter, ended)
	return engine.Conn, theirs, nil
}
