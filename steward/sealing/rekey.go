package sealing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Rekey puts the keys of from under the protection that to asks for: in from's own
// folder, where to is of another kind and the old files go, or in a folder without keys,
// which becomes a copy. Ids stay, so nothing is sealed again. Cut off, it is done again
// and goes on. from is of no more use after a move.
//
// Where the old files protected less, what lies in backups and on the disk still does:
// a new key (Rotate) is what ends that.
func Rekey(from *Ring, to Config) error {
	p, err := protector(&to)
	if err != nil {
		return err
	}
	defer p.Close()
	move := filepath.Clean(to.Dir) == filepath.Clean(from.c.Dir)
	if move && p.Ext() == from.p.Ext() {
		return fmt.Errorf("%w: found keys of the kind %s, wanted another than that to move to", ErrKind, to.Kind)
	}
	if err := os.MkdirAll(to.Dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	dir, err := lock(to.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	current, err := from.KeyID()
	if err != nil {
		return err
	}
	ids, err := from.KeyIDs()
	if err != nil {
		return err
	}
	if !move {
		if there, _, err := list(to.Dir); err != nil || len(there) > 0 {
			return errors.Join(err, fmt.Errorf("%w: %s holds %d keys, wanted none", ErrKeyFile, to.Dir, len(there)))
		}
	}
	target := &Ring{c: to, p: p, keys: map[string][]byte{}}
	defer target.Close()
	for _, id := range ids {
		if err := target.adopt(from, id); err != nil {
			return err
		}
	}
	if !move {
		return target.place(currentFile, []byte(current+"\n"), false)
	}
	return from.leave(ids)
}

// adopt wraps a key of another ring; one that is here and opens stays.
func (r *Ring) adopt(from *Ring, id string) error {
	_, err := r.key(id)
	if err == nil {
		return nil
	}
	here := err
	key, err := from.key(id)
	if err != nil {
		if !errors.Is(here, ErrKeyUnknown) {
			err = errors.Join(err, here)
		}
		return err
	}
	content, err := r.p.Wrap(id, key)
	if err != nil {
		return err
	}
	defer clear(content)
	if err := r.place(filepath.Base(r.path(id)), content, true); err != nil {
		return err
	}
	_, err = r.key(id) // what was written opens
	return err
}

// leave removes the files of the kind that the keys had.
func (r *Ring) leave(ids []string) error {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, r.path(id))
	}
	if r.c.Kind == KindKeep {
		policies, err := filepath.Glob(filepath.Join(r.c.Dir, policyFile("*")))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrKeyFile, err)
		}
		names = slices.Concat(names, policies)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrKeyFile, err)
		}
	}
	dir, err := os.Open(r.c.Dir)
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}
