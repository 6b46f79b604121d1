// Package authority is a Steward's certificate authority: who may be called the
// Steward, who a workload, and what proves it.
//
//	root N (P-384, 10 years)             in ca.pem, pinned by Keeps and relying parties
//	├── servers (P-256, marker)          issues the Steward's own TLS certificates alone
//	└── workloads (P-256, path length 0) issues to Keeps that have proved themselves
//	enarx (P-256, self-signed)           for the endpoint in Enarx's form, trusted by nothing else
//
// The two intermediates are apart because Keeps that pin the root must not take an
// admitted workload for the Steward (THREATS T4). Rotation makes root N+1, certified
// by itself and by root N, so that whoever pins either accepts what is issued from
// then on (rotate.go). All keys are files of one folder; none is in the database.
//
// Keys for tokens, challenges and audit heads live here too. What a certificate is
// issued for is decided next door, in enrol.
package authority

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Options are where an authority keeps its keys and what time it is.
type Options struct {
	Dir string // of the keys, 0700; made where it is not there
	// Clock gives the time; nil: time.Now.
	Clock func() time.Time
}

// Authority issues certificates. Many goroutines may use it at once.
type Authority struct {
	dir   string
	clock func() time.Time
	id    string
	set   atomic.Pointer[set]
}

// set is what is on disk at one time.
type set struct {
	generations []*generation // oldest first; the last issues
	enarx       *pair
	token       *ecdsa.PrivateKey
	audit       *ecdsa.PrivateKey
	challenges  []ChallengeKey // newest last
	stamp       string
}

// A pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A generation is one root and what it certified.
type generation struct {
	number                   int
	root, servers, workloads pair
	cross                    *x509.Certificate // this root's key certified by the one before; nil for the first
}

// A ChallengeKey seals challenges.
type ChallengeKey struct {
	ID  [3]byte
	Key [32]byte
}

// Open reads the authority kept in o.Dir, or makes one at first use. Two processes
// may do so at once.
func Open(o Options) (*Authority, error) {
	a := &Authority{dir: o.Dir, clock: o.Clock}
	if a.clock == nil {
		a.clock = time.Now
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if err := checkPrivate(a.dir); err != nil {
		return nil, err
	}
	err := locked(a.dir, func() error {
		if err := a.create(); err != nil {
			return err
		}
		return a.load()
	})
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return a, nil
}

// A StateError says that a kept key cannot be used.
type StateError struct {
	Path string
	Err  error
}

func (e *StateError) Error() string { return fmt.Sprintf("%s cannot be used: %v", e.Path, e.Err) }
func (e *StateError) Unwrap() error { return e.Err }

// Hint is what to do about it.
func (e *StateError) Hint() string {
	return "put back a copy of the folder of keys; a new authority means a new ca.pem in every workload"
}

// ID names this Steward: 16 hexadecimal digits, made with the first root and kept
// over rotations.
func (a *Authority) ID() string { return a.id }

// TrustDomain is the default trust domain of SPIFFE IDs.
func (a *Authority) TrustDomain() string { return "steward-" + a.id }

// Roots are the certificates to pin, oldest first.
func (a *Authority) Roots() []*x509.Certificate {
	var out []*x509.Certificate
	for _, g := range a.set.Load().generations {
		out = append(out, g.root.cert)
	}
	return out
}

// PEM is ca.pem: the roots.
func (a *Authority) PEM() []byte { return certificatesPEM(a.Roots()...) }

// EnarxPEM is the root of what the endpoint in Enarx's form issues.
func (a *Authority) EnarxPEM() []byte { return certificatesPEM(a.set.Load().enarx.cert) }

// EnarxCertificate is that root.
func (a *Authority) EnarxCertificate() *x509.Certificate { return a.set.Load().enarx.cert }

// TokenKey signs EAR tokens, P-256.
func (a *Authority) TokenKey() *ecdsa.PrivateKey { return a.set.Load().token }

// AuditKey signs audit heads, P-256.
func (a *Authority) AuditKey() *ecdsa.PrivateKey { return a.set.Load().audit }

// ChallengeKeys are the keys that challenges may be sealed with, the newest last:
// it seals new ones.
func (a *Authority) ChallengeKeys() []ChallengeKey { return a.set.Load().challenges }

// WriteCA writes ca.pem at path where its content has changed.
func (a *Authority) WriteCA(path string) error {
	b := a.PEM()
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		return nil
	}
	return WriteFile(path, b, 0o644)
}

// Reload reads what another process has made since: a rotation, a new challenge key.
// It says whether anything is new.
func (a *Authority) Reload() (bool, error) {
	stamp, err := stampOf(a.dir)
	if err != nil {
		return false, fmt.Errorf("authority: %w", err)
	}
	if stamp == a.set.Load().stamp {
		return false, nil
	}
	if err := locked(a.dir, a.load); err != nil {
		return false, fmt.Errorf("authority: %w", err)
	}
	return true, nil
}

// stampOf tells one state of the folder from another without reading the keys.
func stampOf(dir string) (string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, e := range list {
		if e.Name()[0] == '.' {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d %d\n", e.Name(), info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func certificatesPEM(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func (a *Authority) path(name ...string) string {
	return filepath.Join(append([]string{a.dir}, name...)...)
}
