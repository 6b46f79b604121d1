package authority

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Rotate makes a new root and new intermediates, which issue from now on. The root
// before stays in ca.pem, and certifies the new one, until Retire.
func (a *Authority) Rotate() error {
	err := locked(a.dir, func() error {
		if err := a.load(); err != nil {
			return err
		}
		last := a.current()
		if err := a.createGeneration(last.number+1, last); err != nil {
			return err
		}
		return a.load()
	})
	if err != nil {
		return fmt.Errorf("authority: rotating: %w", err)
	}
	return nil
}

// ErrOne says that there is one root alone, and none to retire.
var ErrOne = errors.New("there is one root: rotate first")

// Retire takes every root but the newest out of use: what they certified no longer
// chains to ca.pem. Their folders are kept beside, under another name.
func (a *Authority) Retire() error {
	err := locked(a.dir, func() error {
		if err := a.load(); err != nil {
			return err
		}
		list := a.set.Load().generations
		if len(list) == 1 {
			return ErrOne
		}
		for _, g := range list[:len(list)-1] {
			if err := os.Rename(a.generationDir(g.number), a.path(fmt.Sprintf("retired-%04d", g.number))); err != nil {
				return err
			}
		}
		// The newest root now stands alone: nobody needs the way from the one before.
		if err := os.Remove(filepath.Join(a.generationDir(list[len(list)-1].number), "cross.pem")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return a.load()
	})
	if err != nil {
		return fmt.Errorf("authority: retiring: %w", err)
	}
	return nil
}

// NewChallengeKey makes a key that seals challenges from now on. With drop those
// before are removed: what they sealed is no longer accepted (THREATS T15).
func (a *Authority) NewChallengeKey(drop bool) error {
	err := locked(a.dir, func() error {
		if drop {
			old, err := filepath.Glob(a.path(challengeName + "*"))
			if err != nil {
				return err
			}
			for _, path := range old {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
		if err := a.createChallengeKey(); err != nil {
			return err
		}
		return a.load()
	})
	if err != nil {
		return fmt.Errorf("authority: a new challenge key: %w", err)
	}
	return nil
}

func (a *Authority) current() *generation {
	list := a.set.Load().generations
	return list[len(list)-1]
}

// above are the certificates between an intermediate of the current generation and
// any root that is still pinned: the cross-certificates, newest first.
func (a *Authority) above() [][]byte {
	list := a.set.Load().generations
	var out [][]byte
	for i := len(list) - 1; i > 0; i-- {
		if c := list[i].cross; c != nil {
			out = append(out, c.Raw)
		}
	}
	return out
}
