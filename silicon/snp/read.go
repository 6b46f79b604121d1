package snp

import (
	"fmt"
	"os"
	"path/filepath"
)

// Read is Open for those who only look: where dir holds no processor it gives an
// error that wraps fs.ErrNotExist, and makes none.
func Read(dir string) (*Silicon, error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("simulated silicon: %w", err)
	}
	s, err := parse(b)
	if err != nil {
		return nil, &StateError{Path: path, Err: err}
	}
	return s, nil
}
