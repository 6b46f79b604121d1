package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

func secret(name string, v uint64, policy int) store.Secret {
	return store.Secret{SecretKey: store.SecretKey{Workload: "w", Name: name}, Version: v,
		Sealed: fmt.Appendf(nil, "sealed %s %d", name, v), KeyID: "k1", Policy: Digest("policy", policy)}
}

func confirmation(policy int, key string) store.Confirmation {
	return store.Confirmation{Policy: Digest("policy", policy), MAC: fmt.Appendf(nil, "mac %d %s", policy, key), KeyID: key}
}

func stands(store.Secret, store.Confirmation) error { return nil }

func testSecrets(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	ok(t, s.PutSecret(ctx, secret("a", 1, 1), By))
	ok(t, s.PutSecret(ctx, secret("b", 1, 1), By))
	want(t, s.PutSecret(ctx, secret("a", 1, 1), By), store.ErrConflict)
	v, err := s.SecretVersion(ctx, "w", "a")
	ok(t, err)
	equal(t, "version", v, 1)
	k := store.SecretKey{Workload: "w", Name: "a"}
	ok(t, s.ConfirmSecret(ctx, k, 1, confirmation(2, "k1"), By))
	ok(t, s.ConfirmSecret(ctx, k, 1, confirmation(2, "k1"), By)) // again is no harm
	want(t, s.ConfirmSecret(ctx, k, 2, confirmation(2, "k1"), By), store.ErrConflict)
	list, err := s.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "secrets", len(list), 2)
	for policy, releasable := range []bool{false, true, true, false} {
		equal(t, fmt.Sprint("releasable under ", policy), list[0].Releasable(Digest("policy", policy), stands), releasable)
	}
	equal(t, "releasable under none", list[0].Releasable(audit.Digest{}, stands), false)
	// A new version is confirmed for nothing but its own policy, and the old one's
	// ciphertext is gone.
	ok(t, s.PutSecret(ctx, secret("a", 2, 3), By))
	list, err = s.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "sealed", string(list[0].Sealed), "sealed a 2")
	equal(t, "releasable under the confirmed", list[0].Releasable(Digest("policy", 2), stands), false)
	want(t, s.ConfirmSecret(ctx, k, 1, confirmation(2, "k1"), By), store.ErrConflict)
	// Rotation.
	stale, err := s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	equal(t, "stale", len(stale), 2)
	re := stale[0]
	re.Sealed, re.KeyID = []byte("again"), "k2"
	ok(t, s.RewrapSecret(ctx, re, "k1", By))
	want(t, s.RewrapSecret(ctx, re, "k1", By), store.ErrConflict)
	stale, err = s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	equal(t, "stale", len(stale), 1)
	testRotatedConfirmations(t, s)
	// Deletion.
	ok(t, s.DeleteSecret(ctx, k, By))
	want(t, s.DeleteSecret(ctx, k, By), store.ErrNotFound)
	want(t, s.ConfirmSecret(ctx, k, 2, confirmation(2, "k1"), By), store.ErrNotFound)
	want(t, s.RewrapSecret(ctx, re, "k2", By), store.ErrConflict)
	all, err := s.AllSecrets(ctx, store.SecretKey{}, 10)
	ok(t, err)
	equal(t, "all", len(all), 1)
	equal(t, "without ciphertext", len(all[0].Sealed), 0)
	v, err = s.SecretVersion(ctx, "w", "a")
	ok(t, err)
	equal(t, "version after deletion", v, 2)
	ok(t, s.PutSecret(ctx, secret("a", 3, 1), By))
	all, err = s.AllSecrets(ctx, k, 10)
	ok(t, err)
	equal(t, "page", all[0].Name, "b")
}

