//go:build linux

package connect

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The files of an identity, PEM.
const (
	CertFile = "cert.pem" // the certificate, and what it was issued by
	KeyFile  = "key.pem"  // PKCS #8, readable by its owner alone
)

// identityYears is how long an identity that is made here holds.
const identityYears = 10

// An Identity is what a Keep that asks for a client certificate is shown.
type Identity struct {
	Certificate *tls.Certificate
	// Key is the SHA-256 of the SubjectPublicKeyInfo, in hexadecimal: what a workload
	// reads of a client (docs/keep-to-keep.md).
	Key string
	// Made says that there was none, and that it was made now.
	Made bool
}

// A ModeError is a private key that others may read.
type ModeError struct {
	Path string
	Mode fs.FileMode
}

func (e *ModeError) Error() string {
	return fmt.Sprintf("%s: found the mode %04o, wanted 0600: others may read the key", e.Path, e.Mode)
}

// Hint is what to do.
func (e *ModeError) Hint() string {
	return "chmod 600 " + e.Path + "; make a new identity if others have read it"
}

// OpenIdentity reads the identity in a folder. Where the folder or both files are
// missing it makes a self-signed one with a new P-256 key.
func OpenIdentity(dir string, now time.Time) (*Identity, error) {
	cert, key := filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("the identity: %s is a file, wanted a folder", dir)
	}
	made := absent(cert) && absent(key)
	if made {
		if err := makeIdentity(dir, now); err != nil {
			return nil, fmt.Errorf("making an identity: %w", err)
		}
	}
	for _, x := range []string{cert, key} {
		if absent(x) {
			return nil, fmt.Errorf("the identity in %s: %s is missing, and the other file is there: wanted both %s and %s, or neither", dir, x, CertFile, KeyFile)
		}
	}
	st, err := os.Stat(key)
	if err != nil {
		return nil, err
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return nil, &ModeError{key, m}
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the identity in %s: %w", dir, err)
	}
	if now.After(c.Leaf.NotAfter) || now.Before(c.Leaf.NotBefore) {
		return nil, fmt.Errorf("the identity in %s holds from %s to %s, and not now", dir, c.Leaf.NotBefore.Format(time.RFC3339), c.Leaf.NotAfter.Format(time.RFC3339))
	}
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return &Identity{Certificate: &c, Key: hex.EncodeToString(sum[:]), Made: made}, nil
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func makeIdentity(dir string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	// Neither user nor host stands in it: who is shown it knows the key and no more.
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "donjon connect"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(identityYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// The key first: with a certificate alone nothing works, and nobody makes it anew.
	if err := writeNew(filepath.Join(dir, KeyFile), "PRIVATE KEY", pkcs8, 0o600); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, CertFile), "CERTIFICATE", der, 0o644)
}

// writeNew writes a file that must not be there.
func writeNew(path, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
}
