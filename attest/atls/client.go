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
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/envelope"
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
	// connection, AsStated is not heeded.
	Options attest.Options
	// Judge, where it is not nil, takes the place of Verifier: it is given the options
	// of this connection. A verdict that does not admit ends the connection.
	Judge func(ctx context.Context, p Proof, o attest.Options) (*verdict.Verdict, error)
	// Timeout bounds handshake and attestation; 0: DefaultTimeout.
	Timeout time.Duration
	// MaxAge is how long a connection may be used after the verdict; then it is closed,
	// and says ErrAged. 0: DefaultMaxAge; NoMaxAge: the caller
	// limits it.
	MaxAge time.Duration
	// MaxEvidence bounds the evidence that is read, in bytes: a server holds as much for
	// each client that is to prove itself, whoever that is. 0: 4 MiB, the protocol's.
	MaxEvidence int
	// Time is the clock that verdicts are made by; nil: time.Now.
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

// evidenceMost bounds a message with evidence, in bytes.
func (c *Config) evidenceMost() int {
	if c.MaxEvidence > 0 {
		return min(c.MaxEvidence, envelope.MaxSize) + maxBeside
	}
	return maxEvidence
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
		// Evidence goes in one record, not in many that each wake the other end.
		DynamicRecordSizingDisabled: true,
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
// *RemoteError (it refuses this end), others where the connection breaks or takes too
// long.
func (c *Config) Client(ctx context.Context, raw net.Conn) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	free := stop(ctx, raw)
	below := &uncut{Conn: raw, hold: true}
	conn := tls.Client(below, c.TLS())
	v, err := c.connect(ctx, conn)
	if ferr := below.release(); err == nil {
		err = ferr
	}
	if !free() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		hangUp(ctx, conn, raw)
		return nil, late(ctx, err)
	}
	return newConn(conn, v, c.MaxAge), nil
}

// connect is the client's part, the handshake first.
func (c *Config) connect(ctx context.Context, conn *tls.Conn) (*verdict.Verdict, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, c.handshakeFailure(err)
	}
	v, err := c.attest(ctx, conn)
	switch {
	case errors.Is(err, ErrMalformed): // it negotiates the protocol and says something else
		return nil, notSpoken(c.now(), err.Error())
	case alerted(err): // as where it demands a client's certificate
		return nil, fmt.Errorf("atls: TLS ended before a verdict: %w", err)
	}
	return v, err
}

// attest is the client's part behind the handshake.
func (c *Config) attest(ctx context.Context, conn *tls.Conn) (*verdict.Verdict, error) {
	s := conn.ConnectionState()
	if s.NegotiatedProtocol != Protocol || s.DidResume || len(s.PeerCertificates) == 0 {
		return nil, notSpoken(c.now(), fmt.Sprintf("the server chose the protocol %q", s.NegotiatedProtocol))
	}
	nonce := make([]byte, NonceSize)
	rand.Read(nonce)
	if err := write(conn, kindRequest, request{Nonce: nonce, Attested: c.Prover != nil && c.Certificate != nil}); err != nil {
		return nil, err
	}
	k, body, err := readAtMost(conn, c.evidenceMost(), kindEvidence)
	if err != nil {
		return nil, err
	}
	theirs, err := decodeProof(k, body)
	if err != nil {
		return nil, err
	}
	v, err := c.judge(ctx, &s, theirs, nonce, RoleServer)
	if err != nil {
		_ = write(conn, kindRefuse, refusal{Code: RefuseVerdict, Text: "the client's policy does not admit this Keep"})
		return nil, err
	}
	if theirs.Nonce == nil {
		return v, write(conn, kindAccept, accept{})
	}
	if c.Prover == nil || c.Certificate == nil {
		_ = write(conn, kindRefuse, refusal{Code: RefuseEvidence, Text: "this client is not a Keep"})
		return nil, &RemoteError{Code: RefuseEvidence, Text: "it talks to Keeps alone, and demands evidence of this end"}
	}
	if err := prove(ctx, c.Prover, conn, &s, theirs.Nonce, RoleClient, kindProof, nil); err != nil {
		return nil, err
	}
	if _, body, err = read(conn, kindAccept); err != nil {
		return nil, err
	}
	return v, decode(body, &accept{})
}

// judge appraises the other end's proof for this connection.
func (c *Config) judge(ctx context.Context, s *tls.ConnectionState, p proof, nonce []byte, of Role) (*verdict.Verdict, error) {
	exporter, err := Exporter(s, nonce, of)
	if err != nil {
		return nil, err
	}
	if len(s.PeerCertificates) == 0 {
		return nil, notSpoken(c.now(), "the other end shows no key")
	}
	o := c.Options
	o.At, o.Nonce, o.Purpose, o.AsStated = c.now(), nonce, evidence.PurposeConnect, false
	o.Channel = &attest.Channel{Exporter: exporter, SPKI: s.PeerCertificates[0].RawSubjectPublicKeyInfo, Instance: c.Instance, Certificates: s.PeerCertificates}
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
	if v == nil {
		return nil, errors.New("atls: the judge gives no verdict")
	}
	if err := v.Err(); err != nil {
		return v, err
	}
	// Whoever judges: nothing is admitted whose binding to this connection was not seen.
	for _, code := range []verdict.Code{verdict.ChannelBinding, verdict.KeyBinding} {
		if !slices.ContainsFunc(v.Checks, func(k verdict.Check) bool { return k.Code == code && k.Status == verdict.Passed }) {
			return nil, fmt.Errorf("atls: the judge did not look at %s", code)
		}
	}
	return v, nil
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

// handshakeFailure tells a server that does not speak the protocol from one that
// cannot be reached. A Keep has no reason to answer with an alert.
func (c *Config) handshakeFailure(err error) error {
	var n net.Error
	switch {
	case alerted(err):
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &n), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("atls: the connection ended in the handshake: %w", err)
	}
	return notSpoken(c.now(), err.Error())
}

// late says of an error that follows from a deadline that it does.
func late(ctx context.Context, err error) error {
	var judged *verdict.Error
	if ctx.Err() == nil || errors.As(err, &judged) {
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("atls: ended before there was a proof: %w", ctx.Err())
	}
	return fmt.Errorf("atls: no proof within the time allowed: %w", ctx.Err())
}

// stop unblocks reads and writes of raw once ctx ends. The function it gives says
// whether that has not happened, and will not.
func stop(ctx context.Context, raw net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
}

// hangUp ends a connection that came to nothing: with a close_notify, where there is
// time for one.
func hangUp(ctx context.Context, conn *tls.Conn, raw net.Conn) {
	if ctx.Err() == nil {
		_ = conn.Close() // at most 5 s
	}
	_ = raw.Close()
}

func publicKey(c *tls.Certificate) ([]byte, error) {
	leaf, err := leafOf(c)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(leaf.RawSubjectPublicKeyInfo), nil
}
