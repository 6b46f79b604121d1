//go:build linux

package warden

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/link"
)

// What a Keep seals is opened by Keeps of the same workload in the same measured
// program, with the same guest policy, on the same processor, and by nobody else.
//
// The form: version u8 (1) ‖ guest SVN u32 ‖ TCB version u64 ‖ salt (32) ‖ nonce (12)
// ‖ ciphertext with tag (AES-256-GCM); big endian. SVN and TCB are those that the
// processor mixed into its key: firmware that is older than the committed one cannot
// derive it, and newer firmware still can. The key is HKDF-SHA-256 of the processor's
// key with the salt; see sealKey. All before the nonce is authenticated, with the
// caller's AAD.
const (
	sealVersion = 1
	sealSalt    = 32
	sealNonce   = 12
	sealTag     = 16
	sealHead    = 1 + 4 + 8 + sealSalt
	sealMin     = sealHead + sealNonce + sealTag
)

var errSealed = errors.New("warden: what was sealed was changed, or belongs to another workload, program or processor")

// A sealHeader is what a sealed form begins with.
type sealHeader struct {
	svn  uint32
	tcb  uint64
	salt [sealSalt]byte
}

func (h sealHeader) encode() []byte {
	b := binary.BigEndian.AppendUint32([]byte{sealVersion}, h.svn)
	return append(binary.BigEndian.AppendUint64(b, h.tcb), h.salt[:]...)
}

// parseSealed takes a sealed form apart. body is nonce and ciphertext.
func parseSealed(b []byte) (h sealHeader, body []byte, err error) {
	if len(b) < sealMin || len(b) > link.MaxSealed {
		return h, nil, fmt.Errorf("warden: a sealed form of %d bytes, wanted %d to %d", len(b), sealMin, link.MaxSealed)
	}
	if b[0] != sealVersion {
		return h, nil, fmt.Errorf("warden: a sealed form of version %d, wanted %d", b[0], sealVersion)
	}
	h.svn, h.tcb = binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint64(b[5:])
	copy(h.salt[:], b[13:])
	return h, b[sealHead:], nil
}

// sealContext is what a seal key is bound to beside what the processor mixes in.
type sealContext struct {
	workload [32]byte
	owner    []byte // id of an owner's key; empty: none
	policy   []byte // digest of a policy; empty: none
	minimum  uint64 // version
}

// sealKey derives the key of one sealed form. Every input has its length before it
// (u32), the label too, so that this is no other key of the Keep's.
func sealKey(root, salt []byte, c sealContext) ([]byte, error) {
	var info []byte
	for _, part := range [][]byte{[]byte("donjon seal v1"), c.workload[:], c.owner, c.policy, binary.BigEndian.AppendUint64(nil, c.minimum)} {
		info = binary.BigEndian.AppendUint32(info, uint32(len(part)))
		info = append(info, part...)
	}
	return hkdf.Key(sha256.New, root, salt, string(info), 32)
}

// A deriver gives the processor's key for a TCB version and a guest SVN.
type deriver func(tcb uint64, svn uint32) ([]byte, error)

func sealCipher(derive deriver, h sealHeader, c sealContext) (cipher.AEAD, error) {
	root, err := derive(h.tcb, h.svn)
	if err != nil {
		return nil, err
	}
	defer clear(root)
	key, err := sealKey(root, h.salt[:], c)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealBytes seals under the key of a TCB version and a guest SVN.
func sealBytes(derive deriver, tcb uint64, svn uint32, c sealContext, plain, aad []byte) ([]byte, error) {
	h := sealHeader{svn: svn, tcb: tcb}
	rand.Read(h.salt[:])
	aead, err := sealCipher(derive, h, c)
	if err != nil {
		return nil, err
	}
	out := h.encode()
	bound := append(append([]byte(nil), out...), aad...)
	nonce := make([]byte, sealNonce)
	rand.Read(nonce)
	return aead.Seal(append(out, nonce...), nonce, plain, bound), nil
}

// openSealed opens it again. Errors: errSealed, or that the processor gives no key.
func openSealed(derive deriver, c sealContext, sealed, aad []byte) ([]byte, error) {
	h, body, err := parseSealed(sealed)
	if err != nil {
		return nil, err
	}
	aead, err := sealCipher(derive, h, c)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, body[:sealNonce], body[sealNonce:], append(append([]byte(nil), sealed[:sealHead]...), aad...))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}
