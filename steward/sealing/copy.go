package sealing

import (
	"errors"
	"fmt"
	"os"
)

// Copy writes the keys of a ring into a folder without keys, protected as to says: for
// the day when what protects them here is gone. Ids stay, so a ring of the copy opens
// what from's sealed. Keys that from cannot open, of another kind, are an error, and
// no copy: a move that was cut off left them. Errors: those of Open.
func Copy(from *Ring, to Config) error {
	by, err := protect(to)
	if err != nil {
		return err
	}
	defer by.close()
	current, err := from.KeyID()
	if err != nil {
		return err
	}
	ids, err := from.KeyIDs()
	if err != nil {
		return err
	}
	if all, err := from.files(); err != nil || len(all) != len(ids) {
		return errors.Join(err, fmt.Errorf("%w: %d of the %d keys in %s are of another kind: rotate first, which ends a move that was cut off", ErrKind, len(all)-len(ids), len(all), from.dir))
	}
	// The keys first: where they do not open nothing is made.
	for _, id := range ids {
		if _, err := from.key(id); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(to.Dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if there, err := files(to.Dir, ""); err != nil || len(there) > 0 {
		return errors.Join(err, fmt.Errorf("%w: %s holds %d keys, wanted none", ErrKeyFile, to.Dir, len(there)))
	}
	by.first()
	for _, id := range ids {
		key, err := from.key(id)
		if err != nil {
			return err
		}
		content, err := by.wrap(id, key)
		if err != nil {
			return err
		}
		if err := placeIn(to.Dir, id+extensions[by.kind()], content, false); err != nil {
			return err
		}
		clear(content)
	}
	return placeIn(to.Dir, Current, []byte(current+"\n"), false)
}
