package atls

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// A Dialer makes attested connections. For HTTP give its DialContext to an
// http.Transport as DialTLSContext; URLs have the scheme https then.
type Dialer struct {
	Config
	// Net connects; its zero value is ready.
	Net net.Dialer
}

// DialContext connects and attests. Every connection is judged afresh. A Keep that is
// busy is asked again, within the time allowed. Errors as of Config.Client, and those of
// connecting.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		conn, err := d.dial(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, ErrBusy) {
			return nil, err
		}
		var b [2]byte
		rand.Read(b[:])
		some := wait * time.Duration(binary.BigEndian.Uint16(b[:])) >> 16
		select {
		case <-time.After(wait/2 + some): // so that not all come at once once more
		case <-ctx.Done():
			return nil, err
		}
	}
}

// How long a busy Keep is left alone.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 2 * time.Second
)

func (d *Dialer) dial(ctx context.Context, network, address string) (*Conn, error) {
	raw, err := d.Net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := d.Config
	if c.ServerName == "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			c.ServerName = host
		}
	}
	return c.Client(ctx, raw)
}
