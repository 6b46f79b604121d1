//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
)

// ringSealer seals secrets for their places in the store.
type ringSealer struct{ *sealing.Ring }

// Seal implements server.Sealer.
func (r ringSealer) Seal(k store.SecretKey, version uint64, policy audit.Digest, plain []byte) ([]byte, string, error) {
	return r.Ring.Seal(plain, sealing.AAD(k.Workload, k.Name, version, policy))
}

// Open implements server.Sealer.
func (r ringSealer) Open(s store.Secret) ([]byte, error) {
	return r.Ring.Open(s.Sealed, sealing.AAD(s.Workload, s.Name, s.Version, s.Policy))
}

// Confirm implements server.Sealer.
func (r ringSealer) Confirm(k store.SecretKey, version uint64, policy audit.Digest) (store.Confirmation, error) {
	sum, id, err := r.MAC(sealing.Confirmation(k.Workload, k.Name, version, policy))
	return store.Confirmation{Policy: policy, MAC: sum, KeyID: id}, err
}

// Confirmed implements server.Sealer.
func (r ringSealer) Confirmed(s store.Secret, c store.Confirmation) error {
	return r.VerifyMAC(sealing.Confirmation(s.Workload, s.Name, s.Version, c.Policy), c.KeyID, c.MAC)
}

// ringGuard authenticates rows of the store.
type ringGuard struct{ *sealing.Ring }

// Verify implements store.Guard.
func (r ringGuard) Verify(message []byte, keyID string, sum []byte) error {
	err := r.VerifyMAC(message, keyID, sum)
	if errors.Is(err, sealing.ErrKind) { // it lies there, of a move that was cut off
		return err
	}
	if errors.Is(err, sealing.ErrKeyUnknown) {
		return fmt.Errorf("%w: %w: %w", store.ErrTampered, store.ErrKeyGone, err)
	}
	if errors.Is(err, sealing.ErrMAC) {
		return fmt.Errorf("%w: %w", store.ErrTampered, err)
	}
	return err
}

// sealingDir is the folder of sealing keys in that of keys.
func sealingDir(keys string) string { return filepath.Join(keys, "sealing") }
