//go:build linux

package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
)

// TestRotationKeepsConfirmations: what held holds under the new key alone, and what was
// forged is not made good.
func TestRotationKeepsConfirmations(t *testing.T) {
	a, _ := testApp()
	ctx := context.Background()
	s := testState(t, a, filepath.Join(t.TempDir(), "S"))
	defer s.close()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	by := store.Actor{Who: "t", At: time.Now()}
	seal, key := ringSealer{s.ring}, store.SecretKey{Workload: "sha256:" + strings.Repeat("0", 64), Name: "a"}
	sealed, old, err := seal.Seal(key, 1, audit.Digest{1}, []byte("x"))
	ok(err)
	ok(s.store.PutSecret(ctx, store.Secret{SecretKey: key, Version: 1, Sealed: sealed, KeyID: old, Policy: audit.Digest{1}}, by))
	good, err := seal.Confirm(key, 1, audit.Digest{2})
	ok(err)
	ok(s.store.ConfirmSecret(ctx, key, 1, good, by))
	for i, id := range []string{old, "0000000000000000", "../x"} {
		ok(s.store.ConfirmSecret(ctx, key, 1, store.Confirmation{Policy: audit.Digest{byte(3 + i)}, MAC: good.MAC, KeyID: id}, by))
	}
	current, err := s.ring.Rotate()
	ok(err)
	ok(s.reseal(ctx, current))
	ok(s.ring.Retire(old))
	list, err := s.store.Secrets(ctx, key.Workload)
	ok(err)
	x := list[0]
	plain, err := seal.Open(x)
	if err != nil || string(plain) != "x" || len(x.Confirmed) != 4 {
		t.Fatalf("found %q, %v, %d confirmations", plain, err, len(x.Confirmed))
	}
	for p, want := range []bool{false, true, true, false, false, false} {
		if got := x.Releasable(audit.Digest{byte(p)}, seal.Confirmed); got != want {
			t.Errorf("under the policy %d: found %t", p, got)
		}
	}
	// A row that says another policy is not sealed again under it.
	x.Policy = audit.Digest{9}
	if _, err := seal.Open(x); !errors.Is(err, sealing.ErrOpen) {
		t.Errorf("under another policy: %v", err)
	}
}
