package sealing

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Ring is a Keeper with keys in a folder: a file for each, named by its id, and the
// file "current" that names the one that seals. Safe for many goroutines, and for
// many processes: what another one adds is found.
type Ring struct {
	dir  string
	lazy bool
	by   protector
	from protector // nil: no move

	reading sync.Mutex // a key: a token may take its time
	mu      sync.Mutex
	keys    map[string][]byte
}

// Current is the name of the file that names the key that seals.
const Current = "current"

// Open opens the keys. Errors: ErrNotSupported, ErrKeyFile, ErrKind, ErrPassphrase,
// ErrWeak, ErrToken, ErrPIN, ErrTokenKey, ErrKeep, ErrKeepRefused.
func Open(c Config) (*Ring, error) {
	r := &Ring{dir: c.Dir, lazy: c.Lazy, keys: map[string][]byte{}}
	var err error
	if r.by, err = protect(c); err != nil {
		return nil, err
	}
	if c.From != nil {
		from := *c.From
		from.Dir = c.Dir
		if r.from, err = protect(from); err != nil {
			r.Close()
			return nil, err
		}
	}
	if to, from, ok := r.keepToKeep(); ok {
		to.movesTo, from.movesFrom = true, true
	}
	if err := r.open(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// keepToKeep gives the two Keeps that keys move between.
func (r *Ring) keepToKeep() (to, from *keepProtector, ok bool) {
	to, ok = r.by.(*keepProtector)
	if ok {
		from, ok = r.from.(*keepProtector)
	}
	return to, from, ok
}

func (r *Ring) open() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if st, err := os.Stat(r.dir); err != nil || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: the folder %s is open to others; chmod 700 %s", ErrKeyFile, r.dir, r.dir)
	}
	id, err := r.KeyID()
	if errors.Is(err, fs.ErrNotExist) {
		id, err = r.first()
	}
	switch {
	case err != nil:
	case r.lazy:
		_, _, err = r.find(id)
	default:
		_, err = r.key(id)
	}
	return err
}

// first makes the first key, under a lock on the folder: of processes that start at
// once one makes it, and all use it.
func (r *Ring) first() (string, error) {
	dir, err := os.Open(r.dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer dir.Close() // which unlocks
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("%w: locking %s: %w", ErrKeyFile, r.dir, err)
	}
	if id, err := r.KeyID(); !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	files, err := r.files()
	if err != nil {
		return "", err
	}
	ids := slices.Sorted(maps.Keys(files))
	var id string
	switch len(ids) {
	case 0:
		id, err = r.add()
	case 1: // the first start ended here
		id = ids[0]
	default:
		err = fmt.Errorf("%w: %s holds %d keys, and no file %q with the id of the one that seals", ErrKeyFile, r.dir, len(ids), Current)
	}
	if err != nil {
		return "", err
	}
	return id, r.place(Current, []byte(id+"\n"), false)
}

// add makes a key and its file.
func (r *Ring) add() (string, error) {
	files, err := r.files()
	if err != nil {
		return "", err
	}
	if r.from != nil || !slices.Contains(slices.Collect(maps.Values(files)), r.by.kind()) {
		r.by.first()
	}
	key := make([]byte, keySize)
	rand.Read(key)
	id := keyID(key)
	content, err := r.by.wrap(id, key)
	if err != nil {
		return "", err
	}
	defer clear(content)
	if err := r.place(id+extensions[r.by.kind()], content, false); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[id] = key
	return id, nil
}

func validID(id string) bool {
	return len(id) == 2*idSize && strings.Trim(id, "0123456789abcdef") == ""
}

// KeyID is the current key's, as the folder says now.
func (r *Ring) KeyID() (string, error) {
	b, err := readPrivate(filepath.Join(r.dir, Current))
	if err != nil {
		return "", err
	}
	id := strings.TrimSuffix(string(b), "\n")
	if !validID(id) {
		return "", fmt.Errorf("%w: %s names no key", ErrKeyFile, filepath.Join(r.dir, Current))
	}
	return id, nil
}

