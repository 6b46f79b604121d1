package sealing

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// MinPassphrase is the shortest passphrase, in bytes.
const MinPassphrase = 12

// passphrase is KindPassphrase.
type passphrase struct {
	text       []byte
	workFactor int
}

func newPassphrase(c Config) (protector, error) {
	if len(c.Passphrase) < MinPassphrase {
		return nil, fmt.Errorf("%w: found %d bytes, wanted %d or more", ErrWeak, len(c.Passphrase), MinPassphrase)
	}
	if c.WorkFactor == 0 {
		c.WorkFactor = 18
	}
	return &passphrase{bytes.Clone(c.Passphrase), c.WorkFactor}, nil
}

func (p *passphrase) kind() string { return KindPassphrase }
func (p *passphrase) first()       {}
func (p *passphrase) close()       { clear(p.text) }

func (p *passphrase) wrap(_ string, key []byte) ([]byte, error) {
	to, err := age.NewScryptRecipient(string(p.text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	to.SetWorkFactor(p.workFactor)
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

func (p *passphrase) unwrap(_ string, b []byte) ([]byte, error) {
	from, err := age.NewScryptIdentity(string(p.text))
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
