//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/donjon-tee/donjon/attest/collateral"
)

// Bounds on a folder that --collateral names.
const (
	maxCollateralFiles = 4096
	maxCollateralBytes = 64 << 20
)

// addCollateral takes one file apart.
func addCollateral(set *collateral.Set, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return notFound(name, err)
	}
	if !info.Mode().IsRegular() {
		return fail(statusFailed, fmt.Errorf("--collateral %s: neither a file nor a folder", name))
	}
	if info.Size() > collateral.MaxFile {
		set.Ignored = append(set.Ignored, collateral.Ignored{Name: name, Why: fmt.Sprintf("%d bytes, at most %d", info.Size(), collateral.MaxFile)})
		return nil
	}
	b, err := readAtMost(name, collateral.MaxFile)
	if err != nil {
		return err
	}
	if err := set.Add(name, b); err != nil {
		return fail(statusFailed, fmt.Errorf("--collateral: %w", err))
	}
	return nil
}

// collateralFolder takes every regular file of a folder and its subfolders. Links
// that lead out of the folder are passed over like anything else that is no file.
func collateralFolder(set *collateral.Set, dir string) error {
	// A link that was named is followed; WalkDir alone would not even look into it.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fail(statusFailed, fmt.Errorf("--collateral %w", err))
	}
	files, total := 0, int64(0)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if files, total = files+1, total+min(info.Size(), collateral.MaxFile); files > maxCollateralFiles || total > maxCollateralBytes {
			return fmt.Errorf("more than %d files or %d MiB", maxCollateralFiles, maxCollateralBytes>>20)
		}
		return addCollateral(set, path)
	})
	if err != nil {
		var f *failure
		if errors.As(err, &f) {
			return err
		}
		return fail(statusFailed, fmt.Errorf("--collateral %s: %w", dir, err))
	}
	return nil
}
