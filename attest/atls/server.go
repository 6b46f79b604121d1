package atls

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
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
	c.MinVersion, c.MaxVersion, c.NextProtos, c.SessionTicketsDisabled = tls.VersionTLS13, 0, []string{Protocol}, true
	c.GetConfigForClient = nil
	c.DynamicRecordSizingDisabled = true                          // evidence in one record
	if s.Peer != nil && c.ClientAuth < tls.RequireAnyClientCert { // the evidence binds its key, and says who it is
		c.ClientAuth = tls.RequireAnyClientCert
	}
	return c
}

// Offer is a configuration for a server that has both sorts of clients: those that ask
// for the protocol get TLS(of), the others of. Which one a connection has come to is in
// its ConnectionState, NegotiatedProtocol.
func (s *Server) Offer(of *tls.Config) *tls.Config {
	c := of.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		its := of
		if of.GetConfigForClient != nil {
			chosen, err := of.GetConfigForClient(hello)
			if err != nil {
				return nil, err
			}
			if chosen != nil {
				its = chosen
			}
		}
		if Asked(hello) {
			return s.TLS(its), nil
		}
		return its, nil
	}
	return c
}

// Attest is the server's part, the handshake first. On an error the caller closes conn.
// Errors: *verdict.Error where a client that must be a Keep is not admitted,
// *RemoteError where the client refuses, ErrNotAsked, ErrMalformed, ErrUnproven, others
// where the connection breaks or takes too long.
//
// A conn whose stream says io.EOF where it ends says so too where it was cut between two
// records; Listener's say ErrCut.
func (s *Server) Attest(ctx context.Context, conn *tls.Conn) (*Conn, error) {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	free := stop(ctx, conn.NetConn())
	v, err := s.attest(ctx, conn)
	if errors.Is(err, ErrMalformed) {
		_ = write(conn, kindRefuse, refusal{Code: RefuseMalformed, Text: "the message is not in its form"})
	}
	if !free() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, late(ctx, err)
	}
	if s.Peer == nil {
		return newConn(conn, nil, 0), nil
	}
	return newConn(conn, v, s.Peer.MaxAge), nil
}

func (s *Server) attest(ctx context.Context, conn *tls.Conn) (*verdict.Verdict, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != Protocol || state.Version != tls.VersionTLS13 || state.DidResume {
		return nil, ErrNotAsked
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
			return nil, ErrUnproven
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
		return nil, decode(body, &accept{})
	}
	k, body, err := readAtMost(conn, s.Peer.evidenceMost(), kindProof)
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
	return v, write(conn, kindAccept, accept{})
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
