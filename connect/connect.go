//go:build linux

// Package connect is the local end of attested connections, for programs that know
// nothing of them: what connects here is carried to a Keep, over a connection that
// was attested for it alone (attest/atls), and not a byte of it is read before the
// Keep is admitted.
//
//	d := &connect.Dialer{Address: "keep.example:9443", Config: atls.Config{Options: attest.Options{Policy: p}}}
//	place, err := connect.ParsePlace("unix:/run/user/1000/keep.sock")
//	l, err := place.Listen()
//	err = (&connect.Proxy{Dial: d.Dial}).Serve(ctx, l)
//
// dial.go makes one connection, listen.go listens, proxy.go bounds and ends what is
// carried, carry.go and wire.go copy, identity.go is the client's own certificate.
package connect

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// An AddressError is an address that is none.
type AddressError struct{ Found, Wanted string }

func (e *AddressError) Error() string { return fmt.Sprintf("found %q, wanted %s", e.Found, e.Wanted) }

const wantedAddress = "HOST:PORT, [v6]:PORT or https://HOST:PORT"

// ParseAddress gives the HOST:PORT of a Keep's address: HOST:PORT, [v6]:PORT, or the
// https URL of a server without a path. Errors: *AddressError.
func ParseAddress(s string) (string, error) {
	bad := &AddressError{s, wantedAddress}
	hostport := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
			return "", bad
		}
		if hostport = u.Host; u.Port() == "" && !strings.HasSuffix(u.Host, ":") {
			hostport += ":443" // RFC 9110 section 4.2.2
		}
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" || strings.ContainsAny(host, "/@ \t\r\n\x00") {
		return "", bad
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", &AddressError{s, "a port from 1 to 65535"}
	}
	return net.JoinHostPort(host, port), nil
}
