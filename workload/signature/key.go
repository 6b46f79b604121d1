package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxKeyFile bounds a key's file, in bytes: with a text before it there is room.
const maxKeyFile = 16 << 10

// KeyID names a signer: SHA-256 of the key's SubjectPublicKeyInfo, DER.
type KeyID [32]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseKeyID reads 64 lower-case hexadecimal digits.
func ParseKeyID(s string) (KeyID, error) {
	var id KeyID
	b, err := hex.DecodeString(s)
	if err == nil && len(b) == len(id) {
		copy(id[:], b)
		if id.String() == s {
			return id, nil
		}
	}
	return KeyID{}, fmt.Errorf("signature: found the signer %.200q, wanted a key id, 64 lower-case hexadecimal digits", s)
}

// PublicKey is a signer's key: Ed25519 or ECDSA P-256.
type PublicKey struct {
	key crypto.PublicKey
	der []byte
	id  KeyID
}

// ID names the key.
func (k *PublicKey) ID() KeyID { return k.id }

// PEM is the key as a file has it: SubjectPublicKeyInfo in PEM.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.der})
}

// NewPublicKey takes a key of the two kinds.
func NewPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, errors.New("signature: an Ed25519 key of a wrong size")
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("signature: found an ECDSA key on %s, wanted P-256", k.Curve.Params().Name)
		}
	default:
		return nil, fmt.Errorf("signature: found a key of the type %T, wanted Ed25519 or ECDSA P-256", key)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("signature: the public key: %w", err)
	}
	return &PublicKey{key, der, sha256.Sum256(der)}, nil
}

// parseSPKI reads the one DER form of a key: a key has one id only.
func parseSPKI(der []byte) (*PublicKey, error) {
	if len(der) > 128 {
		return nil, fmt.Errorf("signature: found a public key of %d bytes, wanted Ed25519 (44) or ECDSA P-256 (91)", len(der))
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("signature: the public key: %w", err)
	}
	k, err := NewPublicKey(key)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.der, der) {
		return nil, errors.New("signature: the public key is not in its one form")
	}
	return k, nil
}

// ParsePublicKey reads a public key's file: one PEM block PUBLIC KEY; text may stand
// before it.
func ParsePublicKey(file []byte) (*PublicKey, error) {
	b, err := block(file, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	return parseSPKI(b)
}

// ParsePrivateKey reads a private key's file: one PEM block PRIVATE KEY (PKCS#8), not
// encrypted.
func ParsePrivateKey(file []byte) (crypto.Signer, error) {
	b, err := block(file, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, errors.New("signature: the private key is no PKCS#8 that can be read") // the reason may quote it
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("signature: found a key of the type %T, wanted Ed25519 or ECDSA P-256", key)
	}
	_, err = NewPublicKey(s.Public())
	return s, err
}

// NewKey makes an Ed25519 key and gives it as a file has it.
func NewKey() (*PublicKey, []byte, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("signature: making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, fmt.Errorf("signature: making a key: %w", err)
	}
	k, err := NewPublicKey(pub)
	return k, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func block(file []byte, kind string) ([]byte, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("signature: found a key file of %d bytes, at most %d", len(file), maxKeyFile)
	}
	b, rest := pem.Decode(file)
	if b == nil {
		return nil, fmt.Errorf("signature: found no PEM, wanted a block %s", kind)
	}
	if b.Type != kind || len(b.Headers) > 0 {
		return nil, fmt.Errorf("signature: found a PEM block %.40q, wanted %s", b.Type, kind)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("signature: found something behind the block %s, wanted one key", kind)
	}
	return b.Bytes, nil
}
