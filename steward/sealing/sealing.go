// Package sealing keeps secrets unreadable in a database: they are sealed with
// AES-256-GCM under a key that the database does not hold. The key is in a file, in a
// file under a passphrase (age, scrypt), in a file under a key that stays in a
// PKCS#11 token, or in one that a Keep sealed and opens (keep.go). Keys have ids, and a
// new one can take over while what the old ones sealed is sealed again.
//
// What is sealed is stored by steward/store. How secrets travel to a Keep is
// steward/protocol's matter, and has nothing to do with these keys.
package sealing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Keeper seals and opens.
type Keeper interface {
	// Seal seals under the current key, and says which one that was. aad is not
	// hidden, but Open fails with another one: see AAD.
	Seal(plaintext, aad []byte) (sealed []byte, keyID string, err error)
	// Open gives back the plaintext; the caller zeroes it after use. Errors:
	// ErrOpen, ErrKeyUnknown.
	Open(sealed, aad []byte) ([]byte, error)
	// KeyID is the current key's.
	KeyID() (string, error)
}

// MaxPlaintext bounds what is sealed, in bytes.
const MaxPlaintext = 64 << 10

// Overhead is how much longer the sealed form is, in bytes.
const Overhead = headerSize + nonceSize + 16

// The errors.
var (
	ErrOpen       = errors.New("sealing: what was sealed was changed, or belongs elsewhere")
	ErrMAC        = errors.New("sealing: what was authenticated was changed, or belongs elsewhere")
	ErrKeyUnknown = errors.New("sealing: the key is not here")
	ErrKeyFile    = errors.New("sealing: the key file cannot be used")
	ErrPassphrase = errors.New("sealing: the passphrase does not open the key")
	ErrKind       = errors.New("sealing: the key is of another kind")
	ErrToken      = errors.New("sealing: the token cannot be used")
	ErrTokenKey   = errors.New("sealing: the token's key cannot be used")
	ErrPIN        = errors.New("sealing: the token's PIN cannot be used")
	ErrKeep       = errors.New("sealing: the sealer Keep cannot be used")
	// ErrKeepRefused wraps the *verdict.Error that says why.
	ErrKeepRefused  = errors.New("sealing: the sealer Keep is not one that these keys may be given to")
	ErrWeak         = errors.New("sealing: the passphrase is too short")
	ErrTooLarge     = errors.New("sealing: too large")
	ErrNotSupported = errors.New("sealing: not supported yet")
)

const (
	form       = 1
	keySize    = 32
	idSize     = 8
	saltSize   = 32
	headerSize = 1 + idSize + saltSize
	nonceSize  = 12
)

const (
	recordLabel = "donjon steward sealing/1 record"
	macLabel    = "donjon steward sealing/1 mac"
)

// AAD binds a sealed secret to its place and to the digest of the policy that it was
// set under: moved to another workload, name or version, or said to be for another
// policy, it does not open.
func AAD(workload, name string, version uint64, policy [32]byte) []byte {
	return place("donjon steward secret/2", workload, name, version, policy)
}

// Confirmation is what Ring.MAC is made over, so that a version of a secret may be
// released under a further policy.
func Confirmation(workload, name string, version uint64, policy [32]byte) []byte {
	return place("donjon steward confirmation/1", workload, name, version, policy)
}

// place is a label, a zero byte, workload and name with their lengths before them (32
// bits), the version (64 bits) and the policy's digest; big endian.
func place(label, workload, name string, version uint64, policy [32]byte) []byte {
	out := append([]byte(label), 0)
	for _, s := range []string{workload, name} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return append(binary.BigEndian.AppendUint64(out, version), policy[:]...)
}

// mac is HMAC-SHA-256 over the key's id, with its length before it (32 bits), and
// message, under a key that nothing else uses.
func mac(key []byte, id string, message []byte) ([]byte, error) {
	k, err := hkdf.Key(sha256.New, key, nil, macLabel, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	h := hmac.New(sha256.New, k)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(id))))
	h.Write([]byte(id))
	h.Write(message)
	return h.Sum(nil), nil
}

// keyID names a key without telling anything about it.
func keyID(key []byte) string {
	h := sha256.New()
	h.Write([]byte("donjon steward sealing/1 key id\x00"))
	h.Write(key)
	return hex.EncodeToString(h.Sum(nil)[:idSize])
}

// recordCipher is the cipher of one record: its key is derived with the record's own
// 32 random bytes, so however many are sealed under one key, nonces never meet.
func recordCipher(key, salt []byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key, salt, recordLabel, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal gives form, key id, salt, nonce, ciphertext with tag. All before the nonce is
// authenticated with aad.
func seal(key []byte, id string, plaintext, aad []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("%w: found %d bytes, at most %d", ErrTooLarge, len(plaintext), MaxPlaintext)
	}
	rawID, err := hex.DecodeString(id)
	if err != nil || len(rawID) != idSize {
		return nil, fmt.Errorf("%w: the key id %q", ErrKeyUnknown, id)
	}
	out := make([]byte, headerSize+nonceSize, len(plaintext)+Overhead)
	out[0] = form
	copy(out[1:], rawID)
	rand.Read(out[1+idSize:])
	aead, err := recordCipher(key, out[1+idSize:headerSize])
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, out[headerSize:], plaintext, bind(out[:headerSize], aad)), nil
}

// bind is the AAD of the cipher: the header, whose size is fixed, and the caller's.
func bind(header, aad []byte) []byte {
	return append(append(make([]byte, 0, len(header)+len(aad)), header...), aad...)
}

// sealedBy gives the id of the key that sealed.
func sealedBy(sealed []byte) (string, error) {
	if len(sealed) < Overhead || len(sealed) > MaxPlaintext+Overhead || sealed[0] != form {
		return "", fmt.Errorf("%w: it is not in the form of this package", ErrOpen)
	}
	return hex.EncodeToString(sealed[1 : 1+idSize]), nil
}

func open(key, sealed, aad []byte) ([]byte, error) {
	aead, err := recordCipher(key, sealed[1+idSize:headerSize])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, sealed[headerSize:headerSize+nonceSize], sealed[headerSize+nonceSize:], bind(sealed[:headerSize], aad))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
