package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/donjon-tee/donjon/steward/protocol"
)

const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 5 * 365 * 24 * time.Hour
	skew             = 5 * time.Minute // clocks of those who verify may be behind by this
)

// create makes what is not there yet; the caller holds the lock. What it is cut off
// in is finished at the next start.
func (a *Authority) create() error {
	if _, err := os.Stat(a.path(idFile)); errors.Is(err, fs.ErrNotExist) {
		if n, err := a.numbers(); err != nil || len(n) > 0 {
			return errors.Join(&StateError{Path: a.path(idFile), Err: errors.New("it is gone, and roots are here")}, err)
		}
		id := make([]byte, 8)
		rand.Read(id)
		if err := WriteFile(a.path(idFile), []byte(hex.EncodeToString(id)+"\n"), 0o600); err != nil {
			return err
		}
	}
	if _, err := os.Stat(a.path(completeFile)); err == nil {
		return a.whole()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	id, err := os.ReadFile(a.path(idFile))
	if err != nil {
		return err
	}
	a.id = string(id[:min(16, len(id))])
	numbers, err := a.numbers()
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		if err := a.createGeneration(1, nil); err != nil {
			return err
		}
	}
	if err := absent(a.path(enarxFile), func() ([]byte, error) {
		p, err := a.selfSigned("Donjon Steward "+a.id+" Enarx-compatible CA", elliptic.P256(), true)
		if err != nil {
			return nil, err
		}
		return encodePair(p)
	}); err != nil {
		return err
	}
	for _, name := range []string{tokenFile, auditFile} {
		if err := absent(a.path(name), func() ([]byte, error) {
			k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return nil, err
			}
			return encodeKey(k)
		}); err != nil {
			return err
		}
	}
	if err := a.needChallengeKey(); err != nil {
		return err
	}
	return WriteFile(a.path(completeFile), []byte("every key was made; what is missing since is not made anew\n"), 0o600)
}

// whole refuses a folder that lacks what was made once: another key in its place would
// be one that nobody pins, and say nothing. Challenge keys may be made anew: they
// matter for minutes.
func (a *Authority) whole() error {
	for _, name := range []string{enarxFile, tokenFile, auditFile} {
		if _, err := os.Stat(a.path(name)); errors.Is(err, fs.ErrNotExist) {
			return &StateError{Path: a.path(name), Err: errors.New("it is gone")}
		}
	}
	n, err := a.numbers()
	if err != nil {
		return err
	}
	if len(n) == 0 {
		return &StateError{Path: a.path(caPrefix + "*"), Err: errors.New("the roots are gone")}
	}
	return a.needChallengeKey()
}

func (a *Authority) needChallengeKey() error {
	if list, _ := filepath.Glob(a.path(challengeName + "*")); len(list) == 0 {
		return a.createChallengeKey()
	}
	return nil
}

func absent(path string, make func() ([]byte, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := make()
	if err != nil {
		return err
	}
	return WriteFile(path, b, 0o600)
}

func (a *Authority) createChallengeKey() error {
	b := make([]byte, 35)
	rand.Read(b)
	return WriteFile(a.path(challengeName+hex.EncodeToString(b[:3])), []byte(hex.EncodeToString(b[3:])+"\n"), 0o600)
}

// createGeneration makes root n and its intermediates, certified by the root before
// it too. The folder appears whole.
func (a *Authority) createGeneration(n int, before *generation) error {
	now := a.clock()
	root, err := a.selfSigned(fmt.Sprintf("Donjon Steward %s root %d", a.id, n), elliptic.P384(), false)
	if err != nil {
		return err
	}
	marker, err := asn1.MarshalWithParams(protocol.MarkerValue, "utf8")
	if err != nil {
		return err
	}
	servers, err := a.intermediate(root, fmt.Sprintf("Donjon Steward %s servers %d", a.id, n), now,
		[]pkix.Extension{{Id: protocol.MarkerOID, Value: marker}})
	if err != nil {
		return err
	}
	workloads, err := a.intermediate(root, fmt.Sprintf("Donjon Steward %s workloads %d", a.id, n), now, nil)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for name, p := range map[string]pair{"root.pem": root, "servers.pem": servers, "workloads.pem": workloads} {
		if files[name], err = encodePair(p); err != nil {
			return err
		}
	}
	if before != nil {
		t := caTemplate(root.cert.Subject.CommonName, now, rootLife)
		t.NotAfter = earlier(t.NotAfter, before.root.cert.NotAfter)
		cross, err := certify(t, before.root, &root.key.PublicKey)
		if err != nil {
			return err
		}
		files["cross.pem"] = certificatesPEM(cross)
	}
	tmp, err := os.MkdirTemp(a.dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for name, b := range files {
		if err := WriteFile(filepath.Join(tmp, name), b, 0o600); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, a.generationDir(n)); err != nil {
		return err
	}
	return syncDir(a.dir)
}

func caTemplate(name string, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: Serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-skew).UTC().Truncate(time.Second), NotAfter: now.Add(life).UTC().Truncate(time.Second),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func (a *Authority) selfSigned(name string, curve elliptic.Curve, leaves bool) (pair, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return pair{}, err
	}
	t := caTemplate(name, a.clock(), rootLife)
	t.MaxPathLenZero = leaves // a root has no bound: each rotation adds a step above it
	cert, err := certify(t, pair{t, key}, &key.PublicKey)
	return pair{cert, key}, err
}

func (a *Authority) intermediate(root pair, name string, now time.Time, more []pkix.Extension) (pair, error) {
	// P-256: its signatures cost a fifth of P-384's, and one is made at each enrolment.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	t := caTemplate(name, now, intermediateLife)
	t.MaxPathLenZero = true
	t.NotAfter = earlier(t.NotAfter, root.cert.NotAfter)
	t.ExtraExtensions = more
	cert, err := certify(t, root, &key.PublicKey)
	return pair{cert, key}, err
}

func certify(t *x509.Certificate, by pair, pub *ecdsa.PublicKey) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	t.SubjectKeyId = id[:20]
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, pub, by.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Serial is a random serial number of 128 bits that is positive (RFC 5280,
// 4.1.2.2: at most 20 bytes).
func Serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40 // never short, never negative
	return new(big.Int).SetBytes(b)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
