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

// passphrase protects keys with age's scrypt form.
type passphrase struct {
	words      []byte
	workFactor int
}

func newPassphrase(words []byte, workFactor int) (*passphrase, error) {
	if len(words) < MinPassphrase {
		return nil, fmt.Errorf("%w: found %d bytes, wanted %d or more", ErrWeak, len(words), MinPassphrase)
	}
	if workFactor == 0 {
		workFactor = 18
	}
	return &passphrase{words: bytes.Clone(words), workFactor: workFactor}, nil
}

func (*passphrase) Ext() string { return ".age" }

func (p *passphrase) Close() { clear(p.words) }

func (p *passphrase) Wrap(_ string, key []byte) ([]byte, error) {
	to, err := age.NewScryptRecipient(string(p.words))
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

func (p *passphrase) Unwrap(_ string, file []byte) ([]byte, error) {
	from, err := age.NewScryptIdentity(string(p.words))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	from.SetMaxWorkFactor(22)
	in, err := age.Decrypt(bytes.NewReader(file), from)
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
