package atls

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// A Proof is what one end shows of itself.
type Proof struct {
	Evidence  []byte // in a form that attest reads
	Signature []byte // a signature over the workload by whoever made it; nil: none
}

// A Prover makes evidence of this end. It alone chooses the claims: the purpose is
// connect, and nonce and exporter stand in them as they are given.
type Prover interface {
	Prove(ctx context.Context, nonce, exporter []byte) (Proof, error)
}

// Config is one end that judges the other. The zero value demands a Keep of which no
// policy says anything, and so admits none: set Options.Policy.
type Config struct {
	// Verifier judges; nil: one for this connection alone. Keep one: it remembers which
	// signatures hold.
	Verifier *attest.Verifier
	// Options are the appraisal's. At, Nonce, Purpose and Channel are set for each
	// connection.
	Options attest.Options
	// Judge, where it is not nil, takes the place of Verifier: it is given the options
	// of this connection. A verdict that does not admit ends the connection.
	Judge func(ctx context.Context, p Proof, o attest.Options) (*verdict.Verdict, error)
	// Timeout bounds handshake and attestation; 0: DefaultTimeout.
	Timeout time.Duration
	// Time is the clock; nil: time.Now.
	Time func() time.Time

	// Certificate is shown to a server that asks for one; nil: none is.
	Certificate *tls.Certificate
	// Prover proves this end to a server that demands it; nil: this end is no Keep.
	Prover Prover
	// Instance is this end's, where it is a Keep: a peer that shows it is a mirror.
	Instance []byte
	// ServerName is sent as SNI; "" : the Dialer takes the host.
	ServerName string
}

func (c *Config) now() time.Time {
	if c.Time != nil {
		return c.Time()
	}
	return time.Now()
}

func (c *Config) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return DefaultTimeout
}

// TLS is the client's TLS configuration. Whose certificate the server shows is
// not looked at: the evidence binds its key.
func (c *Config) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ServerName:             c.ServerName,
		InsecureSkipVerify:     true,
		NextProtos:             []string{Protocol},
		SessionTicketsDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c.Certificate == nil {
				return &tls.Certificate{}, nil
			}
			return c.Certificate, nil
		},
	}
}

// Client makes an attested connection of raw. On an error raw is closed. Errors:
// *verdict.Error (the other end is not admitted, or does not speak the protocol),
// *RemoteError (it refuses this end), others where the connection breaks.
func (c *Config) Client(ctx context.Context, raw net.Conn) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	defer stop(ctx, raw)()
	conn := tls.Client(raw, c.TLS())
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, c.handshakeFailure(ctx, err)
	}
	out, err := c.attest(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, late(ctx, err)
	}
	return out, raw.SetDeadline(time.Time{})
}

// attest is the protocol behind the handshake, the client's part.
func (c *Config) attest(ctx context.Context, conn *tls.Conn) (*Conn, error) {
	s := conn.ConnectionState()
	if s.NegotiatedProtocol != Protocol || s.DidResume || len(s.PeerCertificates) == 0 {
		return nil, notSpoken(c.now(), fmt.Sprintf("the server chose the protocol %q", s.NegotiatedProtocol))
	}
	nonce := make([]byte, NonceSize)
	rand.Read(nonce)
	if err := write(conn, kindRequest, request{Nonce: nonce, Attested: c.Prover != nil && c.Certificate != nil}); err != nil {
		return nil, err
	}
	k, body, err := read(conn, kindEvidence)
	if err != nil {
		return nil, c.unread(err)
	}
	theirs, err := decodeProof(k, body)
	if err != nil {
		return nil, c.unread(err)
	}
	v, err := c.judge(ctx, &s, theirs, nonce, RoleServer)
	if err != nil {
		_ = write(conn, kindRefuse, refusal{Code: RefuseVerdict, Text: "the client's policy does not admit this Keep"})
		return nil, err
	}
	if theirs.Nonce == nil {
		return &Conn{conn, v, v.At}, write(conn, kindAccept, accept{})
	}
	if c.Prover == nil || c.Certificate == nil {
		_ = write(conn, kindRefuse, refusal{Code: RefuseEvidence, Text: "this client is not a Keep"})
		return nil, &RemoteError{Code: RefuseEvidence, Text: "it talks to Keeps alone, and demands evidence of this end"}
	}
	if err := prove(ctx, c.Prover, conn, &s, theirs.Nonce, RoleClient, kindProof, nil); err != nil {
		return nil, err
	}
	k, body, err = read(conn, kindAccept)
	if err != nil {
		return nil, c.unread(err)
	}
	return &Conn{conn, v, v.At}, decode(body, &accept{})
}

