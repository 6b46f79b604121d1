// Package protocol is what a Keep and a Steward say to each other at enrolment: the
// messages, their bounds, and how secrets are sealed. Both ends use it; the measured
// program links it, so it stays small and imports little. docs/steward-protocol.md
// has it in words.
//
// Over TLS 1.3 to a server whose certificate chains to the pinned CA through an
// intermediate with the marker MarkerOID, the Keep
//
//  1. POSTs to PathChallenge an empty object and gets a Challenge;
//  2. has a report made over claims of the purpose enrol: nonce = the challenge,
//     tls-exporter = Exporter of this very connection, steward-key and sealing-key;
//  3. POSTs to PathEnrol, on the same connection, an EnrolRequest;
//  4. gets an EnrolResponse, or a Problem.
package protocol

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/tls"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Where the messages go, as POST with application/json.
const (
	PathChallenge = "/v1/challenge"
	PathEnrol     = "/v1/enrol"
)

// Bounds, in bytes.
const (
	MaxRequest   = 1 << 20
	MaxResponse  = 4 << 20
	MaxChallenge = 64 // the claim nonce's
	MinChallenge = 32
	MaxSecret    = 64 << 10
	MaxSecrets   = 64

	MaxSignatures = 8       // envelopes in a request
	MaxSignature  = 4 << 10 // each
)

// MarkerOID marks the intermediate that issues the Steward's own TLS certificates.
// No workload certificate is ever issued under it, and a Keep talks to nobody else
// (THREATS T4). The arc 2.25 needs no registration.
var MarkerOID = asn1.ObjectIdentifier{2, 25, 1409853217}

// MarkerValue is the marker extension's value, a UTF8String.
const MarkerValue = "donjon steward servers/1"

// ExporterLabel is the TLS exporter's label (RFC 5705); the context is the challenge.
const ExporterLabel = "EXPORTER-donjon-enrol/1"

// Exporter is the value that binds evidence to this connection, 32 bytes.
func Exporter(c *tls.ConnectionState, challenge []byte) ([]byte, error) {
	if c.Version != tls.VersionTLS13 {
		return nil, errors.New("protocol: the connection is not TLS 1.3")
	}
	return c.ExportKeyingMaterial(ExporterLabel, challenge, 32)
}

// ChallengeResponse answers PathChallenge.
type ChallengeResponse struct {
	Challenge []byte    `json:"challenge"` // 32 to 64 bytes, opaque; good once and until Expires
	Expires   time.Time `json:"expires"`
}

// EnrolRequest is the Keep's request.
type EnrolRequest struct {
	// Request is a PKCS#10 request, DER, signed with the key to be certified, with
	// the evidence in the extension id-pe-cmw.
	Request []byte `json:"request"`
	// Manifest and Config are the workload's: the manifest's SHA-256 is the workload
	// digest, and it names the configuration's.
	Manifest []byte `json:"manifest"`
	Config   []byte `json:"config"`
	// SealingKey is the HPKE public key (X25519, 32 bytes) whose SHA-256 is the claim
	// sealing-key.
	SealingKey []byte `json:"sealing_key"`
	// Signatures are what stands beside the workload (workload/signature), as the host
	// gave it to the Keep: no evidence covers them, and only the Steward judges them.
	// Absent where there are none.
	Signatures [][]byte `json:"signatures,omitempty"`
}

// EnrolResponse is what a Keep that has proved itself gets.
type EnrolResponse struct {
	Certificates [][]byte  `json:"certificates"` // DER, the leaf first, without the root
	Token        string    `json:"token"`        // EAR
	Sealed       []byte    `json:"sealed,omitempty"`
	NotAfter     time.Time `json:"not_after"`   // of the leaf
	RenewAfter   time.Time `json:"renew_after"` // when to enrol again
}

// Secrets is the plaintext of Sealed: the workload's secrets by name.
type Secrets map[string][]byte

// Problem is a refusal (RFC 9457, application/problem+json). Checks are those that
// the caller may see.
type Problem struct {
	Type     string          `json:"type"`
	Title    string          `json:"title"`
	Status   int             `json:"status"`
	Detail   string          `json:"detail,omitempty"`
	Instance string          `json:"instance,omitempty"` // of the request, for the operator's log
	Code     string          `json:"code"`               // stable: docs/steward-protocol.md
	Checks   []verdict.Check `json:"checks,omitempty"`
	// AuditHead is the Steward's signed audit head once the refusal stands in the log.
	AuditHead string `json:"audit_head,omitempty"`
}

func (p *Problem) Error() string {
	for _, c := range p.Checks {
		if c.Status != verdict.Passed {
			return fmt.Sprintf("the Steward refuses (%s): the check %s %s: found %s, wanted %s", p.Code, c.Code, c.Status, c.Found, c.Wanted)
		}
	}
	return fmt.Sprintf("the Steward refuses (%s): %s", p.Code, p.Detail)
}

// suite is the one HPKE suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.AES256GCM() }

// info domain-separates and binds a sealed message to one enrolment.
func info(challenge, spki, steward [32]byte) []byte {
	out := []byte("donjon/enrol-secrets/1\x00")
	for _, part := range [][]byte{challenge[:], spki[:], steward[:]} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}

// Binding is what a sealed message is bound to beside the sealing key: the challenge,
// the certified key's SubjectPublicKeyInfo and the Steward's.
type Binding struct {
	Challenge []byte
	SPKI      []byte
	Steward   []byte
}

func (b Binding) info() []byte {
	return info(sha256.Sum256(b.Challenge), sha256.Sum256(b.SPKI), sha256.Sum256(b.Steward))
}

// Seal seals secrets to a Keep's sealing key.
func Seal(sealingKey []byte, b Binding, s Secrets) ([]byte, error) {
	if len(s) > MaxSecrets {
		return nil, fmt.Errorf("protocol: %d secrets, at most %d", len(s), MaxSecrets)
	}
	for name, v := range s {
		if len(v) > MaxSecret {
			return nil, fmt.Errorf("protocol: the secret %q has %d bytes, at most %d", name, len(v), MaxSecret)
		}
	}
	pub, err := ecdh.X25519().NewPublicKey(sealingKey)
	if err != nil {
		return nil, fmt.Errorf("protocol: the sealing key: %w", err)
	}
	key, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("protocol: the sealing key: %w", err)
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	kdf, aead := suite()
	return hpke.Seal(key, kdf, aead, b.info(), plain)
}

// Open opens what Seal sealed.
func Open(key *ecdh.PrivateKey, b Binding, sealed []byte) (Secrets, error) {
	priv, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("protocol: the sealing key: %w", err)
	}
	kdf, aead := suite()
	plain, err := hpke.Open(priv, kdf, aead, b.info(), sealed)
	if err != nil {
		return nil, errors.New("protocol: the secrets are not sealed to this Keep's enrolment")
	}
	defer clear(plain)
	var s Secrets
	if err := json.Unmarshal(plain, &s); err != nil || len(s) > MaxSecrets {
		return nil, errors.New("protocol: the secrets are not in their form")
	}
	return s, nil
}
