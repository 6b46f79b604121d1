package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/steward/store"
)

// seenKey is the value that keeps the newest collateral seen.
const seenKey = "collateral/seen"

// seen keeps the newest collateral seen in the store: over restarts, and for all
// replicas (THREATS T25).
type seen struct {
	store store.Store
	have  *collateral.HighWater
	log   *slog.Logger
	known []byte // as it was last read or written
}

// sync takes up what others saw, and adds what was seen here. One goroutine at a time.
func (s *seen) sync(ctx context.Context) error {
	if s.have == nil {
		return nil
	}
	for range 5 {
		v, err := s.store.Value(ctx, seenKey)
		switch {
		case errors.Is(err, store.ErrNotFound):
			v = &store.Value{}
		case errors.Is(err, store.ErrTampered) && v != nil:
			// Not believed, and written over by what this server has seen itself.
			s.log.Error("what was seen of collateral was changed in the database", "error", err)
			s.known = nil
		case err != nil:
			return fmt.Errorf("what was seen of collateral: %w", err)
		}
		if len(v.Data) > 0 && !bytes.Equal(v.Data, s.known) {
			others, err := collateral.LoadHighWater(v.Data)
			if err != nil {
				return err
			}
			s.have.Merge(others)
		}
		data, err := s.have.Save()
		if err != nil {
			return err
		}
		if bytes.Equal(data, v.Data) || s.have.Len() == 0 {
			s.known = v.Data
			return nil
		}
		err = s.store.PutValue(ctx, seenKey, store.Value{Data: data, Version: v.Version + 1})
		if err == nil {
			s.known = data
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("what was seen of collateral: %w", err)
		}
	}
	return fmt.Errorf("what was seen of collateral: %w", store.ErrBusy)
}