// judge appraises the other end's proof for this connection.
func (c *Config) judge(ctx context.Context, s *tls.ConnectionState, p proof, nonce []byte, of Role) (*verdict.Verdict, error) {
	exporter, err := Exporter(s, nonce, of)
	if err != nil {
		return nil, err
	}
	o := c.Options
	o.At, o.Nonce, o.Purpose = c.now(), nonce, evidence.PurposeConnect
	o.Channel = &attest.Channel{Exporter: exporter, SPKI: s.PeerCertificates[0].RawSubjectPublicKeyInfo, Instance: c.Instance}
	if c.Certificate != nil {
		if o.Channel.Own, err = publicKey(c.Certificate); err != nil {
			return nil, err
		}
	}
	var v *verdict.Verdict
	switch {
	case c.Judge != nil:
		if v, err = c.Judge(ctx, Proof{p.Evidence, p.Signature}, o); err != nil {
			return nil, err
		}
	case c.Verifier != nil:
		v = c.Verifier.Verify(p.Evidence, o)
	default:
		v = new(attest.Verifier).Verify(p.Evidence, o)
	}
	return v, v.Err()
}

// prove sends this end's proof.
func prove(ctx context.Context, by Prover, conn *tls.Conn, s *tls.ConnectionState, nonce []byte, of Role, as kind, ask []byte) error {
	exporter, err := Exporter(s, nonce, of)
	if err != nil {
		return err
	}
	p, err := by.Prove(ctx, nonce, exporter)
	if err != nil {
		r := refusal{Code: RefuseInternal, Text: "no proof could be made"}
		if errors.Is(err, ErrBusy) {
			r = refusal{Code: RefuseBusy, Text: "too many proofs are asked for at once; ask again later"}
		}
		_ = write(conn, kindRefuse, r)
		return err
	}
	return write(conn, as, proof{Evidence: p.Evidence, Signature: p.Signature, Nonce: ask})
}

// unread turns what is no proof into a verdict: a server that negotiates the protocol
// and says something else is not genuine.
func (c *Config) unread(err error) error {
	if errors.Is(err, errMalformed) {
		return notSpoken(c.now(), err.Error())
	}
	return err
}

// handshakeFailure tells a server that does not speak the protocol from one that
// cannot be reached.
func (c *Config) handshakeFailure(ctx context.Context, err error) error {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return late(ctx, err)
	case errors.As(err, &alert), errors.As(err, &record):
		return notSpoken(c.now(), err.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("atls: the connection ended in the handshake: %w", err)
	}
	var n net.Error
	if errors.As(err, &n) {
		return fmt.Errorf("atls: %w", err)
	}
	return notSpoken(c.now(), err.Error()) // crypto/tls's own refusals: version, parameters
}

// late says of an error that follows from a deadline that it does.
func late(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("atls: no proof within the time allowed: %w", ctx.Err())
}

// stop unblocks reads and writes of raw once ctx ends. The function it gives ends that.
func stop(ctx context.Context, raw net.Conn) func() {
	end := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	return func() { end() }
}

func publicKey(c *tls.Certificate) ([]byte, error) {
	leaf, err := leafOf(c)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(leaf.RawSubjectPublicKeyInfo), nil
}
