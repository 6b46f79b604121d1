package sealing

import (
	"bytes"
	"fmt"
)

// The kinds of keys.
const (
	KindFile       = "file"       // 32 bytes in a file
	KindPassphrase = "passphrase" // the same, encrypted with age under a passphrase
	KindPKCS11     = "pkcs11"     // not yet
	KindKeep       = "keep"       // sealed in a Keep
)

// kinds are those of key files, by the ending of their names.
var kinds = map[string]string{".key": KindFile, ".age": KindPassphrase, ".keep": KindKeep}

// A Protector keeps the keys of a ring: what lies in a key's file is what Wrap gave.
// Safe for many goroutines.
type Protector interface {
	// Ext is how the names of its key files end, with the dot.
	Ext() string
	// Wrap gives the content of the file of a key of 32 bytes with that id, at most
	// 4,096 bytes. The caller keeps key.
	Wrap(id string, key []byte) ([]byte, error)
	// Unwrap gives the key back. It may zero wrapped, or give it back as it is. The
	// caller compares the key with its id.
	Unwrap(id string, wrapped []byte) ([]byte, error)
	// Close forgets what it knows.
	Close()
}

// protector is the Protector of a kind. It completes c.
func protector(c *Config) (Protector, error) {
	if c.Kind == "" {
		c.Kind = KindFile
	}
	switch c.Kind {
	case KindFile:
		return asItIs{}, nil
	case KindPassphrase:
		return newPassphrase(c.Passphrase, c.WorkFactor)
	case KindKeep:
		return newKeepProtector(c)
	}
	return nil, fmt.Errorf("%w: keys of the kind %q, only %s, %s and %s", ErrNotSupported, c.Kind, KindFile, KindPassphrase, KindKeep)
}

// asItIs protects nothing: the file's mode does.
type asItIs struct{}

func (asItIs) Ext() string                                  { return ".key" }
func (asItIs) Wrap(_ string, key []byte) ([]byte, error)    { return bytes.Clone(key), nil }
func (asItIs) Unwrap(_ string, file []byte) ([]byte, error) { return file, nil }
func (asItIs) Close()                                       {}
