package audit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// MaxHead bounds a head's bytes.
const MaxHead = 512

// Head is the log's end at one moment, signed: whoever holds one can tell later
// whether the log was cut or rewritten before it. Certificates, tokens and refusals
// carry one.
type Head struct {
	Log       LogID
	Epoch     uint64
	Seq       uint64
	Hash      Digest // of record Seq
	Time      int64  // microseconds since 1970, UTC
	Signature []byte
}

// headForm is a head's CBOR: an array.
type headForm struct {
	_         struct{} `cbor:",toarray"`
	Form      uint64
	Log       LogID
	Epoch     uint64
	Seq       uint64
	Hash      Digest
	Time      int64
	Signature []byte
}

const headLabel = "donjon steward audit head/1\x00"

// The errors of heads.
var (
	ErrHead      = errors.New("audit: the head is not in its form")
	ErrSignature = errors.New("audit: the head is not signed with a key of this log")
	ErrKey       = errors.New("audit: keys are Ed25519 or ECDSA P-256")
)

// signed is what the signature is over: a label and fixed-size fields, big endian.
func (h *Head) signed() []byte {
	b := []byte(headLabel)
	b = append(b, h.Log[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Seq)
	b = append(b, h.Hash[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(h.Time))
}

// CheckKey says whether a public key can sign heads.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return nil
		}
	case *ecdsa.PublicKey:
		if k != nil && k.Curve == elliptic.P256() {
			return nil
		}
	}
	return fmt.Errorf("%w: found %T", ErrKey, key)
}

// Sign signs a head. The key is Ed25519 or ECDSA P-256.
func Sign(key crypto.Signer, log LogID, epoch, seq uint64, hash Digest, at time.Time) (*Head, error) {
	if err := CheckKey(key.Public()); err != nil {
		return nil, err
	}
	h := &Head{Log: log, Epoch: epoch, Seq: seq, Hash: hash, Time: at.UnixMicro()}
	var err error
	if h.Signature, err = sign(key, h.signed()); err != nil {
		return nil, err
	}
	return h, nil
}

// sign is Ed25519 over msg, or ECDSA P-256 (ASN.1) over its SHA-256.
func sign(key crypto.Signer, msg []byte) ([]byte, error) {
	opts := crypto.SignerOpts(crypto.Hash(0))
	if _, ok := key.Public().(*ecdsa.PublicKey); ok {
		sum := sha256.Sum256(msg)
		msg, opts = sum[:], crypto.SHA256
	}
	sig, err := key.Sign(rand.Reader, msg, opts)
	if err != nil {
		return nil, fmt.Errorf("audit: signing: %w", err)
	}
	return sig, nil
}

// verifies says whether one of the keys made the signature.
func verifies(msg, signature []byte, keys []crypto.PublicKey) bool {
	for _, key := range keys {
		switch k := key.(type) {
		case ed25519.PublicKey:
			if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, msg, signature) {
				return true
			}
		case *ecdsa.PublicKey:
			sum := sha256.Sum256(msg)
			if CheckKey(k) == nil && ecdsa.VerifyASN1(k, sum[:], signature) {
				return true
			}
		}
	}
	return false
}

// Verify says whether one of the keys signed the head.
func (h *Head) Verify(keys ...crypto.PublicKey) error {
	if verifies(h.signed(), h.Signature, keys) {
		return nil
	}
	return fmt.Errorf("%w: the head of record %d, %d keys tried", ErrSignature, h.Seq, len(keys))
}

// At is when it was signed.
func (h *Head) At() time.Time { return time.UnixMicro(h.Time).UTC() }

// Encode gives the head's bytes, deterministic CBOR.
func (h *Head) Encode() ([]byte, error) {
	b, err := encoding.Marshal(headForm{Form: 1, Log: h.Log, Epoch: h.Epoch, Seq: h.Seq, Hash: h.Hash, Time: h.Time, Signature: h.Signature})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHead, err)
	}
	if len(b) > MaxHead {
		return nil, fmt.Errorf("%w: found %d bytes, at most %d", ErrHead, len(b), MaxHead)
	}
	return b, nil
}

// ParseHead reads a head. Its signature is not looked at: that is Verify.
func ParseHead(b []byte) (*Head, error) {
	if len(b) > MaxHead {
		return nil, fmt.Errorf("%w: found %d bytes, at most %d", ErrHead, len(b), MaxHead)
	}
	var f headForm
	if err := decoding.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHead, err)
	}
	if f.Form != 1 || f.Seq == 0 || len(f.Signature) == 0 {
		return nil, fmt.Errorf("%w: found form %d, record %d, a signature of %d bytes", ErrHead, f.Form, f.Seq, len(f.Signature))
	}
	h := &Head{Log: f.Log, Epoch: f.Epoch, Seq: f.Seq, Hash: f.Hash, Time: f.Time, Signature: f.Signature}
	again, err := h.Encode()
	if err != nil {
		return nil, err
	}
	if string(again) != string(b) {
		return nil, fmt.Errorf("%w: its CBOR is not deterministic", ErrHead)
	}
	return h, nil
}

// Text is the head as people copy it: base64url without padding.
func (h *Head) Text() (string, error) {
	b, err := h.Encode()
	return base64.RawURLEncoding.EncodeToString(b), err
}

// ParseHeadText reads what Text gave.
func ParseHeadText(s string) (*Head, error) {
	if len(s) > 2*MaxHead {
		return nil, fmt.Errorf("%w: found %d characters", ErrHead, len(s))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHead, err)
	}
	return ParseHead(b)
}
