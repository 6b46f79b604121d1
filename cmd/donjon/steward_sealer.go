//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
)

// ringSealer seals secrets for their places in the store.
type ringSealer struct{ *sealing.Ring }

// Seal implements server.Sealer.
func (r ringSealer) Seal(k store.SecretKey, version uint64, policy audit.Digest, plain []byte) ([]byte, string, error) {
	return r.Ring.Seal(plain, sealing.AAD(k.Workload, k.Name, version, policy))
}

// Open implements server.Sealer.
func (r ringSealer) Open(s store.Secret) ([]byte, error) {
	return r.Ring.Open(s.Sealed, sealing.AAD(s.Workload, s.Name, s.Version, s.Policy))
}

// Confirm implements server.Sealer.
func (r ringSealer) Confirm(k store.SecretKey, version uint64, policy audit.Digest) (store.Confirmation, error) {
	sum, id, err := r.MAC(sealing.Confirmation(k.Workload, k.Name, version, policy))
	return store.Confirmation{Policy: policy, MAC: sum, KeyID: id}, err
}

// Confirmed implements server.Sealer.
func (r ringSealer) Confirmed(s store.Secret, c store.Confirmation) error {
	return r.VerifyMAC(sealing.Confirmation(s.Workload, s.Name, s.Version, c.Policy), c.KeyID, c.MAC)
}

// sealingDir is the folder of sealing keys in that of keys.
func sealingDir(keys string) string { return filepath.Join(keys, "sealing") }

// passphraseVariable names the file with the passphrase that the sealing keys are
// encrypted under; without it they lie in their files as they are.
const passphraseVariable = "DONJON_SEALING_PASSPHRASE_FILE"

// sealingPassphrase is the passphrase without its last newline; nil: none.
func (a *app) sealingPassphrase() ([]byte, error) {
	name := a.getenv(passphraseVariable)
	if name == "" {
		return nil, nil
	}
	b, err := readAtMost(name, 4096)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b, []byte("\n")), nil
}

// openRing opens the sealing keys of a state. They are of the kind that is configured,
// or that was recorded: not of whichever files are there, or whoever can write to their
// folder puts in a key that he knows.
func (a *app) openRing(s *state, o stateOptions) error {
	dir := sealingDir(s.path(stewardKeys))
	failed := func(err error) error {
		return failHint(statusFailed, sealingHint(err), fmt.Errorf("the keys that seal secrets: %w", err))
	}
	found, err := sealing.Kinds(dir)
	if err != nil {
		return failed(err)
	}
	passphrase, err := a.sealingPassphrase()
	if err != nil {
		return err
	}
	c := sealing.Config{Dir: dir, Kind: s.serving.Sealing.Kind, Passphrase: passphrase}
	if c.Kind == "" {
		before := state{dir: s.dir}
		if err := before.readServing(); err != nil {
			return err
		}
		c.Kind = before.serving.Sealing.Kind
	}
	switch {
	case c.Kind != "":
	case len(found) > 0: // from before kinds were recorded
		c.Kind = found[0]
	case passphrase != nil:
		c.Kind = sealing.KindPassphrase
	default:
		c.Kind = sealing.KindFile
	}
	s.serving.Sealing.Kind = c.Kind
	if c.Kind == sealing.KindFile && passphrase != nil {
		return failed(fmt.Errorf("%w: a passphrase is given, and keys of the kind %s have none", sealing.ErrPassphrase, c.Kind))
	}
	if c.Kind == sealing.KindKeep {
		c.Keep = a.sealerKeeps(s.serving.Sealing.TEE, s.serving.AllowSimulated || s.serving.Sealing.AllowSimulated)
		c.Lazy = !o.create // a verb that needs no key starts no Keep
		s.sealedFirst = len(found) == 0
	}
	if s.ring, err = sealing.Open(c); err != nil {
		return failed(err)
	}
	return nil
}

// sealingHint is what to do about keys that do not open.
func sealingHint(err error) string {
	switch {
	case errors.Is(err, sealing.ErrKind):
		return "end the server; donjon steward sealing move KIND moves the keys, and ends a move that was cut off"
	case errors.Is(err, sealing.ErrKeepRefused):
		return "another donjon-keep (DONJON_KEEP names one), another machine, or simulated and not allowed by name? docs/sealer.md says what to do, and how a recovery copy is used"
	case errors.Is(err, sealing.ErrKeep):
		var h interface{ Hint() string }
		if errors.As(err, &h) && h.Hint() != "" {
			return h.Hint()
		}
		return "donjon -v says more; docs/sealer.md says how a recovery copy is used"
	}
	if !errors.Is(err, sealing.ErrPassphrase) && !errors.Is(err, sealing.ErrWeak) {
		return ""
	}
	return "where the sealing keys have a passphrase, " + passphraseVariable + " names the file that holds it"
}

// recoveryHint is printed when the first key was sealed in a Keep.
func (a *app) recoveryHint(dir string) {
	fmt.Fprintf(a.stderr, `The keys that seal secrets open in this machine's Keep of this donjon-keep alone: not
after an upgrade, nor on another machine. Make a copy under a passphrase, and keep it
elsewhere:
    donjon steward sealing copy --state %s --passphrase-file FILE FOLDER

`, printable(shellWord(dir)))
}
