package sealing

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// maxKeyFile bounds a key file; age's header and 32 bytes are about 250.
const maxKeyFile = 4096

// Config says where the keys are.
type Config struct {
	Kind string // "" is KindFile
	// Dir holds the keys, mode 0700; it and a first key are made where there is none.
	// It is not where the database is backed up to.
	Dir        string
	Passphrase []byte // of KindPassphrase; of KindKeep one may stand before the Keep; copied
	// WorkFactor is scrypt's logN. 0: 18, about a second. Tests take less.
	WorkFactor int
	Keep       *Keep // of KindKeep
	// Lazy lets Open succeed without unwrapping the current key: it is unwrapped when
	// something is sealed or opened.
	Lazy bool
	// Mixed lets Open succeed where keys of another kind are: to look at them, or for
	// Rekey to end a move that was cut off.
	Mixed bool
}

// Ring is a Keeper with keys in a folder: a file for each, named by its id, and the
// file "current" that names the one that seals. Safe for many goroutines, and for
// many processes: what another one adds is found.
type Ring struct {
	c    Config
	p    Protector
	mu   sync.Mutex
	keys map[string][]byte
}

const currentFile = "current"

// Open opens the keys. Errors: ErrNotSupported, ErrKeyFile, ErrPassphrase, ErrWeak,
// ErrKind, ErrKeep.
func Open(c Config) (*Ring, error) {
	p, err := protector(&c)
	if err != nil {
		return nil, err
	}
	r := &Ring{c: c, p: p, keys: map[string][]byte{}}
	if err := r.begin(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// begin finds the current key, or makes the first.
func (r *Ring) begin() error {
	if err := os.MkdirAll(r.c.Dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if st, err := os.Stat(r.c.Dir); err != nil || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: the folder %s is open to others; chmod 700 %s", ErrKeyFile, r.c.Dir, r.c.Dir)
	}
	kinds, err := Kinds(r.c.Dir)
	if err != nil {
		return err
	}
	if !r.c.Mixed && (len(kinds) > 1 || len(kinds) == 1 && kinds[0] != r.c.Kind) {
		return fmt.Errorf("%w: %s holds keys of the kind %s, and %s was asked for", ErrKind, r.c.Dir, strings.Join(kinds, " and "), r.c.Kind)
	}
	id, err := r.KeyID()
	if errors.Is(err, fs.ErrNotExist) {
		id, err = r.first()
	}
	if err == nil && !r.c.Lazy {
		_, err = r.key(id)
	}
	return err
}

// first makes the first key, under a lock on the folder: of processes that start at
// once one makes it, and all use it.
func (r *Ring) first() (string, error) {
	dir, err := lock(r.c.Dir)
	if err != nil {
		return "", err
	}
	defer dir.Close() // which unlocks
	if id, err := r.KeyID(); !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	ids, err := r.KeyIDs()
	if err != nil {
		return "", err
	}
	var id string
	switch len(ids) {
	case 0:
		id, err = r.add()
	case 1: // the first start ended here
		id = ids[0]
	default:
		err = fmt.Errorf("%w: %s holds %d keys, and no file %q with the id of the one that seals", ErrKeyFile, r.c.Dir, len(ids), currentFile)
	}
	if err != nil {
		return "", err
	}
	return id, r.place(currentFile, []byte(id+"\n"), false)
}

func (r *Ring) path(id string) string { return filepath.Join(r.c.Dir, id+r.p.Ext()) }

// add makes a key and its file.
func (r *Ring) add() (string, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	id := keyID(key)
	content, err := r.p.Wrap(id, key)
	if err != nil {
		return "", err
	}
	defer clear(content)
	if err := r.place(filepath.Base(r.path(id)), content, false); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[id] = key
	return id, nil
}

// place writes a file whole or not at all, and waits for the disk. Without replace it
// fails with fs.ErrExist where there is one.
func (r *Ring) place(name string, content []byte, replace bool) error {
	return placeIn(r.c.Dir, name, content, replace)
}

func placeIn(folder, name string, content []byte, replace bool) error {
	f, err := os.CreateTemp(folder, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && replace {
		err = os.Rename(f.Name(), filepath.Join(folder, name))
	} else if err == nil {
		err = os.Link(f.Name(), filepath.Join(folder, name))
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(folder); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}

// read reads a file that only its owner can.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 || st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%w: %s: found %s with %d bytes, wanted a file only its owner can read; chmod 600 %s", ErrKeyFile, path, st.Mode(), st.Size(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return b, nil
}

func validID(id string) bool {
	return len(id) == 2*idSize && strings.Trim(id, "0123456789abcdef") == ""
}

// KeyID is the current key's, as the folder says now.
func (r *Ring) KeyID() (string, error) {
	b, err := read(filepath.Join(r.c.Dir, currentFile))
	if err != nil {
		return "", err
	}
	id := strings.TrimSuffix(string(b), "\n")
	if !validID(id) {
		return "", fmt.Errorf("%w: %s names no key", ErrKeyFile, filepath.Join(r.c.Dir, currentFile))
	}
	return id, nil
}

// key gives a key, from its file the first time.
func (r *Ring) key(id string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys[id]; k != nil {
		return k, nil
	}
	b, err := read(r.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s in %s", ErrKeyUnknown, id, r.c.Dir)
	}
	if err != nil {
		return nil, err
	}
	if b, err = r.p.Unwrap(id, b); err != nil {
		return nil, err
	}
	if len(b) != keySize || keyID(b) != id {
		clear(b)
		return nil, fmt.Errorf("%w: %s does not hold the key of its name", ErrKeyFile, r.path(id))
	}
	r.keys[id] = b
	return b, nil
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
	return id, r.place(currentFile, []byte(id+"\n"), true)
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
	if err := os.Remove(r.path(id)); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.keys[id])
	delete(r.keys, id)
	return nil
}

// KeyIDs are the keys of the folder, by id.
func (r *Ring) KeyIDs() ([]string, error) {
	ids, _, err := list(r.c.Dir)
	return ids, err
}

// list gives the keys of a folder by id, and the kinds that their files have.
func list(folder string) (ids, found []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if kind := kinds[filepath.Ext(e.Name())]; validID(id) && kind != "" {
			ids, found = append(ids, id), append(found, kind)
		}
	}
	slices.Sort(ids)
	slices.Sort(found)
	return slices.Compact(ids), slices.Compact(found), nil
}

// Kinds are those of the keys in a folder; none where there is no key. Two are there
// where a move between kinds was cut off: Rekey ends it.
func Kinds(folder string) ([]string, error) {
	_, found, err := list(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return found, err
}

// lock waits for the folder's lock; closing what it gives lets it go.
func lock(folder string) (*os.File, error) {
	dir, err := os.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("%w: locking %s: %w", ErrKeyFile, folder, err)
	}
	return dir, nil
}

// Close zeroes the keys, as far as Go lets it: copies that the garbage collector or
// the libraries made are out of reach.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, k := range r.keys {
		clear(k)
		delete(r.keys, id)
	}
	r.p.Close()
}
