//go:build linux

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A damaged database, or one that is gone, says what to do, and restoring does it.
func TestDamagedDatabase(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	if err := s.publish(); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := s.store.Backup(ctx, &backup); err != nil {
		t.Fatal(err)
	}
	s.close()
	whole, err := os.ReadFile(filepath.Join(dir, stewardDB))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content    []byte // nil: gone
		text, hint string
	}{
		"garbage":   {bytes.Repeat([]byte("garbage "), 1000), "damaged", "donjon steward restore --state " + dir},
		"truncated": {whole[:len(whole)/3], "damaged", "donjon steward restore --state " + dir},
		"empty":     {[]byte{}, "gone or empty", "donjon steward restore --state " + dir},
		"gone":      {nil, "gone or empty", "donjon steward restore --state " + dir},
	} {
		for _, create := range []bool{true, false} {
			for _, file := range []string{stewardDB, stewardDB + "-wal", stewardDB + "-shm"} {
				_ = os.Remove(filepath.Join(dir, file))
			}
			if c.content != nil {
				if err := os.WriteFile(filepath.Join(dir, stewardDB), c.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o := stateOptions{create: create}
			if create {
				o.serving = &serving{}
			}
			got, err := a.openState(ctx, dir, o)
			if err == nil {
				got.close()
				t.Fatalf("%s: it was opened", name)
			}
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(hintOf(err), c.hint) {
				t.Errorf("%s: found %v; hint: %s", name, err, hintOf(err))
			}
		}
	}
	_ = os.Remove(filepath.Join(dir, stewardDB))
	if err := a.stewardRestore(dir, "", nil, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	testState(t, a, dir).close()
}
