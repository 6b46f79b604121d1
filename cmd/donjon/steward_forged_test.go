//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
)

// forge changes a state's database as somebody does who can write it and has no key.
func forge(t *testing.T, s *state, change string) {
	t.Helper()
	raw, err := sql.Open("sqlite", s.path(stewardDB))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	res, err := raw.Exec(change)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		t.Fatal("nothing was changed")
	}
}

// What held under the old sealing key holds under the new one alone, and what was
// forged is not made good.
func TestRotationKeepsProofs(t *testing.T) {
	a, _ := testApp()
	ctx := context.Background()
	s := testState(t, a, filepath.Join(t.TempDir(), "S"))
	defer s.close()
	by := store.Actor{Who: "t", At: time.Now()}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hashes := map[string][32]byte{}
	for _, name := range []string{"good", "forged"} {
		text, tok := server.NewToken(name, []store.Scope{store.ScopeRead}, time.Time{})
		hashes[name] = server.TokenHash(text)
		ok(s.store.PutToken(ctx, tok, by))
		ok(s.store.PutPolicy(ctx, store.Policy{Workload: name, Version: 1, Text: []byte("p")}, by))
	}
	ok(s.store.PutValue(ctx, "v", store.Value{Data: []byte("x"), Version: 1}))
	forge(t, s, "UPDATE tokens SET scopes = 'admin' WHERE name = 'forged'")
	forge(t, s, "UPDATE policies SET at = at + 1 WHERE workload = 'forged'")
	old, err := s.ring.KeyID()
	ok(err)
	current, err := s.ring.Rotate()
	ok(err)
	ok(s.reprove(ctx, current))
	ok(s.ring.Retire(old))
	for name, hash := range hashes {
		_, err := s.store.TokenByHash(ctx, hash)
		_, perr := s.store.Policy(ctx, name)
		if good := name == "good"; good != (err == nil) || good != (perr == nil) || !good && (!errors.Is(err, store.ErrTampered) || !errors.Is(perr, store.ErrTampered)) {
			t.Errorf("%s: found %v, %v", name, err, perr)
		}
	}
	if v, err := s.store.Value(ctx, "v"); err != nil || string(v.Data) != "x" {
		t.Errorf("the value: found %v", err)
	}
	rows, err := store.UnprovenRows(ctx, s.store)
	if err != nil || len(rows) != 0 {
		t.Errorf("what was forged can be taken over: %v, %v", rows, err)
	}
}

// A database from before rows had MACs grants nothing until they are taken over, and
// what the log does not know never is.
func TestAdopt(t *testing.T) {
	a, out := testApp()
	ctx := context.Background()
	s := testState(t, a, filepath.Join(t.TempDir(), "S"))
	defer s.close()
	by := store.Actor{Who: "t", At: time.Now()}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text, tok := server.NewToken("old", server.AllScopes(), time.Time{})
	ok(s.store.PutToken(ctx, tok, by))
	ok(s.store.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, by))
	forge(t, s, "UPDATE tokens SET mac = x'', key_id = ''")
	forge(t, s, "UPDATE policies SET mac = x'', key_id = ''")
	forge(t, s, "INSERT INTO tokens (id, name, hash, scopes, created, who, expires, revoked) SELECT 'theirs', 'x', zeroblob(32), scopes, created, who, 0, 0 FROM tokens")
	good := func() bool {
		_, terr := s.store.TokenByHash(ctx, server.TokenHash(text))
		_, perr := s.store.Policy(ctx, "w")
		if (terr == nil) != (perr == nil) || terr != nil && (!errors.Is(terr, store.ErrUnproven) || !errors.Is(perr, store.ErrUnproven)) {
			t.Fatalf("found %v, %v", terr, perr)
		}
		return terr == nil
	}
	if err := a.adopt(ctx, s, audit.Options{Unsigned: true}, false); err == nil || !strings.Contains(err.Error(), "1 rows") || good() {
		t.Fatalf("listing: %v, %s", err, out)
	}
	if err := a.adopt(ctx, s, audit.Options{Unsigned: true}, true); err == nil || !good() || !strings.Contains(out.String(), "NOT IN THE LOG") {
		t.Fatalf("taking over: %v, %s", err, out)
	}
	if x, err := s.store.TokenByHash(ctx, [32]byte{}); err == nil {
		t.Errorf("a token that the log does not know was taken over: %+v", x)
	}
	// Nor is anything where the log was changed.
	forge(t, s, "UPDATE policies SET mac = x'', key_id = ''")
	forge(t, s, "UPDATE audit SET record = (SELECT record FROM audit WHERE seq = 2) WHERE seq = 3")
	if err := a.adopt(ctx, s, audit.Options{Unsigned: true}, true); err == nil || !strings.Contains(err.Error(), "audit: ") {
		t.Errorf("over a changed log: %v", err)
	}
}

// Servers that start at once on one folder and one database make one first token, and
// the file has it.
func TestOneFirstToken(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	testState(t, a, dir).close()
	const n = 8
	var wg sync.WaitGroup
	made := make(chan bool, n)
	for range n {
		s := testState(t, a, dir)
		defer s.close()
		wg.Go(func() {
			first, err := s.firstToken(ctx)
			if err != nil {
				t.Error(err)
			}
			made <- first
		})
	}
	wg.Wait()
	close(made)
	count := 0
	for m := range made {
		if m {
			count++
		}
	}
	s := testState(t, a, dir)
	defer s.close()
	list, err := s.store.Tokens(ctx)
	if err != nil || len(list) != 1 || count != 1 {
		t.Fatalf("found %d tokens, %d makers, %v", len(list), count, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, stewardToken))
	if err != nil || server.TokenHash(strings.TrimSpace(string(text))) != list[0].Hash {
		t.Errorf("the file has another token, or none: %v", err)
	}
}

// A server with a folder of its own that loses to another one leaves no token file.
func TestFirstTokenOfAnother(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	defer s.close()
	real := s.store
	s.store = emptyTokens{real}
	if first, err := s.firstToken(ctx); err != nil || !first {
		t.Fatal(first, err)
	}
	if err := os.Remove(filepath.Join(dir, stewardToken)); err != nil {
		t.Fatal(err)
	}
	if first, err := s.firstToken(ctx); err != nil || first {
		t.Fatalf("found %v, %v", first, err)
	}
	if _, err := os.Stat(filepath.Join(dir, stewardToken)); err == nil {
		t.Error("a token that nobody knows is left")
	}
}

// emptyTokens shows no token, as a store does just before another server makes one.
type emptyTokens struct{ store.Store }

func (emptyTokens) Tokens(context.Context) ([]store.Token, error) { return nil, nil }
