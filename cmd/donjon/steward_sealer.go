//go:build linux

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
)

// fileSealer seals under the key in one file. PROVISIONAL: steward/sealing replaces it.
type fileSealer struct{ aead cipher.AEAD }

func openSealer(keys string) (server.Sealer, error) {
	path := filepath.Join(keys, "sealing.key")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, 32)
		rand.Read(b)
		err = authority.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return fileSealer{aead}, err
}

func aad(k store.SecretKey, version uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte("donjon secret/1\x00"), version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(k.Workload)))
	return append(append(b, k.Workload...), k.Name...)
}

func (f fileSealer) Seal(k store.SecretKey, version uint64, plain []byte) ([]byte, string, error) {
	return f.aead.Seal(nil, nil, plain, aad(k, version)), "file", nil
}

func (f fileSealer) Open(s store.Secret) ([]byte, error) {
	return f.aead.Open(nil, nil, s.Sealed, aad(s.SecretKey, s.Version))
}
