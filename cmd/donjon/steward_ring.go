//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/donjon-tee/donjon/steward/sealing"
)

// openRing opens the keys that seal secrets, and makes the first where the state is made.
func (a *app) openRing(s *state, o stateOptions) error {
	dir := s.dir
	if o.sealing == nil {
		o.sealing = s.serving.Sealing
	}
	if o.move != nil {
		o.sealing = o.move.from(o.sealing, sealingDir(s.path(stewardKeys)))
	}
	keys, err := a.sealingConfig(o.sealing, s.path(stewardKeys))
	if err == nil && o.move != nil {
		from := keys
		if old := o.move.oldKeep; old != "" {
			if from.Keep == nil {
				return usageError(fmt.Errorf("--sealing-old-keep opens keys of the kind keep, and found %s", from.Kind))
			}
			from.Keep.Use = func(ctx context.Context, tee string, use func(sealing.SealerKeep) error) error {
				return a.useSealerOf(ctx, old, tee, use)
			}
		}
		keys, err = a.sealingConfig(o.move, s.path(stewardKeys))
		keys.From = &from
		o.sealing = o.move
	}
	if err != nil {
		return err
	}
	s.serving.Sealing = nil
	if o.sealing != nil {
		s.serving.Sealing = o.sealing.recorded()
	}
	if !o.create {
		if err := firstKeyThere(dir, keys.Dir); err != nil {
			return err
		}
	}
	if keys.Keep != nil {
		// Whoever lets policies admit simulated evidence has allowed this too.
		keys.Keep.AllowSimulated = keys.Keep.AllowSimulated || s.serving.AllowSimulated
		if keys.Lazy = !o.create && o.move == nil; keys.Lazy { // a verb that needs no key starts no Keep
			keys.Keep.Use = a.saysWhy(keys.Keep.Use)
		}
		s.sealedFirst = notThere(filepath.Join(keys.Dir, sealing.Current))
	}
	if keys.From != nil && keys.From.Keep != nil {
		keys.From.Keep.AllowSimulated = keys.From.Keep.AllowSimulated || s.serving.AllowSimulated
	}
	ring, err := sealing.Open(keys)
	for _, c := range []*sealing.Config{&keys, keys.From} {
		if c != nil {
			clear(c.Token.PIN)
			clear(c.Passphrase)
		}
	}
	if err != nil {
		return sealingError(err, keys.Dir)
	}
	s.ring = ring
	return nil
}

// firstKeyThere refuses to go on where opening the keys would make the first one: a verb
// knows no steward.toml, and that key would not be protected as it says.
func firstKeyThere(dir, keys string) error {
	if !notThere(filepath.Join(keys, sealing.Current)) {
		return nil
	}
	return failHint(statusFailed, "donjon steward serve --state "+dir+" makes the first", fmt.Errorf("%s holds no key that seals secrets", keys))
}
