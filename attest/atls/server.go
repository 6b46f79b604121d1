package atls

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// A Server is the end that is a Keep.
type Server struct {
	// Prover makes the evidence. Required.
	Prover Prover
	// Peer is what is demanded of a client that must be a Keep itself; nil: the client
	// need not prove anything. Peer.Certificate and Instance are the server's own.
	Peer *Config
	// Timeout bounds the attestation; 0: DefaultTimeout.
	Timeout time.Duration
}

// Asked says whether a client asks for the protocol: a server that has ordinary clients
// too chooses its configuration by it, in tls.Config.GetConfigForClient.
func Asked(hello *tls.ClientHelloInfo) bool { return slices.Contains(hello.SupportedProtos, Protocol) }

// TLS is the server's configuration for clients that ask for the protocol, made of its
// configuration for others: the same certificate, TLS 1.3, no resumption.
func (s *Server) TLS(of *tls.Config) *tls.Config {
	c := of.Clone()
	c.MinVersion, c.NextProtos, c.SessionTicketsDisabled = tls.VersionTLS13, []string{Protocol}, true
	c.GetConfigForClient = nil
	if s.Peer != nil { // the evidence binds its key, and says who it is
		c.ClientAuth = tls.RequireAnyClientCert
	}
	return c
}

// Attest is the protocol behind the handshake, the server's part. On an error the
// caller closes conn. Errors: *verdict.Error where a client that must be a Keep is not
// admitted, *RemoteError where the client refuses, others where the connection breaks.
func (s *Server) Attest(ctx context.Context, conn *tls.Conn) (*Conn, error) {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer stop(ctx, conn.NetConn())()
	out, err := s.attest(ctx, conn)
	if errors.Is(err, errMalformed) {
		_ = write(conn, kindRefuse, refusal{Code: RefuseMalformed, Text: "the message is not in its form"})
	}
	if err != nil {
		return nil, late(ctx, err)
	}
	return out, conn.SetDeadline(time.Time{})
}

func (s *Server) attest(ctx context.Context, conn *tls.Conn) (*Conn, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != Protocol || state.DidResume {
		return nil, fmt.Errorf("atls: the client asks for %q, not for %s", state.NegotiatedProtocol, Protocol)
	}
	_, body, err := read(conn, kindRequest)
	if err != nil {
		return nil, err
	}
	q, err := decodeRequest(body)
	if err != nil {
		return nil, err
	}
	var ask []byte
	if s.Peer != nil {
		if !q.Attested {
			_ = write(conn, kindRefuse, refusal{Code: RefuseEvidence, Text: "only Keeps are talked to here: prove what you are"})
			return nil, errors.New("atls: the client does not prove itself, and must")
		}
		ask = make([]byte, NonceSize)
		rand.Read(ask)
	}
	if err := prove(ctx, s.Prover, conn, &state, q.Nonce, RoleServer, kindEvidence, ask); err != nil {
		return nil, err
	}
	if s.Peer == nil {
		if _, body, err = read(conn, kindAccept); err != nil {
			return nil, err
		}
		return &Conn{Conn: conn}, decode(body, &accept{})
	}
	k, body, err := read(conn, kindProof)
	if err != nil {
		return nil, err
	}
	theirs, err := decodeProof(k, body)
	if err != nil {
		return nil, err
	}
	v, err := s.Peer.judge(ctx, &state, theirs, ask, RoleClient)
	if err != nil {
		_ = write(conn, kindRefuse, refusal{Code: RefuseVerdict, Text: "this Keep's policy does not admit the client"})
		return nil, err
	}
	return &Conn{conn, v, v.At}, write(conn, kindAccept, accept{})
}

// A Listener gives attested connections. Handshakes are made one after the other, in
// Accept: a server that has many clients calls Attest in goroutines of its own.
type Listener struct {
	net.Listener
	Server *Server
	Config *tls.Config // what it shows; see Server.TLS
}

// Accept waits for the next client and attests to it. A client that fails ends that
// connection alone: the next one is waited for.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := tls.Server(raw, l.Server.TLS(l.Config))
		out, err := l.Server.Attest(context.Background(), conn)
		if err == nil {
			return out, nil
		}
		_ = raw.Close()
	}
}

func leafOf(c *tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("atls: a certificate without any")
	}
	return x509.ParseCertificate(c.Certificate[0])
}
