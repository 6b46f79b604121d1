package authority

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	idFile        = "id"
	enarxFile     = "enarx.pem"
	tokenFile     = "token.pem"
	auditFile     = "audit.pem"
	completeFile  = "complete"   // there once all of these were made
	caPrefix      = "ca-"        // and the generation in four digits: a folder
	challengeName = "challenge-" // and the key id: 32 bytes in hexadecimal
)

// locked runs f while no other process changes the folder.
func locked(dir string, f func() error) error {
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	return f()
}

// checkPrivate refuses a folder of keys that others may enter.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return &StateError{Path: dir, Err: fmt.Errorf("its mode is %#o, wanted 0700: others can read the keys", info.Mode().Perm())}
	}
	return nil
}

// WriteFile writes a file so that it is there whole or not at all, also after a
// power cut.
func WriteFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func encodePair(p pair) ([]byte, error) {
	key, err := encodeKey(p.key)
	if err != nil {
		return nil, err
	}
	return append(certificatesPEM(p.cert), key...), nil
}

func encodeKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// readPEM reads certificates and at most one key.
func readPEM(path string) (certs []*x509.Certificate, key *ecdsa.PrivateKey, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	bad := func(err error) ([]*x509.Certificate, *ecdsa.PrivateKey, error) {
		return nil, nil, &StateError{Path: path, Err: err}
	}
	for len(strings.TrimSpace(string(b))) > 0 {
		var p *pem.Block
		if p, b = pem.Decode(b); p == nil {
			return bad(errors.New("something in it is not PEM"))
		}
		switch p.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(p.Bytes)
			if err != nil {
				return bad(err)
			}
			certs = append(certs, c)
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
			if err != nil {
				return bad(err)
			}
			ec, ok := k.(*ecdsa.PrivateKey)
			if !ok || key != nil {
				return bad(errors.New("wanted one ECDSA key"))
			}
			key = ec
		default:
			return bad(fmt.Errorf("a block %q", p.Type))
		}
	}
	return certs, key, nil
}

func readPair(path string) (pair, error) {
	certs, key, err := readPEM(path)
	if err != nil {
		return pair{}, err
	}
	if len(certs) != 1 || key == nil {
		return pair{}, &StateError{Path: path, Err: fmt.Errorf("found %d certificates, wanted one and its key", len(certs))}
	}
	if pub, ok := certs[0].PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(&key.PublicKey) {
		return pair{}, &StateError{Path: path, Err: errors.New("the certificate and the key do not belong together")}
	}
	return pair{certs[0], key}, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	certs, key, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	if len(certs) != 0 || key == nil {
		return nil, &StateError{Path: path, Err: errors.New("wanted one key and nothing else")}
	}
	return key, nil
}

// load reads everything; the caller holds the lock.
func (a *Authority) load() error {
	s := &set{}
	var err error
	if s.stamp, err = stampOf(a.dir); err != nil {
		return err
	}
	id, err := os.ReadFile(a.path(idFile))
	if err != nil {
		return err
	}
	a.id = strings.TrimSpace(string(id))
	if b, err := hex.DecodeString(a.id); err != nil || len(b) != 8 {
		return &StateError{Path: a.path(idFile), Err: errors.New("wanted 16 hexadecimal digits")}
	}
	numbers, err := a.numbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		g, err := a.readGeneration(n)
		if err != nil {
			return err
		}
		s.generations = append(s.generations, g)
	}
	enarx, err := readPair(a.path(enarxFile))
	if err != nil {
		return err
	}
	s.enarx = &enarx
	if s.token, err = readKey(a.path(tokenFile)); err != nil {
		return err
	}
	if s.audit, err = readKey(a.path(auditFile)); err != nil {
		return err
	}
	if s.challenges, err = a.readChallengeKeys(); err != nil {
		return err
	}
	a.set.Store(s)
	return nil
}

// numbers are the generations there are, in order.
func (a *Authority) numbers() ([]int, error) {
	list, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range list {
		digits, ok := strings.CutPrefix(e.Name(), caPrefix)
		if n, err := strconv.Atoi(digits); ok && err == nil && n > 0 && e.IsDir() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (a *Authority) generationDir(n int) string { return a.path(fmt.Sprintf("%s%04d", caPrefix, n)) }

func (a *Authority) readGeneration(n int) (*generation, error) {
	g := &generation{number: n}
	dir := a.generationDir(n)
	for name, p := range map[string]*pair{"root.pem": &g.root, "servers.pem": &g.servers, "workloads.pem": &g.workloads} {
		var err error
		if *p, err = readPair(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	certs, _, err := readPEM(filepath.Join(dir, "cross.pem"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case len(certs) != 1:
		return nil, &StateError{Path: filepath.Join(dir, "cross.pem"), Err: errors.New("wanted one certificate")}
	default:
		g.cross = certs[0]
	}
	return g, nil
}

func (a *Authority) readChallengeKeys() ([]ChallengeKey, error) {
	list, err := filepath.Glob(a.path(challengeName + "*"))
	if err != nil {
		return nil, err
	}
	type dated struct {
		k ChallengeKey
		t int64
	}
	var all []dated
	for _, path := range list {
		id, err1 := hex.DecodeString(strings.TrimPrefix(filepath.Base(path), challengeName))
		b, err2 := os.ReadFile(path)
		if err2 != nil {
			return nil, err2
		}
		key, err3 := hex.DecodeString(strings.TrimSpace(string(b)))
		if err1 != nil || err3 != nil || len(id) != 3 || len(key) != 32 {
			return nil, &StateError{Path: path, Err: errors.New("wanted 64 hexadecimal digits under a name that ends in 6")}
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		all = append(all, dated{ChallengeKey{[3]byte(id), [32]byte(key)}, info.ModTime().UnixNano()})
	}
	if len(all) == 0 {
		return nil, &StateError{Path: a.path(challengeName + "*"), Err: errors.New("there is none")}
	}
	slices.SortFunc(all, func(x, y dated) int { return int(min(max(x.t-y.t, -1), 1)) })
	var out []ChallengeKey
	for _, d := range all {
		out = append(out, d.k)
	}
	return out, nil
}
