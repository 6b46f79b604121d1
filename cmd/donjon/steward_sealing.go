//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
)

func newStewardSealing(a *app) *cobra.Command {
	return group("sealing", "show, move and copy the keys that seal secrets", newSealingShow(a), newSealingMove(a), newSealingCopy(a))
}

// sealingReport is sealing show in JSON.
type sealingReport struct {
	Folder  string   `json:"folder"`
	Kinds   []string `json:"kinds"` // two: a move was cut off
	Current string   `json:"current"`
	Keys    []string `json:"keys"`
}

func newSealingShow(a *app) *cobra.Command {
	var folder string
	var asJSON bool
	c := &cobra.Command{
		Use: "show", Short: "say of what kind the keys are", Args: usageArgs(cobra.NoArgs),
		Long: "show says of what kind the sealing keys are, and their ids. It opens none of them.",
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.stewardState(folder)
			if err != nil {
				return err
			}
			s := &state{dir: dir}
			r := sealingReport{Folder: sealingDir(s.path(stewardKeys))}
			if notThere(r.Folder) {
				return s.noKeys()
			}
			ring, err := sealing.Open(sealing.Config{Dir: r.Folder, Lazy: true, Mixed: true})
			if err != nil {
				return failHint(statusFailed, sealingHint(err), err)
			}
			defer ring.Close()
			if r.Kinds, err = sealing.Kinds(r.Folder); err == nil {
				r.Keys, err = ring.KeyIDs()
			}
			if err == nil {
				r.Current, err = ring.KeyID()
			}
			if err != nil {
				return failHint(statusFailed, sealingHint(err), err)
			}
			if asJSON {
				return a.printJSON(r)
			}
			for _, k := range r.Kinds {
				fmt.Fprintf(a.stdout, "kind     %s\n", k)
			}
			for _, id := range r.Keys {
				current := ""
				if id == r.Current {
					current = "  seals now"
				}
				fmt.Fprintf(a.stdout, "key      %s%s\n", id, current)
			}
			if len(r.Kinds) > 1 {
				a.note("a move between kinds was cut off: donjon steward sealing move ends it")
			}
			return nil
		},
	}
	c.Flags().StringVar(&folder, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.MarkFlagDirname("state")
	return c
}

func (s *state) noKeys() error {
	return failHint(statusFailed, "donjon steward serve --state "+s.dir+" makes them", fmt.Errorf("%s holds no sealing keys", sealingDir(s.path(stewardKeys))))
}

// keysAsTheyAre opens the sealing keys of a state folder, of whatever kind they are, and
// unwraps none. Of two kinds, where a move to the kind target was cut off, it is the
// other one.
func (a *app) keysAsTheyAre(s *state, target string) (*sealing.Ring, error) {
	if err := s.readServing(); err != nil {
		return nil, err
	}
	dir := sealingDir(s.path(stewardKeys))
	found, err := sealing.Kinds(dir)
	if err != nil {
		return nil, fail(statusFailed, err)
	}
	if len(found) == 0 {
		return nil, s.noKeys()
	}
	c := sealing.Config{Kind: found[0], Dir: dir, Lazy: true, Mixed: true}
	if len(found) > 1 && found[0] == target {
		c.Kind = found[1]
	}
	if c.Kind != sealing.KindFile {
		if c.Passphrase, err = a.sealingPassphrase(); err != nil {
			return nil, err
		}
	}
	if c.Kind == sealing.KindKeep {
		c.Keep = a.sealerKeeps("", s.serving.AllowSimulated || s.serving.Sealing.AllowSimulated)
	}
	ring, err := sealing.Open(c)
	if err != nil {
		return nil, failHint(statusFailed, sealingHint(err), err)
	}
	return ring, nil
}

