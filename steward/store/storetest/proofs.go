package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/donjon-tee/donjon/steward/store"
)

// testProofs: rows hold under the key that authenticated them, under a new one once
// that has taken over, and under no other.
func testProofs(t *testing.T, f func(store.Options) store.Store) {
	ctx := context.Background()
	s := open(t, f)
	under := func(g store.Guard) store.Store {
		x := f(store.Options{Guard: g})
		t.Cleanup(func() { _ = x.Close() })
		return x
	}
	hash := Digest("token", 1)
	ok(t, s.PutFirstToken(ctx, store.Token{ID: "t", Hash: hash, Scopes: []store.Scope{store.ScopeRead}}, By))
	want(t, s.PutFirstToken(ctx, store.Token{ID: "u", Hash: Digest("token", 2), Scopes: []store.Scope{store.ScopeRead}}, By), store.ErrConflict)
	for v := range 5 {
		ok(t, s.PutPolicy(ctx, store.Policy{Workload: "w", Version: uint64(v + 1), Text: []byte("p")}, By))
	}
	ok(t, s.PutValue(ctx, "v", store.Value{Data: []byte("x"), Version: 1}))
	look := func(s store.Store, target error) {
		t.Helper()
		_, err := s.TokenByHash(ctx, hash)
		want(t, err, target)
		_, err = s.Policy(ctx, "w")
		want(t, err, target)
		_, err = s.PolicyVersion(ctx, "w", 2)
		want(t, err, target)
		_, err = s.Value(ctx, "v")
		want(t, err, target)
	}
	gone := Guard{ID: "k2", Retired: "k1"}
	look(s, nil)
	look(under(Guard{ID: "k2"}), nil)
	look(under(gone), store.ErrTampered)
	look(under(gone), store.ErrKeyGone)
	look(under(nil), store.ErrKey)
	ok(t, store.Agree(ctx, s))
	for name, g := range map[string]store.Guard{"gone": gone, "none": nil} {
		var not *store.NotMade
		if err := store.Agree(ctx, under(g)); !errors.As(err, &not) || *not != (store.NotMade{Policies: 5, Tokens: 1}) {
			t.Fatalf("the key %s: found %v", name, err)
		}
	}
	listed, err := under(nil).Policies(ctx, "w", 1)
	ok(t, err)
	equal(t, "without a key", listed[0].Doubt, store.Unchecked)
	want(t, under(nil).PutPolicy(ctx, store.Policy{Workload: "x", Version: 1, Text: []byte("p")}, By), store.ErrUnavailable)
	// The key takes over, a few rows at a time.
	two, n := under(Guard{ID: "k2"}), 0
	for {
		m, err := two.Reprove(ctx, "k2", 2, By)
		ok(t, err)
		if m == 0 {
			break
		}
		n += m
	}
	equal(t, "rows", n, 7)
	look(under(gone), nil)
	_, err = two.Reprove(ctx, "k3", 2, By) // which is not the current one
	want(t, err, store.ErrConflict)
	// What holds is not adopted, nor what is another now.
	tokens, err := two.Tokens(ctx)
	ok(t, err)
	equal(t, "doubt", tokens[0].Doubt, "")
	want(t, two.AdoptToken(ctx, tokens[0], By), store.ErrConflict)
	policies, err := two.Policies(ctx, "w", 1)
	ok(t, err)
	want(t, two.AdoptPolicy(ctx, policies[0], By), store.ErrConflict)
	policies[0].Version = 99
	want(t, two.AdoptPolicy(ctx, policies[0], By), store.ErrNotFound)
	// A token is taken back under the key of the day.
	ok(t, two.RevokeToken(ctx, "t", By))
	x, err := under(gone).TokenByHash(ctx, hash)
	ok(t, err)
	equal(t, "revoked", x.Revoked.IsZero(), false)
	// While its key is gone as well; the row is not called changed once that is back.
	ok(t, two.PutToken(ctx, store.Token{ID: "u", Hash: Digest("token", 2), Scopes: []store.Scope{store.ScopeRead}}, By))
	ok(t, under(Guard{ID: "k3", Retired: "k2"}).RevokeToken(ctx, "u", By))
	tokens, err = two.Tokens(ctx)
	ok(t, err)
	equal(t, "tokens", len(tokens), 2)
	for _, x := range tokens {
		equal(t, x.ID+": doubt", x.Doubt, map[string]string{"t": "", "u": store.Unchecked}[x.ID])
		equal(t, x.ID+": revoked", x.Revoked.IsZero(), false)
	}
}
