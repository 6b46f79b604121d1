package sealing

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"

	"filippo.io/age"
)

// The kinds of keys.
const (
	KindFile       = "file"       // 32 bytes in a file
	KindPassphrase = "passphrase" // the same, encrypted with age under a passphrase
	KindPKCS11     = "pkcs11"     // not yet
	KindKeep       = "keep"       // sealed in a Keep: not yet
)

// MinPassphrase is the shortest passphrase, in bytes.
const MinPassphrase = 12

// maxKeyFile bounds a key file; age's header and 32 bytes are about 250.
const maxKeyFile = 4096

// Config says where the keys are.
type Config struct {
	Kind string // "" is KindFile
	// Dir holds the keys, mode 0700; it and a first key are made where there is none.
	// It is not where the database is backed up to.
	Dir        string
	Passphrase []byte // of KindPassphrase; copied
	// WorkFactor is scrypt's logN. 0: 18, about a second. Tests take less.
	WorkFactor int
}

// Ring is a Keeper with keys in a folder: a file for each, named by its id, and the
// file "current" that names the one that seals. Safe for many goroutines, and for
// many processes: what another one adds is found.
type Ring struct {
	c    Config
	mu   sync.Mutex
	keys map[string][]byte
}

const currentFile = "current"

// Open opens the keys. Errors: ErrNotSupported, ErrKeyFile, ErrPassphrase, ErrWeak.
func Open(c Config) (*Ring, error) {
	switch c.Kind {
	case "":
		c.Kind = KindFile
	case KindFile:
	case KindPassphrase:
		if len(c.Passphrase) < MinPassphrase {
			return nil, fmt.Errorf("%w: found %d bytes, wanted %d or more", ErrWeak, len(c.Passphrase), MinPassphrase)
		}
		c.Passphrase = bytes.Clone(c.Passphrase)
	default:
		return nil, fmt.Errorf("%w: keys of the kind %q, only %s and %s", ErrNotSupported, c.Kind, KindFile, KindPassphrase)
	}
	if c.WorkFactor == 0 {
		c.WorkFactor = 18
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if st, err := os.Stat(c.Dir); err != nil || st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: the folder %s is open to others; chmod 700 %s", ErrKeyFile, c.Dir, c.Dir)
	}
	r := &Ring{c: c, keys: map[string][]byte{}}
	id, err := r.KeyID()
	if errors.Is(err, fs.ErrNotExist) {
		id, err = r.first()
	}
	if err == nil {
		_, err = r.key(id)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// first makes the first key, under a lock on the folder: of processes that start at
// once one makes it, and all use it.
func (r *Ring) first() (string, error) {
	dir, err := os.Open(r.c.Dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer dir.Close() // which unlocks
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("%w: locking %s: %w", ErrKeyFile, r.c.Dir, err)
	}
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

func (r *Ring) path(id string) string {
	if r.c.Kind == KindPassphrase {
		return filepath.Join(r.c.Dir, id+".age")
	}
	return filepath.Join(r.c.Dir, id+".key")
}

// add makes a key and its file.
func (r *Ring) add() (string, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	id := keyID(key)
	content := bytes.Clone(key)
	if r.c.Kind == KindPassphrase {
		var err error
		if content, err = r.wrap(key); err != nil {
			return "", err
		}
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
	f, err := os.CreateTemp(r.c.Dir, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && replace {
		err = os.Rename(f.Name(), filepath.Join(r.c.Dir, name))
	} else if err == nil {
		err = os.Link(f.Name(), filepath.Join(r.c.Dir, name))
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(r.c.Dir); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}

// read reads a file that only its owner can.
func (r *Ring) read(path string) ([]byte, error) {
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
	b, err := r.read(filepath.Join(r.c.Dir, currentFile))
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
	b, err := r.read(r.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s in %s", ErrKeyUnknown, id, r.c.Dir)
	}
	if err != nil {
		return nil, err
	}
	if r.c.Kind == KindPassphrase {
		wrapped := b
		if b, err = r.unwrap(wrapped); err != nil {
			return nil, err
		}
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
	entries, err := os.ReadDir(r.c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	var out []string
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if ext := filepath.Ext(e.Name()); validID(id) && (ext == ".key" || ext == ".age") {
			out = append(out, id)
		}
	}
	sort.Strings(out)
	return out, nil
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
	clear(r.c.Passphrase)
}

func (r *Ring) wrap(key []byte) ([]byte, error) {
	to, err := age.NewScryptRecipient(string(r.c.Passphrase))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	to.SetWorkFactor(r.c.WorkFactor)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err == nil {
		_, err = w.Write(key)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return out.Bytes(), nil
}

func (r *Ring) unwrap(b []byte) ([]byte, error) {
	from, err := age.NewScryptIdentity(string(r.c.Passphrase))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	from.SetMaxWorkFactor(22)
	in, err := age.Decrypt(bytes.NewReader(b), from)
	if err != nil {
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return nil, ErrPassphrase
		}
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	key, err := io.ReadAll(io.LimitReader(in, keySize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return key, nil
}
