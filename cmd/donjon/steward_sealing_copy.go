//go:build linux

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/sealing"
)

func newStewardSealing(a *app) *cobra.Command {
	return group("sealing", "copy the keys that seal secrets", newSealingCopy(a))
}

func newSealingCopy(a *app) *cobra.Command {
	var folder, passphraseFile string
	c := &cobra.Command{
		Use:   "copy --passphrase-file FILE FOLDER",
		Short: "write a recovery copy of the keys, under a passphrase",
		Long: `copy writes the sealing keys into FOLDER, encrypted under the passphrase in FILE: for
the day when the machine, the token or the donjon-keep that opens them is gone. Make it
again after each rotate --sealing-key.

To use it, put its files in the place of those in keys/sealing of the state, and start
the server with --sealing passphrase and ` + passphraseVariable + ` naming
FILE; rotate --sealing-key --sealing KIND goes on from there.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if passphraseFile == "" {
				return usageError(errors.New("--passphrase-file FILE is missing"))
			}
			words, err := passphraseIn(passphraseFile)
			if err != nil {
				return err
			}
			dir, err := a.stewardState(folder)
			if err != nil {
				return err
			}
			return a.copySealing(dir, sealing.Config{Kind: sealing.KindPassphrase, Dir: args[0], Passphrase: words})
		},
	}
	c.Flags().StringVar(&folder, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "the copy's passphrase, a `FILE` of 12 bytes or more")
	_ = c.MarkFlagDirname("state")
	return c
}

func (a *app) copySealing(dir string, to sealing.Config) error {
	s := &state{dir: dir}
	if notThere(s.path(stewardKeys)) {
		return failHint(statusFailed, "donjon steward serve --state "+dir+" makes one", fmt.Errorf("%s is no Steward's state folder", dir))
	}
	if err := s.readServing(); err != nil {
		return err
	}
	c, err := a.sealingConfig(s.serving.Sealing, s.path(stewardKeys))
	if err != nil {
		return err
	}
	if c.Keep != nil {
		c.Keep.AllowSimulated = c.Keep.AllowSimulated || s.serving.AllowSimulated
	}
	if err := firstKeyThere(dir, c.Dir); err != nil {
		return err
	}
	ring, err := sealing.Open(c)
	clear(c.Token.PIN)
	clear(c.Passphrase)
	if err != nil {
		return sealingError(err, c.Dir)
	}
	defer ring.Close()
	if err := sealing.Copy(ring, to); errors.Is(err, sealing.ErrKind) {
		return failHint(statusFailed, "donjon steward rotate --sealing-key --sealing KIND, as it was begun, and then the copy", err)
	} else if err != nil {
		return fail(statusFailed, err)
	}
	fmt.Fprintf(a.stdout, "a copy of the sealing keys is in %s\n", printable(to.Dir))
	return nil
}