func newSealingMove(a *app) *cobra.Command {
	var folder, tee, passphraseFile string
	var allowSimulated bool
	c := &cobra.Command{
		Use:   "move [flags] KIND",
		Short: "put the keys under another protection",
		Long: `move puts the sealing keys under another protection: file, passphrase or keep. Their
passphrase, where they have one, is in the file that ` + passphraseVariable + ` names;
the new one is in --passphrase-file. The server must not run. If [sealing] in
steward.toml names a kind, change it as well.

Nothing is sealed again. Where the keys were protected less before, old copies and
backups still hold them as they were: donjon steward rotate --sealing-key makes a new
key and seals every secret under it.

exit status: 0 done, 1 failed, 2 wrong usage.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.sealingMove(folder, args[0], tee, passphraseFile, allowSimulated)
		},
	}
	c.Flags().StringVar(&folder, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringVar(&tee, "tee", "", "of the kind keep: the Keep to seal them in, sim or vm")
	c.Flags().BoolVar(&allowSimulated, "allow-simulated", false, "of the kind keep: believe a Keep whose processor is simulated, as sim's and vm's are")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "the new passphrase, a `FILE`: of the kind passphrase, and of keep if the Keep alone is not to open them")
	_ = c.MarkFlagDirname("state")
	return c
}

func (a *app) sealingMove(named, kind, tee, passphraseFile string, allowSimulated bool) error {
	switch {
	case kind != sealing.KindFile && kind != sealing.KindPassphrase && kind != sealing.KindKeep:
		return usageError(fmt.Errorf("found the kind %q, wanted file, passphrase or keep", kind))
	case kind == sealing.KindPassphrase && passphraseFile == "":
		return usageError(errors.New("the kind passphrase needs --passphrase-file"))
	case kind == sealing.KindFile && passphraseFile != "":
		return usageError(errors.New("--passphrase-file: keys of the kind file have none"))
	case kind == sealing.KindKeep && tee != "sim" && tee != "vm":
		return usageError(fmt.Errorf("--tee: found %q, wanted sim or vm: no other Keep can seal in this release", tee))
	case kind != sealing.KindKeep && (tee != "" || allowSimulated):
		return usageError(errors.New("--tee and --allow-simulated belong to the kind keep"))
	}
	dir, err := a.stewardState(named)
	if err != nil {
		return err
	}
	to := sealing.Config{Kind: kind}
	if passphraseFile != "" {
		if to.Passphrase, err = passphraseIn(passphraseFile); err != nil {
			return err
		}
	}
	s := &state{dir: dir}
	to.Dir = sealingDir(s.path(stewardKeys))
	if kind == sealing.KindKeep {
		to.Keep = a.sealerKeeps(tee, allowSimulated)
	}
	ring, err := a.keysAsTheyAre(s, kind)
	if err != nil {
		return err
	}
	defer ring.Close()
	unlock, err := a.alone(dir, s.serving.Database)
	if err != nil {
		return err
	}
	defer unlock()
	if err := sealing.Rekey(ring, to); err != nil {
		return failHint(statusFailed, sealingHint(err), err)
	}
	what := "the sealing keys are of the kind " + kind + " now"
	if err := s.noteMove(what, sealingFile{Kind: kind, TEE: tee, AllowSimulated: allowSimulated}); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, what)
	if kind == sealing.KindKeep {
		a.note("old copies of the keys are still good: donjon steward rotate --sealing-key makes a new one")
		a.recoveryHint(dir)
	}
	return nil
}

// noteMove tells the other verbs and the log.
func (s *state) noteMove(what string, to sealingFile) error {
	s.serving.Sealing = to
	if err := s.writeServing(); err != nil {
		return fail(statusFailed, err)
	}
	ctx := context.Background()
	if err := s.openStore(ctx); err != nil {
		return err
	}
	defer func() { _ = s.store.Close() }()
	if _, err := s.store.Append(ctx, audit.Record{Kind: audit.Note, Text: "sealing: " + what}, store.Actor{Who: "local", At: time.Now()}); err != nil {
		return fail(statusFailed, err)
	}
	return nil
}

func passphraseIn(file string) ([]byte, error) {
	b, err := readAtMost(file, 4096)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b, []byte("\n")), nil
}

func newSealingCopy(a *app) *cobra.Command {
	var folder, passphraseFile string
	c := &cobra.Command{
		Use:   "copy --passphrase-file FILE FOLDER",
		Short: "write a recovery copy of the keys, under a passphrase",
		Long: `copy writes the sealing keys into FOLDER, encrypted under the passphrase in FILE: for
the day when the machine, the token or the donjon-keep that opens them is gone. Made
again after each rotate --sealing-key.

To use it, put its files in the place of those in keys/sealing of the state. With
` + passphraseVariable + ` naming FILE, sealing move goes on from there, and
so does the server with [sealing] kind = "passphrase" in steward.toml.`,
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
			ring, err := a.keysAsTheyAre(&state{dir: dir}, "")
			if err != nil {
				return err
			}
			defer ring.Close()
			if err := sealing.Rekey(ring, sealing.Config{Kind: sealing.KindPassphrase, Dir: args[0], Passphrase: words}); err != nil {
				return failHint(statusFailed, sealingHint(err), err)
			}
			fmt.Fprintf(a.stdout, "a copy of the sealing keys is in %s\n", printable(args[0]))
			return nil
		},
	}
	c.Flags().StringVar(&folder, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "the copy's passphrase, a `FILE` of 12 bytes or more")
	_ = c.MarkFlagDirname("state")
	return c
}
