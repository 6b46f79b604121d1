//go:build linux

package warden

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	if l.tls != nil {
		early, err := firstRecord(st)
		if err != nil {
			_ = st.Close()
			return
		}
		p.shake <- struct{}{}
		f, err := handshake(st, early, tls.Server, l.tls)
		<-p.shake
		if err != nil {
			return
		}
		filter = f
	}
	ours, theirs, err := rawPair()
	if err != nil {
		_ = st.Close()
		return
	}
	err = pass(l.guest, theirs)
	_ = theirs.Close()
	if err != nil { // the guest has closed its listener
		_ = st.Close()
		_ = unix.Close(ours)
		return
	}
	st.Relay(ours, filter, nil)
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
	if f.Prot == "tls" {
		roots, err := w.pool(f.CA, data)
		if err != nil {
			return 0, nil, err
		}
		cfg, err := w.clientTLS(f.Host, roots)
		if err != nil {
			return 0, nil, err
		}
		if filter, err = handshake(st, nil, tls.Client, cfg); err != nil {
			return 0, nil, &portError{fmt.Sprintf("TLS with %s: %v", f.Host, err), tlsHint(err)}
		}
	}
	ours, theirs, err := rawPair()
	if err != nil {
		_ = st.Close()
		return 0, nil, err
	}
	st.Relay(ours, filter, nil)
	return engine.Conn, theirs, nil
}
