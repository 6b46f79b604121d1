//go:build linux

package warden

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/warden/http1"
)

// A stewardConn is a TLS connection to the Steward.
type stewardConn struct {
	*tls.Conn
	http *http1.Conn
}

// dialSteward has the host connect, and ends the host's part there: TLS 1.3 to a
// server that the pinned authorities know by the name in the configuration, as a
// Steward (THREATS T4). Everything on the connection ends within the time given.
func (w *warden) dialSteward(within time.Duration) (*stewardConn, *tls.ConnectionState, error) {
	st, err := w.sess.Open(link.ServiceSteward, nil)
	if err != nil {
		return nil, nil, err
	}
	_ = st.SetDeadline(time.Now().Add(within))
	var r link.PortReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		_ = st.Close()
		return nil, nil, w.about(&enrolError{what: "the host does not connect", err: err})
	}
	if !r.OK {
		_ = st.Close()
		return nil, nil, w.about(&enrolError{what: r.Error, hint: r.Hint})
	}
	host, port := w.cfg.StewardAddr()
	conn := tls.Client(st, &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ServerName:             host,
		RootCAs:                w.stewardRoots,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
		Time:                   w.now,
		VerifyConnection:       isSteward,
	})
	ctx, cancel := context.WithTimeout(context.Background(), min(within, handshakeTime))
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, nil, w.about(handshakeError(err))
	}
	state := conn.ConnectionState()
	w.raise(state.PeerCertificates[0].NotBefore)
	if port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	} else if a := net.ParseIP(host); a != nil && a.To4() == nil {
		host = "[" + host + "]"
	}
	return &stewardConn{conn, http1.New(conn, host)}, &state, nil
}

// errNoSteward: the pinned authorities know the server, and not as a Steward.
var errNoSteward = errors.New("the server is not the Steward: its certificate is not issued by the authority that issues Stewards' alone")

// isSteward demands, beside what crypto/tls has verified, a leaf for servers whose
// issuer carries the marker.
func isSteward(s tls.ConnectionState) error {
	for _, chain := range s.VerifiedChains {
		if len(chain) >= 3 && slices.Contains(chain[0].ExtKeyUsage, x509.ExtKeyUsageServerAuth) && marked(chain[1]) {
			return nil
		}
	}
	return errNoSteward
}

func marked(c *x509.Certificate) bool {
	n, ok := 0, false
	for _, x := range c.Extensions {
		if !x.Id.Equal(protocol.MarkerOID) {
			continue
		}
		n++
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(x.Value, &v)
		ok = err == nil && len(rest) == 0 && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagUTF8String && !v.IsCompound && string(v.Bytes) == protocol.MarkerValue
	}
	return n == 1 && ok
}

// lateHint is for a Steward that does not answer in time.
const lateHint = "a connection to it there is, and no answer in time: is it overloaded or stopped, or does something in between hold the connection?"

func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// handshakeError says what to do about a handshake that failed. That the server is
// somebody else is a refusal; a connection that breaks is not.
func handshakeError(err error) *enrolError {
	e := &enrolError{what: "TLS", err: err, hint: tlsHint(err)}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.Is(err, errNoSteward):
		e.what, e.err, e.refused = err.Error(), nil, true
		e.hint = "a certificate of a workload, or of another service, does not make a Steward"
	case errors.As(err, &unknown):
		e.refused = true
		e.hint = "steward_ca must be the ca.pem of this very Steward; it stands in its state folder"
	case errors.As(err, &name):
		e.refused = true
		e.hint = "the Steward's certificate is for other names than the one in steward"
	case late(err):
		e.hint = lateHint
	}
	return e
}
