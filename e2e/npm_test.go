//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A pkg is an npm package in one exact form: other bytes are refused.
type pkg struct {
	name, version, sha512 string
	keep                  func(name string) bool // which files are unpacked; nil: all
}

// fetch unpacks a package into a folder that stays (out/ is not the tree's), and
// gives its path. npm is asked only for what is not there.
func (p pkg) fetch(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(kept(t), "npm", strings.NewReplacer("@", "", "/", "-").Replace(p.name)+"-"+p.version)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	b := p.download(t)
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "part-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := untar(b, tmp, "package/", p.keep); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return dir
}

func (p pkg) download(t *testing.T) []byte {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("no npm, which fetches the programs (Debian: npm)")
	}
	to := t.TempDir()
	if err := os.MkdirAll(filepath.Join(kept(t), "npm"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", to, p.name+"@"+p.version)
	if msg, err := c.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("npm cannot fetch %s here: %v: %s", p.name, err, msg)
		}
		t.Fatalf("npm pack %s: %v: %s", p.name, err, msg)
	}
	files, err := filepath.Glob(filepath.Join(to, "*.tgz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("npm pack %s left %v, %v, wanted one file", p.name, files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(b)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != p.sha512 {
		t.Fatalf("%s %s: found sha512 %s, wanted %s", p.name, p.version, got, p.sha512)
	}
	return b
}

// untar unpacks the regular files below prefix into dir.
func untar(gz []byte, dir, prefix string, keep func(string) bool) error {
	z, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(h.Name, prefix)
		if h.Typeflag != tar.TypeReg || !ok || keep != nil && !keep(name) {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, tr)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// kept is the folder of what tests fetch, build and compile: made once, outside
// what is committed.
func kept(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../out/programs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
