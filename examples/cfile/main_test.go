// Package cfile holds the test of the C example, which is built natively for it.
package cfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func build(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		if cc, err = exec.LookPath("clang"); err != nil {
			t.Skip("no C compiler on this machine")
		}
	}
	program := filepath.Join(t.TempDir(), "cfile")
	if out, err := exec.Command(cc, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, filepath.Join("src", "main.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

func TestCounts(t *testing.T) {
	program := build(t)
	dir := t.TempDir()
	long := strings.Repeat("x", 100)
	for name, text := range map[string]string{
		"a.txt": "One two, TWO;three\n", "b.txt": "two " + long, "empty": "", ".hidden": "not counted",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(program, dir).Output()
	want := "a.txt: 4 words\nb.txt: 2 words\nempty: 0 words\ntotal: 6 words, 4 distinct\n" +
		"     3 two\n     1 one\n     1 three\n     1 " + long[:63] + "\n"
	if err != nil || string(out) != want {
		t.Errorf("found %v, %q, wanted %q", err, out, want)
	}
}

func TestSaysThatTheFolderIsMissing(t *testing.T) {
	out, err := exec.Command(build(t), filepath.Join(t.TempDir(), "none")).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "cfile: ") {
		t.Errorf("found %v, %q", err, out)
	}
}
