// Package published gives tests the evidence that real hardware signed and other
// projects published (docs/testing.md). It is not part of the repository: the
// environment variable DONJON_EVIDENCE names the folder that holds it, relative to the
// module's root or absolute. It is for tests alone.
package published

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const (
	variable = "DONJON_EVIDENCE"
	standard = "../shared/evidence" // seen from the module's root
)

// Dir is the absolute path of the folder; there may be none.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		dir = standard
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(root(t), dir)
	}
	return dir
}

// root is the folder of go.mod, at or above the one that the test runs in.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = up
	}
}

// Read reads a file, such as "snp/milan-v2.report.bin". Where it is missing the test
// is skipped, and fails where DONJON_EVIDENCE says that it is there.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b := Find(t, name)
	if b == nil {
		t.Skipf("no published evidence here (see docs/testing.md): %s", name)
	}
	return b
}

// Find is Read for tests that go on without the file; it is then nil.
func Find(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(t), filepath.FromSlash(name)))
	switch {
	case err == nil:
		return b
	case errors.Is(err, fs.ErrNotExist) && os.Getenv(variable) == "":
		return nil
	}
	t.Fatalf("published evidence (%s=%q): %v", variable, os.Getenv(variable), err)
	return nil
}

// Path is the absolute path of a file that is there; else as Read.
func Path(t testing.TB, name string) string {
	t.Helper()
	Read(t, name)
	return filepath.Join(Dir(t), filepath.FromSlash(name))
}
