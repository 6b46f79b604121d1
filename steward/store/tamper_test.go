package store_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// TestTampered changes rows behind the store's back.
func TestTampered(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		change string
		seen   func(s store.Store) error
	}{
		"outcome":                {"UPDATE decisions SET outcome = 'refused' WHERE seq = 3", decision(3)},
		"detail":                 {"UPDATE decisions SET detail = x'007b7d' WHERE seq = 3", decision(3)},
		"detail that is no form": {"UPDATE decisions SET detail = x'07' WHERE seq = 3", decision(3)},
		"detail gone":            {"UPDATE decisions SET detail = NULL WHERE seq = 3", decision(3)},
		"record":                 {"UPDATE audit SET record = (SELECT record FROM audit WHERE seq = 4) WHERE seq = 3", decision(3)},
		"record gone":            {"DELETE FROM audit WHERE seq = 3", decision(3)},
		"the next record":        {"UPDATE audit SET record = (SELECT record FROM audit WHERE seq = 2) WHERE seq = 4", decision(3)},
		"the end":                {"UPDATE state SET hash = zeroblob(32)", decision(5)},
		"policy": {"UPDATE policies SET text = x'00'", func(s store.Store) error {
			_, err := s.Policy(ctx, "w")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "steward.db")
			s, err := store.OpenSQLite(ctx, path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, storetest.By); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if _, err := s.Decide(ctx, storetest.Admitted(i, storetest.T0)); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.seen(s); err != nil {
				t.Fatal(err)
			}
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			res, err := raw.Exec(c.change)
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := res.RowsAffected(); n != 1 {
				t.Fatalf("changed %d rows", n)
			}
			if err := c.seen(s); !errors.Is(err, store.ErrTampered) {
				t.Fatalf("found %v", err)
			}
		})
	}
}

// TestRowsAgreeWithTheLog changes what stands beside the log, and leaves the log alone.
func TestRowsAgreeWithTheLog(t *testing.T) {
	ctx := context.Background()
	const w = "sha256:a"
	for name, change := range map[string]string{
		"nothing":                     "",
		"an outcome":                  "UPDATE decisions SET outcome = 'refused' WHERE seq = 6",
		"a decision gone":             "DELETE FROM decisions WHERE seq = 6",
		"a decision made up":          "INSERT INTO decisions SELECT 99, at, workload, instance, tee, simulated, outcome, code, tcb_status, platform, exposed, policy, request, who, detail FROM decisions WHERE seq = 6",
		"a policy and its digest":     "UPDATE policies SET text = x'61', digest = x'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb'",
		"a policy gone":               "DELETE FROM policies",
		"a newer policy":              "INSERT INTO policies SELECT workload, 2, text, digest, at, who FROM policies",
		"a policy of somebody else":   "INSERT INTO policies SELECT 'sha256:b', version, text, digest, at, who FROM policies",
		"what a secret was set for":   "UPDATE secrets SET policy = zeroblob(32)",
		"a secret's workload":         "UPDATE secrets SET workload = 'sha256:b'",
		"a secret gone":               "DELETE FROM secrets WHERE name = 'a'",
		"a deleted secret back":       "UPDATE secrets SET deleted = 0 WHERE name = 'b'",
		"a confirmation":              "INSERT INTO confirmations VALUES ('sha256:a', 'a', 1, x'0909090909090909090909090909090909090909090909090909090909090909', 1, 'x', x'00', 'k')",
		"a token's hash":              "UPDATE tokens SET hash = zeroblob(32) WHERE id = 't'",
		"a token's scopes":            "UPDATE tokens SET scopes = 'admin' WHERE id = 't'",
		"a token that was taken back": "UPDATE tokens SET revoked = 0 WHERE id = 'u'",
		"a highest version":           "UPDATE signers SET version = 1",
		"a highest version gone":      "DELETE FROM signers",
		"a token made up":             "INSERT INTO tokens SELECT 'v', name, zeroblob(32), scopes, created, who, expires, 0 FROM tokens WHERE id = 't'",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "steward.db")
			s, err := store.OpenSQLite(ctx, path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			by := storetest.By
			sec := store.Secret{SecretKey: store.SecretKey{Workload: w, Name: "a"}, Version: 1, Sealed: []byte{1}, KeyID: "k", Policy: storetest.Digest("policy", 1)}
			other := sec
			other.Name = "b"
			for _, err := range []error{
				s.PutPolicy(ctx, store.Policy{Workload: w, Version: 1, Text: []byte("p")}, by),
				s.PutSecret(ctx, sec, by), s.PutSecret(ctx, other, by), s.DeleteSecret(ctx, other.SecretKey, by),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range 2 { // records 6 and 7
				d := storetest.Admitted(i, storetest.T0)
				d.Signer = &store.SignerMark{Signer: "s", Name: "n", Version: 7}
				if _, err := s.Decide(ctx, d); err != nil {
					t.Fatal(err)
				}
			}
			for i, id := range []string{"t", "u"} {
				if err := s.PutToken(ctx, store.Token{ID: id, Hash: storetest.Digest("token", i), Scopes: []store.Scope{store.ScopeRead}}, by); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.RevokeToken(ctx, "u", by); err != nil {
				t.Fatal(err)
			}
			if change == "" {
				if err := store.Agree(ctx, s); err != nil {
					t.Error(err)
				}
				return
			}
			raw, err := sql.Open("sqlite", path)
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
			if err := store.Agree(ctx, s); !errors.Is(err, store.ErrTampered) {
				t.Errorf("found %v, wanted ErrTampered", err)
			}
		})
	}
}

func decision(seq uint64) func(store.Store) error {
	return func(s store.Store) error {
		_, err := s.Decision(context.Background(), seq)
		return err
	}
}

// TestLocked has another process hold the database.
func TestLocked(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "steward.db")
	s, err := store.OpenSQLite(ctx, path, store.Options{Wait: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	other, err := raw.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decide(ctx, storetest.Admitted(1, storetest.T0)); !errors.Is(err, store.ErrBusy) {
		t.Fatalf("found %v", err)
	}
	if err := s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, storetest.By); !errors.Is(err, store.ErrBusy) {
		t.Fatalf("found %v", err)
	}
	// Reading goes on.
	if _, err := s.Head(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decide(ctx, storetest.Admitted(1, storetest.T0)); err != nil {
		t.Fatal(err)
	}
}
