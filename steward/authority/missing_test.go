package authority

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What is gone is not made anew: nobody pins another root.
func TestWhatIsGoneIsNotMadeAnew(t *testing.T) {
	for name, c := range map[string]struct {
		gone string
		ok   bool
	}{
		"nothing":        {"", true},
		"the roots":      {"ca-0001", false},
		"a root":         {"ca-0001/root.pem", false},
		"the id":         {"id", false},
		"the audit key":  {"audit.pem", false},
		"the token key":  {"token.pem", false},
		"the Enarx CA":   {"enarx.pem", false},
		"challenge keys": {"challenge-*", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			a, err := Open(Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if c.gone != "" {
				list, err := filepath.Glob(filepath.Join(dir, c.gone))
				if err != nil || len(list) != 1 {
					t.Fatalf("found %v, %v", list, err)
				}
				if err := os.RemoveAll(list[0]); err != nil {
					t.Fatal(err)
				}
			}
			b, err := Open(Options{Dir: dir})
			if !c.ok {
				var state *StateError
				if !c.ok && err == nil || c.gone != "ca-0001/root.pem" && !errors.As(err, &state) {
					t.Fatalf("found %v, wanted a StateError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(a.PEM()) != string(b.PEM()) || !a.AuditKey().Equal(b.AuditKey()) {
				t.Error("the second time the keys are others")
			}
		})
	}
	// A start that was cut off is finished.
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := Open(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"complete", "audit.pem"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(Options{Dir: dir}); err != nil {
		t.Errorf("after a start that was cut off: %v", err)
	}
}
