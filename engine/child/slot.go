//go:build linux

package child

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/donjon-tee/donjon/engine"
)

// slotName is the file that the warden writes machine code to, in the folder where
// the engine looks for it: the sandbox lets no file move between folders.
const slotName = "slot"

// openSlot makes that file, where there is a cache folder: its descriptor goes to
// the warden, which may open nothing itself.
func openSlot(cacheDir string) (*os.File, string) {
	if cacheDir == "" {
		return nil, ""
	}
	dir, err := engine.CodeDir(cacheDir)
	if err != nil {
		return nil, ""
	}
	f, err := os.OpenFile(filepath.Join(dir, slotName), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, ""
	}
	return f, dir
}

// takeCode waits for the warden's word about the machine code, which it has
// authenticated, and puts it where the engine looks for it. false: there is none.
// The word comes where there is no folder too.
func takeCode(dir string) bool {
	body, _, err := listen(wordCode, 0)
	if dir == "" {
		return false
	}
	slot := filepath.Join(dir, slotName)
	defer os.Remove(slot) // gone already where it was taken
	var c code
	if err != nil || unmarshal(body, &c) != nil || !isName(c.Name) {
		return false
	}
	return os.Rename(slot, filepath.Join(dir, c.Name)) == nil
}

// isName says whether s names a file of a folder, and not the slot.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && s != slotName && !strings.ContainsAny(s, "/\x00")
}

// takeCache opens what the engine has just compiled. That there is nothing is no
// fault: the interpreter caches nothing.
func takeCache(dir string) (string, *os.File) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != slotName {
			f, err := os.Open(filepath.Join(dir, e.Name()))
			if err != nil {
				return "", nil
			}
			return e.Name(), f
		}
	}
	return "", nil
}