// testRotatedConfirmations has a's version 2, which k2 sealed, confirmed under k1.
func testRotatedConfirmations(t *testing.T, s store.Store) {
	ctx, k := context.Background(), store.SecretKey{Workload: "w", Name: "a"}
	for _, p := range []int{4, 5, 6} {
		ok(t, s.ConfirmSecret(ctx, k, 2, confirmation(p, "k1"), By))
	}
	ok(t, s.ConfirmSecret(ctx, k, 2, confirmation(4, "k0"), By)) // again: the newer MAC
	list, err := s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	equal(t, "stale", len(list), 2)
	x := list[0]
	said := func(x store.Secret) string {
		out := map[audit.Digest]string{}
		for _, c := range x.Confirmed {
			out[c.Policy] = string(c.MAC) + "/" + c.KeyID
		}
		return fmt.Sprint(len(out), " ", out[Digest("policy", 4)], " ", out[Digest("policy", 5)], " ", out[Digest("policy", 6)])
	}
	equal(t, "confirmations", said(x), "3 mac 4 k0/k0 mac 5 k1/k1 mac 6 k1/k1")
	ok(t, s.ConfirmSecret(ctx, k, 2, confirmation(6, "k2"), By)) // meanwhile
	old := x.KeyID
	x.KeyID = "k2"
	for i := range x.Confirmed {
		x.Confirmed[i].MAC, x.Confirmed[i].KeyID = []byte("rotated"), "k2"
		if x.Confirmed[i].Policy == Digest("policy", 5) {
			x.Confirmed[i].MAC = nil // it did not hold
		}
	}
	ok(t, s.RewrapSecret(ctx, x, old, By))
	list, err = s.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "rotated", said(list[0]), "3 rotated/k2 /k2 mac 6 k2/k2")
	list, err = s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	for _, y := range list {
		equal(t, "still stale", y.Name, "b")
	}
}

func testSecretRace(t *testing.T, f func(store.Options) store.Store) {
	stores, ctx := []store.Store{open(t, f), open(t, f)}, context.Background()
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := stores[i%2].PutSecret(ctx, secret("a", 1, i), By)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	equal(t, "written", won.Load(), 1)
}

func testTokens(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	tok := store.Token{ID: "t1", Name: "ops", Hash: Digest("token", 1), Scopes: []store.Scope{store.ScopeRead, store.ScopeSecret}, Expires: T0.Add(time.Hour)}
	ok(t, s.PutToken(ctx, tok, By))
	want(t, s.PutToken(ctx, tok, By), store.ErrConflict)
	same := tok
	same.ID = "t2"
	want(t, s.PutToken(ctx, same, By), store.ErrConflict)
	got, err := s.TokenByHash(ctx, tok.Hash)
	ok(t, err)
	equal(t, "read", got.Has(store.ScopeRead, T0), true)
	equal(t, "policy", got.Has(store.ScopePolicy, T0), false)
	equal(t, "expired", got.Has(store.ScopeRead, T0.Add(time.Hour)), false)
	_, err = s.TokenByHash(ctx, Digest("token", 2))
	want(t, err, store.ErrNotFound)
	ok(t, s.RevokeToken(ctx, "t1", By))
	want(t, s.RevokeToken(ctx, "t1", By), store.ErrNotFound)
	got, err = s.TokenByHash(ctx, tok.Hash)
	ok(t, err)
	equal(t, "revoked", got.Has(store.ScopeRead, T0), false)
	list, err := s.Tokens(ctx)
	ok(t, err)
	equal(t, "tokens", len(list), 1)
	tok.ID, tok.Hash, tok.Scopes = "t3", Digest("token", 3), []store.Scope{"everything"}
	want(t, s.PutToken(ctx, tok, By), store.ErrInvalid)
	tok.Scopes = nil
	want(t, s.PutToken(ctx, tok, By), store.ErrInvalid)
}

func testValues(t *testing.T, f func(store.Options) store.Store) {
	s, two, ctx := open(t, f), open(t, f), context.Background()
	_, err := s.Value(ctx, "seen")
	want(t, err, store.ErrNotFound)
	ok(t, s.PutValue(ctx, "seen", store.Value{Data: []byte{0, 1, 255}, Version: 1}))
	want(t, two.PutValue(ctx, "seen", store.Value{Data: []byte("x"), Version: 1}), store.ErrConflict)
	v, err := two.Value(ctx, "seen")
	ok(t, err)
	equal(t, "data", string(v.Data), "\x00\x01\xff")
	ok(t, two.PutValue(ctx, "seen", store.Value{Version: v.Version + 1}))
	want(t, s.PutValue(ctx, "seen", store.Value{Data: []byte("x"), Version: 2}), store.ErrConflict)
	v, err = s.Value(ctx, "seen")
	ok(t, err)
	equal(t, "empty", len(v.Data), 0)
	_, err = s.LatestHead(ctx)
	want(t, err, store.ErrNotFound)
	ok(t, s.PutHead(ctx, 5, []byte("five")))
	ok(t, two.PutHead(ctx, 4, []byte("four")))
	h, err := s.LatestHead(ctx)
	ok(t, err)
	equal(t, "head", string(h), "five")
}
