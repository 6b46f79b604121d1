//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/steward/store"
)

// claim says that a server runs, until unlock: the only one on a state folder with a
// database of its own, one of many on a PostgreSQL. end is called where somebody moves the
// sealing keys after all, as he can while the database does not know of this server: it
// would go on with the old ones.
func (a *app) claim(ctx context.Context, dir, database string, log *slog.Logger, end func(error)) (unlock func(), err error) {
	if database == "" {
		return lockState(dir)
	}
	unlock, err = store.Serving(ctx, database, func(err error) {
		if errors.Is(err, store.ErrServing) {
			end(keysMove(err))
			return
		}
		log.Error("the database does not know that this server runs: nobody may move the sealing keys", "error", err)
	})
	if errors.Is(err, store.ErrServing) {
		return nil, keysMove(err)
	}
	return unlock, lockError(dir, database, err)
}

func keysMove(err error) error {
	return failHint(statusFailed, "donjon steward rotate --sealing-key --sealing KIND runs on this database: start again once it has ended, with its settings", fmt.Errorf("the sealing keys are being moved: %w", err))
}

// alone keeps servers off while the sealing keys are moved: those that run would go on
// with what they have read.
func (a *app) alone(ctx context.Context, dir, database string) (unlock func(), err error) {
	if database == "" {
		return lockState(dir)
	}
	unlock, err = store.Alone(ctx, database)
	if errors.Is(err, store.ErrServing) {
		return nil, failHint(statusFailed, "end every server on the database, on every machine, and move the keys then", fmt.Errorf("servers run, or another process moves the keys: %w", err))
	}
	return unlock, lockError(dir, database, err)
}

func lockError(dir, database string, err error) error {
	if err == nil {
		return nil
	}
	return (&state{dir: dir, serving: serving{Database: database}}).databaseError(err)
}

// lockState keeps a second server off a state folder with a database of its own: it would
// change what the other verbs read of the first (serving.json), --allow-simulated too.
// The lock goes with the process, however that ends.
func lockState(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, folderError(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, stewardLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, folderError(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, failHint(statusFailed, "end it first, or name another --state; many servers share a PostgreSQL (--database)", fmt.Errorf("another server runs on %s", dir))
		}
		return nil, fail(statusFailed, fmt.Errorf("locking %s: %w", f.Name(), err))
	}
	return func() { _ = f.Close() }, nil
}
