package published

import (
	"os"
	"path/filepath"
	"testing"
)

// outcome is what a test that calls f comes to.
type outcome struct {
	testing.TB
	skipped, failed bool
}

func (o *outcome) Helper()               {}
func (o *outcome) Skipf(string, ...any)  { o.skipped = true; panic(o) }
func (o *outcome) Fatalf(string, ...any) { o.failed = true; panic(o) }

func run(f func(testing.TB)) (o outcome) {
	defer func() {
		if p := recover(); p != nil && p != any(&o) {
			panic(p)
		}
	}()
	f(&o)
	return
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(filepath.Join(here, "..", ".."), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{dir, relative} {
		t.Setenv("DONJON_EVIDENCE", env)
		var got []byte
		if o := run(func(tb testing.TB) { got = Read(tb, "file") }); o.skipped || o.failed || string(got) != "x" {
			t.Errorf("%s: found %q, %+v", env, got, o)
		}
		if o := run(func(tb testing.TB) { Read(tb, "other") }); !o.failed {
			t.Errorf("%s: a missing file did not fail: %+v", env, o)
		}
		if o := run(func(tb testing.TB) { Find(tb, "other") }); !o.failed {
			t.Errorf("%s: a missing file did not fail: %+v", env, o)
		}
	}
	t.Setenv("DONJON_EVIDENCE", "")
	if o := run(func(tb testing.TB) { Read(tb, "no such file") }); !o.skipped || o.failed {
		t.Errorf("without the variable: %+v", o)
	}
	if o := run(func(tb testing.TB) { Find(tb, "no such file") }); o.skipped || o.failed {
		t.Errorf("without the variable: %+v", o)
	}
}
