package snp_test

import (
	"os"
	"path/filepath"
)

// published is a file of the published evidence; nil where there is none.
func published(name string) []byte {
	dir := os.Getenv("DONJON_EVIDENCE")
	if dir == "" {
		dir = "../../../shared/evidence"
	}
	b, err := os.ReadFile(filepath.Join(dir, "snp", name))
	if err != nil {
		return nil
	}
	return b
}
