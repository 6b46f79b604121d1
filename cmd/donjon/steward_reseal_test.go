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

// TestRotationsAtOnce: of two that rotate one is told to wait, and one whose new key was
// overtaken ends.
func TestRotationsAtOnce(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	defer s.close()
	other, err := a.openState(ctx, dir, stateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	unlock, err := other.ring.LockRotation()
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.ring.KeyID()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.rotateSealing(ctx); !errors.Is(err, sealing.ErrKeyFile) || !strings.Contains(err.Error(), "another process rotates") {
		t.Errorf("while another process rotates: %v", err)
	}
	if id, err := s.ring.KeyID(); err != nil || id != before {
		t.Errorf("found the key %s, %v, wanted %s", id, err, before)
	}
	unlock()
	key := store.SecretKey{Workload: "sha256:" + strings.Repeat("0", 64), Name: "a"}
	sealed, id, err := ringSealer{s.ring}.Seal(key, 1, audit.Digest{1}, []byte("x"))
	if err == nil {
		err = s.store.PutSecret(ctx, store.Secret{SecretKey: key, Version: 1, Sealed: sealed, KeyID: id, Policy: audit.Digest{1}}, store.Actor{Who: "t", At: time.Now()})
	}
	if err != nil {
		t.Fatal(err)
	}
	mine, err := s.ring.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ring.Rotate(); err != nil {
		t.Fatal(err)
	}
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.reseal(within, mine); err == nil || !strings.Contains(err.Error(), "took over") {
		t.Errorf("under a key that was overtaken: %v", err)
	}
	if err := s.rotateSealing(ctx); err != nil {
		t.Fatal(err)
	}
	list, err := s.store.Secrets(ctx, key.Workload)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if plain, err := (ringSealer{s.ring}).Open(list[0]); err != nil || string(plain) != "x" {
		t.Errorf("found %q, %v", plain, err)
	}
}