// key gives a key, from its file the first time.
func (r *Ring) key(id string) ([]byte, error) {
	if k := r.cached(id); k != nil {
		return k, nil
	}
	r.reading.Lock()
	defer r.reading.Unlock()
	if k := r.cached(id); k != nil {
		return k, nil
	}
	path, by, err := r.find(id)
	if err != nil {
		return nil, err
	}
	file, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	key, err := by.unwrap(id, file)
	if r.from == by && r.by.kind() == by.kind() && (errors.Is(err, ErrTokenKey) || errors.Is(err, ErrPassphrase) || errors.Is(err, ErrKeep) || errors.Is(err, ErrKeepRefused)) {
		// A move that was cut off.
		if moved, merr := r.by.unwrap(id, file); merr == nil {
			key, err = moved, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if len(key) != keySize || keyID(key) != id {
		clear(key)
		return nil, fmt.Errorf("%w: %s does not hold the key of its name", ErrKeyFile, path)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[id] = key
	return key, nil
}

func (r *Ring) cached(id string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[id]
}

// find gives a key's file and what opens it.
func (r *Ring) find(id string) (string, protector, error) {
	for _, by := range []protector{r.from, r.by} {
		if by == nil {
			continue
		}
		path := filepath.Join(r.dir, id+extensions[by.kind()])
		if _, err := os.Lstat(path); err == nil {
			return path, by, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
		}
	}
	for kind, ext := range extensions {
		if _, err := os.Lstat(filepath.Join(r.dir, id+ext)); err == nil {
			return "", nil, fmt.Errorf("%w: %w: %s in %s is of the kind %s, wanted %s", ErrKeyUnknown, ErrKind, id, r.dir, kind, r.by.kind())
		}
	}
	return "", nil, fmt.Errorf("%w: %s in %s", ErrKeyUnknown, id, r.dir)
}

// Seal implements Keeper.
func (r *Ring) Seal(plaintext, aad []byte) ([]byte, string, error) {
	id, err := r.KeyID()
	if err != nil {
		return nil, "", err
	}
	key, err := r.key(id)
	if err != nil {
		return nil, "", err
	}
	sealed, err := seal(key, id, plaintext, aad)
	return sealed, id, err
}

// Open implements Keeper.
func (r *Ring) Open(sealed, aad []byte) ([]byte, error) {
	id, err := sealedBy(sealed)
	if err != nil {
		return nil, err
	}
	key, err := r.key(id)
	if err != nil {
		return nil, err
	}
	return open(key, sealed, aad)
}

// MAC authenticates message under the current key, and says which one that was.
func (r *Ring) MAC(message []byte) (sum []byte, keyID string, err error) {
	id, err := r.KeyID()
	if err != nil {
		return nil, "", err
	}
	key, err := r.key(id)
	if err != nil {
		return nil, "", err
	}
	sum, err = mac(key, id, message)
	return sum, id, err
}

// VerifyMAC says whether sum is MAC of message under the key of that id, in constant
// time. Errors: ErrMAC, ErrKeyUnknown, ErrKeyFile.
func (r *Ring) VerifyMAC(message []byte, keyID string, sum []byte) error {
	if !validID(keyID) { // before it becomes a part of a path
		return fmt.Errorf("%w: found the key id %.32q", ErrMAC, keyID)
	}
	key, err := r.key(keyID)
	if err != nil {
		return err
	}
	want, err := mac(key, keyID, message)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, sum) {
		return ErrMAC
	}
	return nil
}

// Rotate makes a new key the current one. What older keys sealed still opens, until
// it is sealed again and they are retired; so do MACs.
func (r *Ring) Rotate() (string, error) {
	id, err := r.add()
	if err != nil {
		return "", err
	}
	return id, r.place(Current, []byte(id+"\n"), true)
}

// rotateLock stands in the folder of the keys, and is locked while they are rotated.
const rotateLock = "rotate.lock"

// LockRotation keeps other processes from rotating, from before Rotate until after the
// last Retire: of two at once one would retire the key that the other is about to make
// the current one. The lock goes with the process, however that ends. Error: ErrKeyFile.
func (r *Ring) LockRotation() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(r.dir, rotateLock), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another process rotates the keys in %s: wait until it has ended", ErrKeyFile, r.dir)
		}
		return nil, fmt.Errorf("%w: locking %s: %w", ErrKeyFile, f.Name(), err)
	}
	return func() { _ = f.Close() }, nil
}

// Retire deletes an old key for good. The caller has made sure that nothing is sealed
// under it (Store.StaleSecrets), and that no backup it wants to restore is.
func (r *Ring) Retire(id string) error {
	current, err := r.KeyID()
	if err != nil {
		return err
	}
	if !validID(id) || id == current {
		return fmt.Errorf("%w: %q is the current key, or none", ErrKeyFile, id)
	}
	path, _, err := r.find(id)
	if err != nil {
		return err
	}
	// First what judged the Keep before: left behind, it would judge the Keep of the next
	// move's start. Nothing is sealed any more under a key whose file is left behind.
	if to, _, ok := r.keepToKeep(); ok {
		left, err := r.files()
		if err == nil && len(left) <= 2 {
			err = to.endMove()
		}
		if err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.keys[id])
	delete(r.keys, id)
	return nil
}

// KeyIDs are the keys of the folder that are of the ring's kind (or the one before, in
// a move), by id.
func (r *Ring) KeyIDs() ([]string, error) {
	files, err := r.files()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(files)) {
		if kind := files[id]; kind == r.by.kind() || r.from != nil && kind == r.from.kind() {
			out = append(out, id)
		}
	}
	return out, nil
}

func (r *Ring) files() (map[string]string, error) { return files(r.dir, r.by.kind()) }

// Close zeroes the keys, as far as Go lets it: copies that the garbage collector or
// the libraries made are out of reach.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, k := range r.keys {
		clear(k)
		delete(r.keys, id)
	}
	for _, by := range []protector{r.by, r.from} {
		if by != nil {
			by.close()
		}
	}
}
