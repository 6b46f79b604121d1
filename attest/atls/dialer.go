package atls

import (
	"context"
	"net"
)

// A Dialer makes attested connections. For HTTP give its DialContext to an
// http.Transport as DialTLSContext; URLs have the scheme https then.
type Dialer struct {
	Config
	// Net connects; its zero value is ready.
	Net net.Dialer
}

// DialContext connects and attests. Every connection is judged afresh. Errors as of
// Config.Client, and those of connecting.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
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
	conn, err := c.Client(ctx, raw)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
