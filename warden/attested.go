//go:build linux

package warden

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
)

// Every TLS listener proves the Keep to a client that asks, by donjon-attest/1: over
// the connection, after the handshake, for that connection alone.

// shown is what one client is shown: the certificate of the moment, and the Keep's
// proof about that certificate's key. A renewal meanwhile changes neither.
func (w *warden) shown() (*tls.Certificate, *atls.Server, error) {
	cert, err := w.identity.tlsCertificate()
	if err != nil {
		return nil, nil, err
	}
	p, err := w.identity.proverFor(cert)
	if err != nil {
		return nil, nil, err
	}
	return cert, &atls.Server{Prover: p}, nil
}

// A channelProver proves the Keep on connections that one key ends.
type channelProver struct {
	*identity
	key [32]byte // SHA-256 of the SubjectPublicKeyInfo
}

func (id *identity) proverFor(c *tls.Certificate) (channelProver, error) {
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return channelProver{}, errors.New("warden: the certificate's key cannot sign")
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return channelProver{}, fmt.Errorf("warden: the certificate's key: %w", err)
	}
	return channelProver{id, sha256.Sum256(spki)}, nil
}

// Prove implements atls.Prover.
func (p channelProver) Prove(_ context.Context, nonce, exporter []byte) (atls.Proof, error) {
	ev, err := p.prove(evidence.Claims{PubkeyHash: p.key, Nonce: nonce, Purpose: evidence.PurposeConnect, TLSExporter: exporter})
	if errors.Is(err, errBusy) {
		return atls.Proof{}, fmt.Errorf("%w: %w", atls.ErrBusy, err)
	}
	if err != nil {
		return atls.Proof{}, err
	}
	b, err := ev.Encode()
	return atls.Proof{Evidence: b, Signature: p.signed}, err
}
