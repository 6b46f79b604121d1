// Package atls is attested TLS: the protocol donjon-attest/1, both ends of it.
// docs/attested-connections.md has it in words, byte by byte.
//
// A certificate that carries evidence can be shown by whoever relays it, so evidence
// is asked for after the handshake, over the connection itself: the client sends a
// nonce, the Keep answers with evidence whose claims bind that nonce, the value that
// both ends export from this very TLS session, and the key that ended the handshake.
// Then the application's bytes follow, on the same connection, and not one before.
//
//	d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
//	conn, err := d.DialContext(ctx, "tcp", "keep.example:9443")   // a *atls.Conn, or a reason
//	client := &http.Client{Transport: &http.Transport{DialTLSContext: d.DialContext}}
//
// A refusal is a *verdict.Error, which has every check. Evidence is judged by
// attest.Verifier, next door; what a Keep proves itself with is the caller's Prover.
// The errors are in errors.go.
package atls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Protocol is the ALPN protocol name.
const Protocol = "donjon-attest/1"

// Exporter: label and context, RFC 5705 with the exporter of RFC 8446 section 7.5.
const (
	ExporterLabel = "EXPORTER-donjon-attest/1"
	ExporterSize  = 32 // bytes
)

// A Role is the end of the connection that proves itself. It is in the exporter's
// context, so that what one end shows cannot be shown back to it.
type Role string

// The roles, those of TLS.
const (
	RoleClient Role = "client"
	RoleServer Role = "server"
)

// NonceSize is the size of a nonce, in bytes.
const NonceSize = 32

// DefaultTimeout bounds handshake and attestation together.
const DefaultTimeout = 30 * time.Second

// DefaultMaxAge is how long a connection may be used after its verdict: certificates
// are revoked and levels fall while it stands.
const DefaultMaxAge = 24 * time.Hour

// NoMaxAge is a MaxAge for who limits the age of connections otherwise.
const NoMaxAge = time.Duration(1<<63 - 1)

// Exporter is the value that binds a proof of one end to this connection.
func Exporter(s *tls.ConnectionState, nonce []byte, of Role) ([]byte, error) {
	if s.Version != tls.VersionTLS13 {
		return nil, errors.New("atls: the connection is not TLS 1.3")
	}
	if len(nonce) != NonceSize {
		return nil, fmt.Errorf("atls: a nonce of %d bytes, wanted %d", len(nonce), NonceSize)
	}
	context := append(append([]byte{}, nonce...), of...)
	return s.ExportKeyingMaterial(ExporterLabel, context, ExporterSize)
}

// notSpoken is the verdict on a peer that does not speak the protocol at all: nothing
// of it is genuine.
func notSpoken(at time.Time, found string) error {
	v := &verdict.Verdict{At: at.UTC(), Evidence: verdict.Digest(nil), Form: "none", Advisories: []verdict.Advisory{}}
	v.Checks = []verdict.Check{verdict.Fail(verdict.Protocol, found, Protocol+" over TLS 1.3").From("docs/attested-connections.md").
		Advise("a Keep's TLS listener offers it: is this its address, and does something in between end TLS?")}
	v.Conclude()
	return v.Err()
}
