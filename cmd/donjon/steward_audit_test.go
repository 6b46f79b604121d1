//go:build linux

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
)

// Where sealing keys are gone, the log and what stands beside it are verified all the
// same; MACs that cannot be checked are never called good, and what differs is found.
func TestAuditWithoutSealingKeys(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	by := store.Actor{Who: "t", At: time.Now()}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	verify := func(when string, status int, words ...string) {
		t.Helper()
		got, out, errs := command(t, "steward", "audit", "verify", "--state", dir)
		text := out + errs
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: found %q, wanted %q in it", when, text, w)
			}
		}
		if got != status || (status == statusDone) != strings.Contains(out, "MACs of policies and tokens hold") || (status == statusFailed) == strings.Contains(out, "✔") {
			t.Errorf("%s: found status %d, %q, wanted %d", when, got, text, status)
		}
		if status == statusFailed {
			return
		}
		got, out, _ = command(t, "steward", "audit", "verify", "--json", "--state", dir)
		var v struct {
			Records uint64
			Rows    struct{ Log, MACs string }
		}
		ok(json.Unmarshal([]byte(out), &v))
		if macs := map[int]string{statusDone: "passed", statusCannotTell: "not_made"}[status]; got != status || v.Records == 0 || v.Rows.Log != "passed" || v.Rows.MACs != macs {
			t.Errorf("%s: found status %d, %+v", when, got, v)
		}
	}
	open := func(f func(s *state)) {
		t.Helper()
		s := testState(t, a, dir)
		defer s.close()
		f(s)
	}
	open(func(s *state) {
		ok(s.publish())
		_, tok := server.NewToken("old", []store.Scope{store.ScopeRead}, time.Time{})
		tok.ID = "old"
		ok(s.store.PutToken(ctx, tok, by))
		for v := range 2 {
			ok(s.store.PutPolicy(ctx, store.Policy{Workload: "w", Version: uint64(v + 1), Text: []byte{'p', byte(v)}}, by))
		}
	})
	verify("with the keys", statusDone)

	ok(os.RemoveAll(filepath.Join(dir, stewardKeys, "sealing")))
	const lost = "NOT CHECKED: the MACs of 2 policies and 1 tokens"
	verify("without any", statusCannotTell, lost, "holds no key that seals secrets")
	if _, err := os.Stat(filepath.Join(dir, stewardKeys, "sealing")); err == nil {
		t.Error("looking made a key")
	}
	for _, args := range [][]string{{"policy", "show", "w"}, {"token", "list"}} {
		if status, _, errs := command(t, append([]string{"steward", args[0], args[1], "--state", dir}, args[2:]...)...); status == 0 {
			t.Errorf("%q goes on without keys: %s", args, errs)
		}
	}

	open(func(*state) {}) // makes a new one
	verify("with another key", statusCannotTell, lost, "where no sealing key was lost, ask who could write the database")
	open(func(s *state) {
		if _, err := s.store.Policy(ctx, "w"); err == nil {
			t.Error("a policy under a lost key is judged by")
		}
		ok(s.store.PutPolicy(ctx, store.Policy{Workload: "w", Version: 3, Text: []byte("p3")}, by))
	})
	verify("with a policy written anew", statusCannotTell, lost)
	open(func(s *state) { ok(s.rotateSealing(ctx)) })
	verify("after a rotation", statusCannotTell, lost)

	// What differs from the log is found, whatever its MAC.
	for what, change := range map[string]string{
		"a policy":         "UPDATE policies SET text = x'61', digest = x'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb' WHERE version = 1",
		"a token":          "UPDATE tokens SET scopes = 'admin'",
		"a token's end":    "UPDATE tokens SET expires = 99",
		"a token's maker":  "UPDATE tokens SET who = 'x'",
		"a token gone":     "DELETE FROM tokens",
		"a policy's maker": "UPDATE policies SET who = 'x' WHERE version = 1",
		"a policy's time":  "UPDATE policies SET at = at + 1 WHERE version = 2",
		"a policy more":    "INSERT INTO policies SELECT 'x', 1, text, digest, at, who, mac, key_id FROM policies WHERE version = 1",
		"one that is held": "UPDATE policies SET who = 'x' WHERE version = 3",
	} {
		before, err := os.ReadFile(filepath.Join(dir, stewardDB))
		ok(err)
		open(func(s *state) { forge(t, s, change) })
		verify(what, statusFailed)
		for _, end := range []string{"-wal", "-shm"} {
			_ = os.Remove(filepath.Join(dir, stewardDB+end))
		}
		ok(os.WriteFile(filepath.Join(dir, stewardDB), before, 0o600))
	}
	verify("as it was", statusCannotTell, lost)
}
