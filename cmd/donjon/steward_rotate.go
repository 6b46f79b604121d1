//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
)

func newStewardRotate(a *app) *cobra.Command {
	var state string
	var finish, challenge, sealingKey bool
	var to sealingSettings
	c := &cobra.Command{
		Use:   "rotate",
		Short: "make a new root, or another new key",
		Long: `rotate makes a new root and new intermediates, which issue from now on. The root
before stays in ca.pem and certifies the new one: whoever pins either accepts what is
issued. Give the new ca.pem out (it is measured with each workload that names it), and
then rotate --finish takes the old root out of use.

A server that runs on the state folder takes the keys up within 10 seconds.

With --sealing-key and --sealing KIND the new sealing key is protected in another way
than those before, which are read once more. Servers must have ended, and start again
with the same settings in steward.toml or their flags. From the Keep of an earlier
donjon-keep into that of this release they move with --sealing-old-keep.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if finish && challenge || finish && sealingKey || challenge && sealingKey {
				return usageError(errors.New("--finish, --challenge-key and --sealing-key are different things"))
			}
			dir, err := a.stewardState(state)
			if err != nil {
				return err
			}
			var move *sealingSettings
			if c.Flags().Changed("sealing-old-keep") && !to.given(c) {
				return usageError(errors.New("--sealing-old-keep belongs to --sealing KIND: where the keys move to"))
			}
			if to.given(c) {
				if !sealingKey {
					return usageError(errors.New("--sealing and what belongs to it belong to --sealing-key"))
				}
				if err := to.settle(a); err != nil {
					return err
				}
				move = &to
			}
			ctx := context.Background()
			st, err := a.openState(ctx, dir, stateOptions{move: move})
			if err != nil {
				return err
			}
			defer st.close()
			if move != nil {
				unlock, err := a.alone(ctx, dir, st.serving.Database)
				if err != nil {
					return err
				}
				defer unlock()
			}
			what := "a new root and new intermediates"
			switch {
			case finish:
				what = "the roots before the newest were retired"
				err = st.authority.Retire()
			case challenge:
				what = "a new challenge key; those before were removed"
				err = st.authority.NewChallengeKey(true)
			case sealingKey:
				what = "a new sealing key; every secret is sealed under it, and those before were removed"
				err = st.rotateSealing(ctx)
				if err == nil && move != nil {
					what = "a new sealing key, protected by " + move.Kind + "; every secret is sealed under it, and those before were removed"
					err = st.writeServing()
				}
				if by := st.serving.Sealing; err == nil && by != nil && by.Kind == sealing.KindKeep {
					a.recoveryHint(dir) // a copy from before has the key before, which is gone
				}
			default:
				err = st.authority.Rotate()
			}
			if errors.Is(err, sealing.ErrKind) {
				return sealingError(err, sealingDir(st.path(stewardKeys)))
			}
			if err != nil {
				return fail(statusFailed, err)
			}
			if err := st.authority.WriteCA(st.path(stewardCA)); err != nil {
				return fail(statusFailed, err)
			}
			if _, err := st.store.Append(ctx, audit.Record{Kind: audit.Note, Text: "rotate: " + what}, store.Actor{Who: "local", At: time.Now()}); err != nil {
				return fail(statusFailed, err)
			}
			fmt.Fprintf(a.stdout, "%s; roots in %s\n", what, printable(st.path(stewardCA)))
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().BoolVar(&finish, "finish", false, "take every root but the newest out of use")
	c.Flags().BoolVar(&challenge, "challenge-key", false, "make a new challenge key: challenges that are on their way are refused")
	c.Flags().BoolVar(&sealingKey, "sealing-key", false, "make a new sealing key and seal every secret under it")
	to.register(c)
	c.Flags().StringVar(&to.oldKeep, "sealing-old-keep", "", "the donjon-keep that the keys before open in, a `FILE` (default: this release's)")
	return c
}

// rotateSealing makes a new sealing key, seals every secret again, and removes the
// keys before. What it is cut off in is finished the next time.
func (s *state) rotateSealing(ctx context.Context) error {
	unlock, err := s.ring.LockRotation()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.ring.Rotate(); err != nil {
		return err
	}
	current, err := s.ring.KeyID()
	if err != nil {
		return err
	}
	if err := s.reseal(ctx, current); err != nil {
		return err
	}
	if err := s.reprove(ctx, current); err != nil {
		return err
	}
	// Whoever sealed under the key before and has not stored it yet.
	time.Sleep(2 * time.Second)
	if err := s.reseal(ctx, current); err != nil {
		return err
	}
	if err := s.reprove(ctx, current); err != nil {
		return err
	}
	ids, err := s.ring.KeyIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if id != current {
			if err := s.ring.Retire(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// reprove authenticates under the current key the rows that another one did.
func (s *state) reprove(ctx context.Context, current string) error {
	for {
		n, err := s.store.Reprove(ctx, current, store.MaxPage, store.Actor{Who: "local", At: time.Now()})
		if err != nil || n == 0 {
			return err
		}
	}
}

// reconfirm makes the MACs of a secret's confirmations under the current key. One that
// does not hold gets none: it must not hold afterwards, nor be looked at for ever.
func (r ringSealer) reconfirm(x *store.Secret, current string) error {
	for i, c := range x.Confirmed {
		err := r.Confirmed(*x, c)
		switch {
		case errors.Is(err, sealing.ErrMAC), errors.Is(err, sealing.ErrKeyUnknown) && !errors.Is(err, sealing.ErrKind):
			x.Confirmed[i].MAC, x.Confirmed[i].KeyID = nil, current
		case err != nil:
			return err
		default:
			if x.Confirmed[i], err = r.Confirm(x.SecretKey, x.Version, c.Policy); err != nil {
				return err
			}
		}
	}
	return nil
}

// reseal seals and confirms under the current key what another one did.
func (s *state) reseal(ctx context.Context, current string) error {
	seal := ringSealer{s.ring}
	for {
		list, err := s.store.StaleSecrets(ctx, current, 100)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, x := range list {
			plain, err := seal.Open(x)
			if err != nil {
				return fmt.Errorf("the secret %s of %s: %w", x.Name, x.Workload, err)
			}
			old := x.KeyID
			x.Sealed, x.KeyID, err = seal.Seal(x.SecretKey, x.Version, x.Policy, plain)
			clear(plain)
			if err != nil {
				return err
			}
			if x.KeyID != current { // a folder on another machine, or put back: this would never end
				return fmt.Errorf("the key %s took over from %s while secrets were sealed under that: rotate again once nobody else does", x.KeyID, current)
			}
			if err := seal.reconfirm(&x, current); err != nil {
				return err
			}
			err = s.store.RewrapSecret(ctx, x, old, store.Actor{Who: "local", At: time.Now()})
			if err != nil && !errors.Is(err, store.ErrConflict) { // set anew meanwhile: it has the new key
				return err
			}
		}
	}
}

func newStewardRestore(a *app) *cobra.Command {
	var state, database string
	var by sealingSettings
	c := &cobra.Command{
		Use:   "restore --state FOLDER BACKUP",
		Short: "read a backup into a state folder without a database",
		Long: `restore reads BACKUP (- is stdin) into an empty database. The keys must be in the
folder keys/ already, or new ones are made, which open none of the secrets. Where the
sealing keys are protected by a token, its key must be there too, and --sealing-token
and --sealing-pin-file name it. It opens a new epoch: challenges from before are
refused, and nothing is granted until steward confirm.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := a.stewardState(state)
			if err != nil {
				return err
			}
			var how *sealingSettings
			if by.given(c) {
				if err := by.settle(a); err != nil {
					return err
				}
				how = &by
			}
			in := a.stdin
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return notFound(args[0], err)
				}
				defer file.Close()
				in = file
			}
			return a.stewardRestore(dir, database, how, in)
		},
	}
	c.Flags().StringVar(&state, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringVar(&database, "database", "", "PostgreSQL `URL` to restore into (default: SQLite in the state folder)")
	by.register(c)
	return c
}

func (a *app) stewardRestore(dir, database string, how *sealingSettings, in io.Reader) error {
	ctx := context.Background()
	before := state{dir: dir}
	if err := before.readServing(); err != nil {
		return err
	}
	run := &before.serving
	run.Database = database
	st, err := a.openState(ctx, dir, stateOptions{create: true, restore: true, serving: run, sealing: how})
	if err != nil {
		return err
	}
	defer st.close()
	epoch, err := st.store.Restore(ctx, in, store.Actor{Who: "local", At: time.Now()})
	if errors.Is(err, store.ErrNotEmpty) {
		return failHint(statusFailed, "move the database away, and stop the server first", err)
	}
	if err != nil {
		return fail(statusFailed, err)
	}
	if err := st.authority.NewChallengeKey(true); err != nil {
		return fail(statusFailed, err)
	}
	if err := st.publish(); err != nil { // confirm must find this database
		return fail(statusFailed, err)
	}
	fmt.Fprintf(a.stdout, "restored; epoch %d. Nothing is granted before donjon steward confirm\n", epoch.Number)
	return nil
}
