// Package examples holds what must be true of every example.
package examples

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/donjon-tee/donjon/workload"
)

func TestConfigurations(t *testing.T) {
	files, err := filepath.Glob("*/Donjon.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d configurations, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := workload.ParseConfig(b)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		for _, d := range c.Data {
			if _, err := os.Stat(filepath.Join(filepath.Dir(f), d.Path)); err != nil {
				t.Errorf("%s: %v", f, err)
			}
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(f), "README.md")); err != nil {
			t.Error(err)
		}
	}
}
