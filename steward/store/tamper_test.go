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
