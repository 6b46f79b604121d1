// Package signature is a signer's word on a workload: that the manifest with this
// digest is version V of the workload N. It is a DSSE envelope over an in-toto
// statement, so that it can travel as an OCI referrer and other tools can read it;
// docs/signing.md has the form in words.
//
// Every part has one form only: what is read is encoded again and compared, so nothing
// (a repeated key, an order, a space, a byte behind) can mean one thing here and
// another elsewhere. A good signature says who signed. Whether that signer may is for
// the reader to say: nothing here trusts a key.
package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/donjon-tee/donjon/workload"
)

// Bounds. Sizes are bytes.
const (
	MaxSize    = 4 << 10 // an envelope; those made here have less than 1 KiB
	MaxCount   = 8       // envelopes beside a workload, and in an enrolment
	MaxName    = 128
	MaxVersion = 1<<53 - 1 // what every reader of JSON reads as the same number
)

// What stands in every envelope (DSSE v1, in-toto Statement v1).
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://github.com/donjon-tee/donjon/signed-workload/v1"
)

// Statement is what is signed.
type Statement struct {
	Workload workload.Digest // of the manifest
	Name     string          // see CheckName
	Version  uint64          // 1 to MaxVersion; the higher is the newer
	Signer   *PublicKey      // whose word it is
}

// CheckName refuses what is no workload's name: 1 to 128 lower-case letters, digits,
// dots, hyphens and underscores, a letter or digit first and last. Nothing in it needs
// escaping anywhere, and no two look alike.
func CheckName(s string) error {
	ok := len(s) >= 1 && len(s) <= MaxName
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = alnum || i > 0 && i < len(s)-1 && (c == '.' || c == '-' || c == '_')
	}
	if !ok {
		return fmt.Errorf("signature: found the name %.200q, wanted 1 to %d lower-case letters and digits, with dots, hyphens and underscores between them", s, MaxName)
	}
	return nil
}

// CheckVersion refuses what is no version.
func CheckVersion(v uint64) error {
	if v < 1 || v > MaxVersion {
		return fmt.Errorf("signature: found the version %d, wanted 1 to %d", v, uint64(MaxVersion))
	}
	return nil
}

