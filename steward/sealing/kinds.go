package sealing

import (
	"bytes"
	"fmt"
)

// The kinds of keys: how their files are protected.
const (
	KindFile       = "file"       // 32 bytes in a file
	KindPassphrase = "passphrase" // the same, encrypted with age under a passphrase
	KindPKCS11     = "pkcs11"     // the same, encrypted under a key that stays in a PKCS#11 token
	KindKeep       = "keep"       // the same, sealed in a Keep, which opens them
)

// Config says where the keys are, and how they are protected.
type Config struct {
	Kind string // "" is KindFile
	// Dir holds the keys, mode 0700; it and a first key are made where there is none.
	// It is not where the database is backed up to.
	Dir        string
	Passphrase []byte // of KindPassphrase; of KindKeep one may stand before the Keep; copied
	// WorkFactor is scrypt's logN. 0: 18, about a second. Tests take less.
	WorkFactor int
	Token      Token // of KindPKCS11
	Keep       *Keep // of KindKeep
	// Lazy lets Open succeed without reading the current key: that is read when something
	// is sealed or opened.
	Lazy bool
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
var extensions = map[string]string{KindFile: ".key", KindPassphrase: ".age", KindPKCS11: ".p11", KindKeep: ".keep"}

func protect(c Config) (protector, error) {
	switch c.Kind {
	case "", KindFile:
		return plain{}, nil
	case KindPassphrase:
		return newPassphrase(c)
	case KindPKCS11:
		return newToken(c)
	case KindKeep:
		return newKeepProtector(c)
	}
	return nil, fmt.Errorf("%w: keys of the kind %q, only %s, %s, %s and %s", ErrNotSupported, c.Kind, KindFile, KindPassphrase, KindPKCS11, KindKeep)
}

// plain is KindFile.
type plain struct{}

func (plain) kind() string                              { return KindFile }
func (plain) wrap(_ string, key []byte) ([]byte, error) { return bytes.Clone(key), nil }
func (plain) unwrap(_ string, b []byte) ([]byte, error) { return b, nil }
func (plain) first()                                    {}
func (plain) close()                                    {}
