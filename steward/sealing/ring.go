package sealing

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// The kinds of keys: how their files are protected.
const (
	KindFile       = "file"       // 32 bytes in a file
	KindPassphrase = "passphrase" // the same, encrypted with age under a passphrase
	KindPKCS11     = "pkcs11"     // the same, encrypted under a key that stays in a PKCS#11 token
	KindKeep       = "keep"       // sealed in a Keep: not yet
)

// maxKeyFile bounds a key file; age's header and 32 bytes are about 250.
const maxKeyFile = 4096

// Config says where the keys are, and how they are protected.
type Config struct {
	Kind string // "" is KindFile
	// Dir holds the keys, mode 0700; it and a first key are made where there is none.
	// It is not where the database is backed up to.
	Dir        string
	Passphrase []byte // of KindPassphrase; copied
	// WorkFactor is scrypt's logN. 0: 18, about a second. Tests take less.
	WorkFactor int
	Token      Token // of KindPKCS11
	// From is the kind before, for a move to this one: keys of it still open what they
	// sealed, and Rotate makes a key of the new kind. Of it Dir does not matter. nil: keys
	// of another kind are refused, so that whoever can write to Dir cannot put in a key
	// that is known.
	From *Config
}

// protector makes a key's file of a key, and back. It authenticates neither the file's
// name nor that the key is the one of that id: the ring does.
type protector interface {
	kind() string
	wrap(id string, key []byte) ([]byte, error)
	unwrap(id string, file []byte) ([]byte, error)
	// first says that the next key is the first one that is protected so: what it needs
	// may be made with it, and never later.
	first()
	close()
}

// extensions of the files, by kind.
var extensions = map[string]string{KindFile: ".key", KindPassphrase: ".age", KindPKCS11: ".p11"}

func protect(c Config) (protector, error) {
	switch c.Kind {
	case "", KindFile:
		return plain{}, nil
	case KindPassphrase:
		return newPassphrase(c)
	case KindPKCS11:
		return newToken(c)
	}
	return nil, fmt.Errorf("%w: keys of the kind %q, only %s, %s and %s", ErrNotSupported, c.Kind, KindFile, KindPassphrase, KindPKCS11)
}

// plain is KindFile.
type plain struct{}

func (plain) kind() string                              { return KindFile }
func (plain) wrap(_ string, key []byte) ([]byte, error) { return bytes.Clone(key), nil }
func (plain) unwrap(_ string, b []byte) ([]byte, error) { return b, nil }
func (plain) first()                                    {}
func (plain) close()                                    {}

// Ring is a Keeper with keys in a folder: a file for each, named by its id, and the
// file "current" that names the one that seals. Safe for many goroutines, and for
// many processes: what another one adds is found.
type Ring struct {
	dir  string
	by   protector
	from protector // nil: no move

	reading sync.Mutex // a key: a token may take its time
	mu      sync.Mutex
	keys    map[string][]byte
}

const currentFile = "current"

// Open opens the keys. Errors: ErrNotSupported, ErrKeyFile, ErrKind, ErrPassphrase,
// ErrWeak, ErrToken, ErrPIN, ErrTokenKey.
func Open(c Config) (*Ring, error) {
	r := &Ring{dir: c.Dir, keys: map[string][]byte{}}
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
	if err := r.open(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
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
	if err == nil {
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
		err = fmt.Errorf("%w: %s holds %d keys, and no file %q with the id of the one that seals", ErrKeyFile, r.dir, len(ids), currentFile)
	}
	if err != nil {
		return "", err
	}
	return id, r.place(currentFile, []byte(id+"\n"), false)
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

// place writes a file whole or not at all, and waits for the disk. Without replace it
// fails with fs.ErrExist where there is one.
func (r *Ring) place(name string, content []byte, replace bool) error {
	f, err := os.CreateTemp(r.dir, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && replace {
		err = os.Rename(f.Name(), filepath.Join(r.dir, name))
	} else if err == nil {
		err = os.Link(f.Name(), filepath.Join(r.dir, name))
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(r.dir); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}

// readPrivate reads a file that only its owner can.
func readPrivate(path string) ([]byte, error) {
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
	b, err := readPrivate(filepath.Join(r.dir, currentFile))
	if err != nil {
		return "", err
	}
	id := strings.TrimSuffix(string(b), "\n")
	if !validID(id) {
		return "", fmt.Errorf("%w: %s names no key", ErrKeyFile, filepath.Join(r.dir, currentFile))
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
	if r.from == by && r.by.kind() == by.kind() && (errors.Is(err, ErrTokenKey) || errors.Is(err, ErrPassphrase)) {
		key, err = r.by.unwrap(id, file) // a move that was cut off
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
	path, _, err := r.find(id)
	if err != nil {
		return err
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

// files are the keys of the folder by id, and their kinds.
func (r *Ring) files() (map[string]string, error) { return files(r.dir, r.by.kind()) }

func files(dir, first string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	out := map[string]string{}
	for _, e := range entries {
		for kind, ext := range extensions {
			id, ok := strings.CutSuffix(e.Name(), ext)
			if _, there := out[id]; ok && validID(id) && (!there || kind == first) {
				out[id] = kind
			}
		}
	}
	return out, nil
}

// Kinds are those of the keys in a folder, in order. Error: ErrKeyFile.
func Kinds(dir string) ([]string, error) {
	all, err := files(dir, "")
	return slices.Compact(slices.Sorted(maps.Values(all))), err
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
	for _, by := range []protector{r.by, r.from} {
		if by != nil {
			by.close()
		}
	}
}
