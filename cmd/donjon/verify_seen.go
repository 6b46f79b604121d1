//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
)

const maxSeenFile = 2 << 20

// seenCollateral loads what this machine has seen of collateral, and gives a function
// that saves it. With --at older collateral is right: then nothing is loaded. Two
// verify at once may lose one's marks; they never take one back.
func (a *app) seenCollateral(at string, o *attest.Options) (save func() error, err error) {
	nothing := func() error { return nil }
	if at != "" {
		return nothing, nil
	}
	dir, err := a.stateDir()
	if err != nil {
		a.note("no home folder: whether newer collateral was seen before is not known")
		return nothing, nil
	}
	name := filepath.Join(dir, "collateral-seen.json")
	before, err := readAtMost(name, maxSeenFile)
	switch {
	case err == nil:
		if o.Seen, err = collateral.LoadHighWater(before); err != nil {
			return nil, failHint(statusFailed, "remove that file, and older collateral passes for new once", fmt.Errorf("%s: %w", name, err))
		}
	case errors.Is(err, fs.ErrNotExist) || notThere(name):
		o.Seen, before = &collateral.HighWater{}, nil
	default:
		return nil, err
	}
	return func() error {
		b, err := o.Seen.Save()
		if err != nil || bytes.Equal(b, before) || before == nil && o.Seen.Len() == 0 {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		f, err := os.CreateTemp(dir, ".seen-*")
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), name)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
		return err
	}, nil
}

func notThere(name string) bool {
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}
