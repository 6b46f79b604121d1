package sealing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/donjon-tee/donjon/keyring/private"
)

// maxPIN bounds a PIN, in bytes.
const maxPIN = 255

const (
	// lockFile stands in the folder of the keys, and is locked while a process uses the
	// token: of many that start at once one tries the PIN.
	lockFile = "token.lock"
	// PINRefused stands there once the token has refused the PIN, until somebody removes
	// it. Until then nothing tries any PIN: a supervisor that restarts a server would lock
	// the token. What PIN it was is not kept in any form.
	PINRefused = "pin-refused"
)

// pinGate gives out the PIN to one use of the token at a time.
type pinGate struct {
	dir, file string
	given     []byte
	mu        sync.Mutex
}

// enter gives the PIN, nil where there is none. leave is called after the use, and says
// whether the token refused it. Errors: ErrPIN, ErrKeyFile, ErrToken (others use it for
// too long).
func (g *pinGate) enter(ctx context.Context) (pin []byte, leave func(refused bool) error, err error) {
	g.mu.Lock()
	lock, err := g.lock(ctx)
	if err == nil {
		if pin, err = g.pin(); err != nil {
			_ = lock.Close()
		}
	}
	if err != nil {
		g.mu.Unlock()
		return nil, nil, err
	}
	return pin, func(refused bool) error {
		defer g.mu.Unlock()
		defer lock.Close()
		if !refused {
			return nil
		}
		f, err := os.OpenFile(filepath.Join(g.dir, PINRefused), os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrKeyFile, err)
		}
		return errors.Join(f.Sync(), f.Close())
	}, nil
}

func (g *pinGate) lock(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(g.dir, lockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("%w: another process uses it, and holds %s", ErrToken, f.Name())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pin reads it, unless one was refused.
func (g *pinGate) pin() ([]byte, error) {
	if g.given == nil && g.file == "" {
		return nil, nil
	}
	refused := filepath.Join(g.dir, PINRefused)
	if _, err := os.Lstat(refused); err == nil {
		return nil, fmt.Errorf("%w: the token refused it before: not tried again while %s is there", ErrPIN, refused)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if g.given != nil {
		return bytes.Clone(g.given), nil
	}
	b, err := private.Read(g.file, maxPIN+2)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	defer clear(b)
	return ReadPIN(bytes.NewReader(b))
}

// ReadPIN reads a PIN, and a newline or none after it, to the end. Error: ErrPIN.
func ReadPIN(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPIN+2))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	pin := bytes.TrimSuffix(b, []byte("\n"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\n\x00") {
		clear(b)
		return nil, fmt.Errorf("%w: found %d bytes, wanted one line of 1 to %d", ErrPIN, len(b), maxPIN)
	}
	return pin, nil
}
