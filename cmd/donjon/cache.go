//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/image"
)

func newCacheCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "show and empty what donjon keeps to be faster next time",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "list what is in the cache and how large it is",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return a.cacheList(asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(list, &cobra.Command{
		Use:   "clean",
		Short: "remove all of it; the next run makes or fetches what it needs again",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return a.cacheClean() },
	})
	return c
}

// The other folders of the cache, beside the kernels: compiled code that Keeps
// handed out (authenticated by them), which kernels boot with KVM here, and vendor
// data. What verify has seen of collateral is no cache and not in here.
var cacheFolders = [...]struct{ name, what string }{
	{"blobs", "compiled code"},
	{"kvm", "results of trying KVM"},
	{fetchedFolder, "vendor data for verifying"},
}

type cacheReport struct {
	Folder  string        `json:"folder"`
	Kernels []image.Entry `json:"kernels"`
	Other   []cacheOther  `json:"other"`
	Bytes   int64         `json:"bytes"`
}

type cacheOther struct {
	Name  string `json:"name"`
	What  string `json:"what"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

func (a *app) cacheContents() (cacheReport, error) {
	r := cacheReport{Folder: a.cacheDir(), Kernels: []image.Entry{}, Other: []cacheOther{}}
	kernels, err := image.List(r.Folder)
	if err != nil {
		return r, fail(statusFailed, err)
	}
	for _, k := range kernels {
		r.Kernels, r.Bytes = append(r.Kernels, k), r.Bytes+k.Bytes
	}
	for _, c := range cacheFolders {
		o := cacheOther{Name: c.name, What: c.what}
		err := filepath.WalkDir(filepath.Join(r.Folder, c.name), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if st, err := d.Info(); err == nil { // gone by now: not counted
				o.Files, o.Bytes = o.Files+1, o.Bytes+st.Size()
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, fail(statusFailed, fmt.Errorf("reading the cache: %w", err))
		}
		r.Other, r.Bytes = append(r.Other, o), r.Bytes+o.Bytes
	}
	return r, nil
}

func (a *app) cacheList(asJSON bool) error {
	r, err := a.cacheContents()
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(r)
	}
	for _, k := range r.Kernels {
		a.printEntry(k)
	}
	for _, o := range r.Other {
		fmt.Fprintf(a.stdout, "%s: %d files, %s\n", o.What, o.Files, size(o.Bytes))
	}
	fmt.Fprintf(a.stdout, "in all %s in %s\n", size(r.Bytes), printable(r.Folder))
	return nil
}

func (a *app) listImages(asJSON bool) error {
	kernels, err := image.List(a.cacheDir())
	if err != nil {
		return fail(statusFailed, err)
	}
	if asJSON {
		if kernels == nil {
			kernels = []image.Entry{}
		}
		return a.printJSON(struct {
			Kernels []image.Entry `json:"kernels"`
		}{kernels})
	}
	if len(kernels) == 0 {
		a.note("no kernel in the cache; donjon image build fetches one")
	}
	for _, k := range kernels {
		a.printEntry(k)
	}
	return nil
}

func (a *app) printEntry(k image.Entry) {
	fmt.Fprintf(a.stdout, "kernel %s %s: %s, %s\n", k.Arch, printable(k.Release), size(k.Bytes), printable(k.Path))
}

func (a *app) cacheClean() error {
	r, err := a.cacheContents()
	if err != nil {
		return err
	}
	if _, err := image.Clean(r.Folder); err != nil {
		return fail(statusFailed, err)
	}
	for _, c := range cacheFolders {
		if err := os.RemoveAll(filepath.Join(r.Folder, c.name)); err != nil {
			return fail(statusFailed, fmt.Errorf("cleaning the cache: %w", err))
		}
	}
	a.note("removed %s from %s", size(r.Bytes), r.Folder)
	return nil
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}

func hashFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, fmt.Errorf("reading %s: %w", path, err)
	}
	return [32]byte(h.Sum(nil)), nil
}
