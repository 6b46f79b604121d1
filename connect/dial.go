//go:build linux

package connect

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// A Dialer makes attested connections to one Keep. Each is attested by itself.
type Dialer struct {
	// Address is the Keep's, HOST:PORT.
	Address string
	// Config is what is demanded of the Keep, and what is shown to it. Its Timeout
	// bounds connecting and attesting, and the waiting where the Keep is busy. Its MaxAge is not looked at: see Proxy.
	Config atls.Config
	// Net connects; its zero value is ready.
	Net net.Dialer
}

// A Conn is an attested connection that nothing was carried over yet.
type Conn struct {
	Verdict *verdict.Verdict
	Since   time.Time // when the Keep was judged
	// Presented says that the Keep asked for a client certificate and was shown one.
	Presented bool

	tls  *atls.Conn
	wire *wire
}

// Close ends the connection in order; at once where a write is under way that the Keep
// does not take, as crypto/tls does with a write of its own.
func (c *Conn) Close() error {
	if !c.wire.out.TryLock() {
		return c.wire.Close()
	}
	c.wire.out.Unlock()
	return c.tls.Close()
}

// forget lets go of the verdict: it is large, and has been looked at.
func (c *Conn) forget() { c.Verdict, c.tls.Verdict = nil, nil }

// Waits between two tries of a busy Keep.
const (
	firstWait = 50 * time.Millisecond
	mostWait  = 2 * time.Second
)

// Dial connects and attests. A Keep that is busy is asked again, later each time, for
// as long as the timeout allows. Errors as of atls.Dialer.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) {
	timeout := d.Config.Timeout
	if timeout <= 0 {
		timeout = atls.DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		c, err := d.once(ctx)
		if !errors.Is(err, atls.ErrBusy) {
			return c, err
		}
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, err
		case <-t.C:
		}
	}
}

func (d *Dialer) once(ctx context.Context) (*Conn, error) {
	host, _, err := net.SplitHostPort(d.Address)
	if err != nil {
		return nil, err
	}
	raw, err := d.Net.DialContext(ctx, "tcp", d.Address)
	if err != nil {
		return nil, err
	}
	w, err := newWire(raw)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	cfg := d.Config
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	cfg.MaxAge = atls.NoMaxAge // the Proxy's to say, which knows to cut and not to end in order
	var used *usedKey
	if cfg.Certificate != nil {
		key, ok := cfg.Certificate.PrivateKey.(crypto.Signer)
		if !ok {
			_ = raw.Close()
			return nil, errors.New("connect: the identity's key cannot sign")
		}
		used = &usedKey{Signer: key}
		own := *cfg.Certificate
		own.PrivateKey = used
		cfg.Certificate = &own
	}
	c, err := cfg.Client(ctx, w)
	if err != nil {
		return nil, err
	}
	return &Conn{Verdict: c.Verdict, Since: c.Since, Presented: used != nil && used.signed.Load(), tls: c, wire: w}, nil
}

// A usedKey remembers that it has signed: a client signs where a server has asked for
// its certificate, and nowhere else (RFC 8446 section 4.4.3).
type usedKey struct {
	crypto.Signer
	signed atomic.Bool
}

func (k *usedKey) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	k.signed.Store(true)
	return k.Signer.Sign(r, digest, o)
}

// newWire puts a socket below a TLS connection.
func newWire(c net.Conn) (*wire, error) {
	s, ok := c.(rawConner)
	if !ok {
		return nil, fmt.Errorf("connect: a connection of the type %T, wanted a socket", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, raw: raw}, nil
}
