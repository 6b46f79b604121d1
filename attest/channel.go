package attest

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Channel is the connection that evidence must have been made for, as its verifier
// sees it: attest/atls makes one of a TLS connection.
type Channel struct {
	// Exporter is the value that the verifier exported from this very connection
	// (RFC 5705; docs/attested-connections.md has label and context), 32 bytes.
	Exporter []byte
	// SPKI is the SubjectPublicKeyInfo, DER, of the key that the peer has proved in the
	// handshake to hold.
	SPKI []byte
	// Own is the verifier's own SubjectPublicKeyInfo and Instance its instance, where
	// it is a Keep: a peer that shows one of them is a mirror. nil: it is none.
	Own      []byte
	Instance []byte
	// Certificates are what the peer showed in the handshake, its own first. Of them
	// only the key is known to be the peer's: whoever believes a name in them verifies it.
	Certificates []*x509.Certificate
}

const sourceChannel = "RFC 5705; docs/attested-connections.md"

// channel checks that genuine evidence was made for this connection. Claims are
// already compared with what the hardware signed.
func (o *Options) channel(c *claims.Claims) []verdict.Check {
	if o.Channel == nil {
		switch {
		case o.Purpose == evidence.PurposeHTTP, c.Keep != nil && c.Keep.Purpose == evidence.PurposeHTTP:
			return []verdict.Check{verdict.Skip(verdict.ChannelBinding, "evidence got by HTTP shows that a Keep exists, not that this connection ends in it",
				"attest the connection itself: donjon connect").From(sourceChannel)}
		case o.Purpose == evidence.PurposeConnect:
			return []verdict.Check{verdict.Skip(verdict.ChannelBinding, "no connection is at hand to compare it with",
				"evidence of a connection counts on that connection alone").From(sourceChannel)}
		}
		return nil
	}
	ch := o.Channel
	fail := func(code verdict.Code, found, wanted, hint string) []verdict.Check {
		return []verdict.Check{verdict.Fail(code, found, wanted).From(sourceChannel).Advise(hint)}
	}
	if len(ch.Exporter) != 32 || len(ch.SPKI) == 0 {
		return fail(verdict.ChannelBinding, "a connection without an exporter value or a key of the peer's", "32 bytes and a SubjectPublicKeyInfo", "")
	}
	if c.Keep == nil {
		return fail(verdict.ChannelBinding, "evidence without the claims of a Keep", "an exporter value among its claims", "nothing in this evidence says for which connection it was made")
	}
	key := sha256.Sum256(ch.SPKI)
	if subtle.ConstantTimeCompare(c.Keep.Exporter, ch.Exporter) != 1 {
		found := "no exporter value"
		if len(c.Keep.Exporter) > 0 {
			found = "the exporter value of another connection"
		}
		return fail(verdict.ChannelBinding, found, "the exporter value of this connection", "somebody stands between, or passes on the evidence of a genuine Keep: send nothing")
	}
	if !bytes.Equal(c.Key, key[:]) {
		return fail(verdict.KeyBinding, "the claims name the key "+c.Key.String(), "the key at the other end, "+hex.EncodeToString(key[:]), "this evidence belongs to another key: send nothing")
	}
	if own := sha256.Sum256(ch.Own); len(ch.Own) > 0 && own == key || len(ch.Instance) > 0 && bytes.Equal(ch.Instance, c.Keep.Instance) {
		return fail(verdict.ChannelBinding, "this Keep's own key or instance", "another Keep", "the Keep is connected to itself, or shown itself in a mirror")
	}
	return []verdict.Check{
		verdict.Pass(verdict.ChannelBinding, fmt.Sprintf("made for this connection (exporter %x…)", ch.Exporter[:4])).From(sourceChannel),
		verdict.Pass(verdict.KeyBinding, hex.EncodeToString(key[:])).From(sourceChannel),
	}
}