// The JSON of a statement, its members in the order of in-toto's specification.
type jsonStatement struct {
	Type          string        `json:"_type"`
	Subject       []jsonSubject `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     jsonPredicate `json:"predicate"`
}

type jsonSubject struct {
	Name   string     `json:"name"`
	Digest jsonDigest `json:"digest"`
}

type jsonDigest struct {
	SHA256 string `json:"sha256"`
}

type jsonPredicate struct {
	Key     []byte `json:"key"` // SubjectPublicKeyInfo, DER
	Version uint64 `json:"version"`
}

// encode gives the statement's bytes: compact JSON, nothing optional.
func (s Statement) encode() ([]byte, error) {
	if err := CheckName(s.Name); err != nil {
		return nil, err
	}
	if err := CheckVersion(s.Version); err != nil {
		return nil, err
	}
	if s.Signer == nil {
		return nil, errors.New("signature: no signer")
	}
	return json.Marshal(jsonStatement{StatementType, []jsonSubject{{s.Name, jsonDigest{hex.EncodeToString(s.Workload[:])}}},
		PredicateType, jsonPredicate{s.Signer.der, s.Version}})
}

func parseStatement(b []byte) (Statement, error) {
	var j jsonStatement
	if err := json.Unmarshal(b, &j); err != nil {
		return Statement{}, fmt.Errorf("signature: the statement is no JSON of the wanted form: %w", err)
	}
	if j.Type != StatementType || j.PredicateType != PredicateType {
		return Statement{}, fmt.Errorf("signature: found a statement of the type %.200q about %.200q, wanted %q about %q", j.Type, j.PredicateType, StatementType, PredicateType)
	}
	if len(j.Subject) != 1 {
		return Statement{}, fmt.Errorf("signature: found a statement about %d things, wanted 1", len(j.Subject))
	}
	s := Statement{Name: j.Subject[0].Name, Version: j.Predicate.Version}
	var err error
	if s.Workload, err = workload.ParseDigest("sha256:" + j.Subject[0].Digest.SHA256); err != nil {
		return Statement{}, fmt.Errorf("signature: the subject's %w", err)
	}
	if s.Signer, err = parseSPKI(j.Predicate.Key); err != nil {
		return Statement{}, err
	}
	again, err := s.encode()
	if err != nil {
		return Statement{}, err
	}
	if !bytes.Equal(again, b) {
		return Statement{}, errors.New("signature: the statement is not in its one form")
	}
	return s, nil
}

// Envelope is a statement with its signature, which Parse does not verify.
type Envelope struct {
	Statement
	sig     []byte
	payload []byte
}

type jsonEnvelope struct {
	PayloadType string          `json:"payloadType"`
	Payload     []byte          `json:"payload"`
	Signatures  []jsonSignature `json:"signatures"`
}

type jsonSignature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Encode gives the envelope's bytes: compact JSON without a newline.
func (e *Envelope) Encode() ([]byte, error) {
	return json.Marshal(jsonEnvelope{PayloadType, e.payload, []jsonSignature{{e.Signer.ID().String(), e.sig}}})
}

// Parse reads an envelope, which may be hostile. It verifies nothing.
func Parse(b []byte) (*Envelope, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("signature: found %d bytes, at most %d", len(b), MaxSize)
	}
	var j jsonEnvelope
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("signature: it is no JSON of the wanted form: %w", err)
	}
	if j.PayloadType != PayloadType {
		return nil, fmt.Errorf("signature: found the payload type %.200q, wanted %q", j.PayloadType, PayloadType)
	}
	if len(j.Signatures) != 1 {
		return nil, fmt.Errorf("signature: found %d signatures in one envelope, wanted 1: its statement names one signer", len(j.Signatures))
	}
	s, err := parseStatement(j.Payload)
	if err != nil {
		return nil, err
	}
	e := &Envelope{s, j.Signatures[0].Sig, j.Payload}
	again, err := e.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("signature: it is not in its one form, or its key id is not the signer's")
	}
	return e, nil
}

// pae is what is signed: DSSE v1's pre-authentication encoding.
func pae(payload []byte) []byte {
	out := []byte("DSSEv1 " + strconv.Itoa(len(PayloadType)) + " " + PayloadType + " " + strconv.Itoa(len(payload)) + " ")
	return append(out, payload...)
}

// ErrSignature is a signature that the key named did not make.
var ErrSignature = errors.New("signature: the key that it names did not make it")

// Verify says whether the signer that the statement names made the signature:
// ErrSignature where not.
func (e *Envelope) Verify() error {
	msg, ok := pae(e.payload), false
	switch k := e.Signer.key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, msg, e.sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(msg)
		ok = ecdsa.VerifyASN1(k, sum[:], e.sig)
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

// Sign makes the envelope that says: this workload is version of name. The key is
// Ed25519 or ECDSA P-256.
func Sign(key crypto.Signer, digest workload.Digest, name string, version uint64) (*Envelope, error) {
	pub, err := NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	s := Statement{Workload: digest, Name: name, Version: version, Signer: pub}
	payload, err := s.encode()
	if err != nil {
		return nil, err
	}
	msg, opts := pae(payload), crypto.SignerOpts(crypto.Hash(0))
	if _, ok := pub.key.(*ecdsa.PublicKey); ok {
		sum := sha256.Sum256(msg)
		msg, opts = sum[:], crypto.SHA256
	}
	sig, err := key.Sign(rand.Reader, msg, opts)
	if err != nil {
		return nil, fmt.Errorf("signature: signing: %w", err)
	}
	e := &Envelope{s, sig, payload}
	if err := e.Verify(); err != nil { // a key in hardware may answer anything
		return nil, err
	}
	return e, nil
}
