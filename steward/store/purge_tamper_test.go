package store_test

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// TestNoPurgeOverAChangedLog: what was changed is not signed to have been so, with the
// records beside it that would show it.
func TestNoPurgeOverAChangedLog(t *testing.T) {
	ctx := context.Background()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Records: 1 genesis, 2 and 3 decisions, 4 a policy, 5 to 8 decisions.
	at := func(i int) time.Time { return storetest.T0.Add(time.Duration(i) * time.Hour) }
	for name, c := range map[string]struct {
		seq    uint64
		change func(*audit.Record)
		sql    string
	}{
		"a policy's record":          {seq: 4, change: func(r *audit.Record) { r.Policy = storetest.Digest("policy", 9) }},
		"a decision's record":        {seq: 3, change: func(r *audit.Record) { r.Code = "x" }},
		"the last one's date":        {seq: 8, change: func(r *audit.Record) { r.Time = 1 }},
		"the last one that is taken": {seq: 6, change: func(r *audit.Record) { r.Code = "x" }},
		"a record gone":              {sql: "DELETE FROM audit WHERE seq = 4"},
		"how far it was purged":      {sql: "UPDATE state SET retained = 3"},
		"never purged":               {sql: "UPDATE state SET retained = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "steward.db")
			s, err := store.OpenSQLite(ctx, path, store.Options{Guard: storetest.Guard{}, Clock: func() time.Time { return storetest.T0 }})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			purge := func(before time.Time) (int, error) {
				return s.PurgeDecisions(ctx, store.DecisionPurge{Before: before, Why: "old", Sign: func(p *audit.Purged, log audit.LogID) error { return p.Sign(key, log) }}, storetest.By)
			}
			for i := 2; i <= 8; i++ {
				if i == 4 {
					err = s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, storetest.By)
				} else {
					_, err = s.Decide(ctx, storetest.Admitted(i, at(i)))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if n, err := purge(at(3)); n != 1 || err != nil {
				t.Fatalf("the first purge took %d, %v", n, err)
			}
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			args := []any{}
			if c.change != nil {
				list, err := s.AuditRecords(ctx, c.seq, 1)
				if err != nil {
					t.Fatal(err)
				}
				r, err := audit.Parse(list[0])
				if err != nil {
					t.Fatal(err)
				}
				c.change(r)
				b, err := r.Encode()
				if err != nil {
					t.Fatal(err)
				}
				c.sql, args = "UPDATE audit SET record = ? WHERE seq = ?", []any{b, int64(c.seq)}
			}
			if _, err := raw.Exec(c.sql, args...); err != nil {
				t.Fatal(err)
			}
			until := at(7)
			if c.seq == 8 {
				until = at(9)
			}
			if n, err := purge(until); n != 0 || !errors.Is(err, store.ErrTampered) {
				t.Errorf("the purge took %d, %v", n, err)
			}
		})
	}
}
