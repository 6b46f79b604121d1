package keep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// A Dialer opens the connections that a configuration declares, those to its Steward
// among them. What is declared
// is asked, not granted (THREATS T27): the host resolves the name, checks every
// address, and dials an address that it checked.
type Dialer struct {
	// Allow lists addresses or prefixes that are dialled although they are
	// link-local, a cloud's metadata service, multicast or unspecified.
	Allow []netip.Prefix
	// Lookup resolves a name; nil is the host's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

const dialTime = 20 * time.Second

// A DialError says why a declared peer could not be reached.
type DialError struct {
	What string
	Err  error
	hint string
}

func (e *DialError) Error() string { return e.What + ": " + e.Err.Error() }
func (e *DialError) Unwrap() error { return e.Err }

// Hint is what to do about it.
func (e *DialError) Hint() string { return e.hint }

// Dial connects to host:port.
func (d Dialer) Dial(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	what := "connecting to " + net.JoinHostPort(host, strconv.Itoa(int(port)))
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, &DialError{what, err, "check the name in the configuration and this host's name service"}
	}
	var last error
	for _, a := range addrs {
		if why := forbidden(a); why != "" && !d.allowed(a) {
			return nil, &DialError{what, fmt.Errorf("%s is %s", a, why), "a workload may be after the host's own secrets there; --allow-connect " + a.String() + " permits it"}
		}
	}
	for _, a := range addrs {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		last = err
	}
	var op *net.OpError
	if errors.As(last, &op) {
		last = op.Err
	}
	return nil, &DialError{what, last, "is the peer up, and does it listen there?"}
}

func (d Dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	lookup := d.Lookup
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	found, err := lookup(ctx, host)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound {
			return nil, errors.New("unknown host")
		}
		return nil, fmt.Errorf("unknown host (%w)", err)
	}
	if len(found) == 0 {
		return nil, errors.New("unknown host")
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found[:min(len(found), 16)], nil
}

func (d Dialer) allowed(a netip.Addr) bool {
	a = a.WithZone("") // a prefix has no zone
	for _, p := range d.Allow {
		if p.Contains(a) || p.Addr().Is4In6() && p.Bits() >= 96 && netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Contains(a) {
			return true
		}
	}
	return false
}

// metadata are the services that answer on ordinary addresses with a cloud
// machine's own credentials: AWS over IPv6, Alibaba, Oracle, Azure's host.
var metadata = [...]netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("192.0.0.192"),
	netip.MustParseAddr("168.63.129.16"),
}

// embedded gives the IPv4 address that a packet to a may be sent on to by a
// translator or a tunnel.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	a = a.WithZone("")
	b := a.As16()
	in := func(prefix string) bool { return netip.MustParsePrefix(prefix).Contains(a) }
	last := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case a.Is4In6(),
		in("64:ff9b::/96"),    // NAT64 (RFC 6052)
		in("64:ff9b:1::/48"),  // NAT64 of a site (RFC 8215), with a prefix of 96 bits
		in("::ffff:0:0:0/96"), // SIIT (RFC 7915)
		in("::/96") && !a.IsLoopback() && !a.IsUnspecified(),        // IPv4-compatible (RFC 4291)
		b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP (RFC 5214)
		return last, true
	case in("2002::/16"): // 6to4 (RFC 3056)
		return netip.AddrFrom4([4]byte(b[2:])), true
	case in("2001::/32"): // Teredo (RFC 4380): the client's address, inverted
		for i := 12; i < 16; i++ {
			b[i] = ^b[i]
		}
		return netip.AddrFrom4([4]byte(b[12:])), true
	}
	return netip.Addr{}, false
}

func forbidden(a netip.Addr) string {
	if v4, ok := embedded(a); ok { // an IPv4 address in IPv6 clothes is judged as what it is
		return forbidden(v4)
	}
	for _, m := range metadata {
		if a.WithZone("") == m {
			return "a cloud's metadata service"
		}
	}
	switch {
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0:
		return "unspecified"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "multicast"
	}
	return ""
}
