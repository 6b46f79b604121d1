package sealing

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/keyring/p11"
)

// Token says which key of which PKCS#11 token protects the sealing keys.
type Token struct {
	URI p11.URI
	// Server is the address of a p11-kit server, instead of URI.Module, which a child
	// loads for each use.
	Server string
	// PINFile holds the PIN, and a newline or none; only its owner can read it. It is
	// read at each use. PIN is given instead, and copied. Neither: the token wants none,
	// or takes it at the device.
	PINFile string
	PIN     []byte
	// Create makes the token's key with the ring's first key, where there is none.
	Create bool
	// Timeout is for one use, in which the token is asked some ten times. 0: 30 s.
	Timeout time.Duration
}

const (
	tokenForm  = 1
	tokenSize  = headerSize + nonceSize + keySize + 16
	tokenLabel = "donjon steward sealing/1 token"
)

// token is KindPKCS11. A key's file is form, id, salt, nonce, ciphertext with tag, in
// AES-256-GCM; the cipher's key is an HMAC of id and salt made in the token, so that
// any token that knows HMAC-SHA-256 serves, and asks for nothing that has a parameter.
// The token is connected to for each use alone: at a start, and at a rotation.
type token struct {
	c    Token
	gate pinGate

	mu      sync.Mutex
	isFirst bool
	failed  error // the token could not be used, until the pause is over
	until   time.Time
}

func newToken(c Config) (protector, error) {
	t := &token{c: c.Token}
	switch {
	case t.c.URI.Token == "":
		return nil, fmt.Errorf("%w: no token is named", ErrToken)
	case (t.c.URI.Module == "") == (t.c.Server == ""):
		return nil, fmt.Errorf("%w: wanted a module-path in the URI, or a server, and not both", ErrToken)
	case t.c.PINFile != "" && t.c.PIN != nil:
		return nil, fmt.Errorf("%w: found a file and a PIN, wanted one of them", ErrPIN)
	}
	if t.c.Timeout == 0 {
		t.c.Timeout = 30 * time.Second
	}
	t.gate.dir, t.gate.file, t.gate.given = c.Dir, t.c.PINFile, bytes.Clone(t.c.PIN)
	t.c.PIN = nil
	return t, nil
}

func (t *token) kind() string { return KindPKCS11 }
func (t *token) close()       { clear(t.gate.given) }
func (t *token) first() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isFirst = true
}

func (t *token) wrap(id string, key []byte) ([]byte, error) {
	out := make([]byte, headerSize+nonceSize, tokenSize)
	out[0] = tokenForm
	if n, err := hex.Decode(out[1:1+idSize], []byte(id)); err != nil || n != idSize {
		return nil, fmt.Errorf("%w: the key id %q", ErrKeyUnknown, id)
	}
	rand.Read(out[1+idSize:])
	t.mu.Lock()
	create := t.c.Create && t.isFirst
	t.isFirst = false
	t.mu.Unlock()
	aead, err := t.cipher(out[:headerSize], create)
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, out[headerSize:], key, tokenAAD(out[:headerSize])), nil
}

func (t *token) unwrap(id string, file []byte) ([]byte, error) {
	if len(file) != tokenSize || file[0] != tokenForm || hex.EncodeToString(file[1:1+idSize]) != id {
		return nil, fmt.Errorf("%w: the file of the key %s was not made by a token", ErrKeyFile, id)
	}
	header := file[:headerSize]
	if err := t.pausing(); err != nil {
		return nil, err
	}
	aead, err := t.cipher(header, false)
	if err != nil {
		if errors.Is(err, ErrToken) {
			t.pause(err)
		}
		return nil, err
	}
	key, err := aead.Open(nil, file[headerSize:headerSize+nonceSize], file[headerSize+nonceSize:], tokenAAD(header))
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not open the key %s: it is another one, or the file was changed", ErrTokenKey, t.c.URI, id)
	}
	return key, nil
}

// pausing is the error of the last use, for a while: a server's requests that want a key
// would else wait behind each other for a token that does not answer.
func (t *token) pausing() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil && time.Now().Before(t.until) {
		return t.failed
	}
	return nil
}

func (t *token) pause(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed, t.until = err, time.Now().Add(pause)
}

func tokenAAD(header []byte) []byte { return append([]byte(tokenLabel+"\x00"), header...) }

// cipher derives the cipher of a key's file in the token: HMAC-SHA-256 over the label,
// the id and the salt, each with its length before it (32 bits).
func (t *token) cipher(header []byte, create bool) (cipher.AEAD, error) {
	var message []byte
	for _, part := range [][]byte{[]byte(tokenLabel), header[1 : 1+idSize], header[1+idSize:]} {
		message = binary.BigEndian.AppendUint32(message, uint32(len(part)))
		message = append(message, part...)
	}
	var sum []byte
	err := t.use(create, func(k *p11.Key) error {
		var err error
		if sum, err = k.HMAC(message); err != nil {
			return err
		}
		// One that answers differently each time would lose the key that is wrapped now.
		again, err := k.HMAC(message)
		if err == nil && subtle.ConstantTimeCompare(sum, again) != 1 {
			err = fmt.Errorf("%w: two HMACs of one message differ", p11.ErrMalformed)
		}
		clear(again)
		return err
	})
	defer clear(sum)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sum)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// use connects, logs in, gives the key to do, and ends the connection.
func (t *token) use(create bool, do func(*p11.Key) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.c.Timeout)
	defer cancel()
	pin, leave, err := t.gate.enter(ctx)
	if err != nil {
		return err
	}
	defer clear(pin)
	err = t.with(ctx, pin, create, do)
	unwritten := leave(errors.Is(err, p11.ErrPIN))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, p11.ErrPIN):
		return errors.Join(fmt.Errorf("%w: tried once: %w", ErrPIN, err), unwritten)
	case errors.Is(err, p11.ErrPINBlocked), errors.Is(err, p11.ErrPINNeeded):
		return fmt.Errorf("%w: %w", ErrPIN, err)
	case errors.Is(err, p11.ErrNoKey), errors.Is(err, p11.ErrManyKeys), errors.Is(err, p11.ErrWeakKey):
		return fmt.Errorf("%w: %w", ErrTokenKey, err)
	}
	return fmt.Errorf("%w: %w", ErrToken, err)
}

func (t *token) with(ctx context.Context, pin []byte, create bool, do func(*p11.Key) error) error {
	var conn *p11.Conn
	var err error
	if t.c.Server != "" {
		conn, err = p11.Dial(ctx, t.c.Server)
	} else {
		conn, err = p11.Spawn(ctx, t.c.URI.Module, moduleEnviron(os.Environ()))
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	tok, err := conn.Token(t.c.URI, create)
	if err != nil {
		return err
	}
	if err := tok.Login(pin); err != nil {
		return err
	}
	key, err := tok.Key(t.c.URI)
	if errors.Is(err, p11.ErrNoKey) && create {
		if err = tok.Generate(t.c.URI); err == nil {
			key, err = tok.Key(t.c.URI)
		}
	}
	if err != nil {
		return err
	}
	return do(key)
}

// moduleEnviron is what a module sees: all, since vendors' modules are configured by
// variables, but what is this program's, its database's, its supervisor's, or makes
// p11-kit print what passes through it.
func moduleEnviron(all []string) []string {
	var out []string
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "DONJON_") && !strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "P11_KIT_") && name != "NOTIFY_SOCKET" && name != "CREDENTIALS_DIRECTORY" {
			out = append(out, v)
		}
	}
	return out
}
