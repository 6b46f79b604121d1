package storetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/donjon-tee/donjon/steward/store"
)

// Guard is a store.Guard for tests. Its keys are their ids: they keep nothing secret.
type Guard struct {
	ID      string // of the current key; "": k1
	Retired string // the id of a key that is gone
}

func (g Guard) sum(id string, message []byte) []byte {
	h := hmac.New(sha256.New, []byte(id))
	h.Write(message)
	return h.Sum(nil)
}

// MAC implements store.Guard.
func (g Guard) MAC(message []byte) ([]byte, string, error) {
	id := g.ID
	if id == "" {
		id = "k1"
	}
	return g.sum(id, message), id, nil
}

// Verify implements store.Guard.
func (g Guard) Verify(message []byte, keyID string, sum []byte) error {
	if keyID == g.Retired {
		return fmt.Errorf("%w: %w: %s", store.ErrTampered, store.ErrKeyGone, keyID)
	}
	if !hmac.Equal(sum, g.sum(keyID, message)) {
		return fmt.Errorf("%w: under the key %s", store.ErrTampered, keyID)
	}
	return nil
}
