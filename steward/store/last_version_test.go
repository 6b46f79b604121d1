package store_test

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// TestLastVersion has somebody who can write the database, and has no key, put in rows of
// the last numbers there are: what is written next is what would have been.
func TestLastVersion(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "steward.db")
		s, err := store.OpenSQLite(t.Context(), path, store.Options{Guard: storetest.Guard{}})
		if err != nil {
			t.Fatal(err)
		}
		testLastVersion(t, s, "sqlite", path)
	})
	t.Run("postgresql", func(t *testing.T) {
		dsn := storetest.Postgres(t).Database(t)
		s, err := store.OpenPostgres(t.Context(), dsn, store.Options{Guard: storetest.Guard{}})
		if err != nil {
			t.Fatal(err)
		}
		testLastVersion(t, s, "pgx", dsn)
	})
}

func testLastVersion(t *testing.T, s store.Store, driver, dsn string) {
	defer s.Close()
	ctx, by := context.Background(), storetest.By
	raw, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	forge := func(q string) {
		t.Helper()
		res, err := raw.Exec(q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		if n, _ := res.RowsAffected(); n != 1 {
			t.Fatalf("%s: changed %d rows", q, n)
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(v uint64) error {
		return s.PutPolicy(ctx, store.Policy{Workload: "w", Version: v, Text: []byte{'p', byte(v)}}, by)
	}
	next := func(want uint64) {
		t.Helper()
		if v, err := s.NextPolicy(ctx, "w"); v != want || err != nil {
			t.Fatalf("found the next version %d, %v, wanted %d", v, err, want)
		}
	}
	last := func(want, records string) {
		t.Helper()
		head, err := s.Head(ctx)
		ok(err)
		list, err := s.AuditRecords(ctx, head.Seq, 1)
		ok(err)
		r, err := audit.Parse(list[0])
		ok(err)
		if string(r.Kind) != records || want == "" && r.Text != "" || !strings.Contains(r.Text, want) {
			t.Errorf("the log says %s %q, wanted %s %q", r.Kind, r.Text, records, want)
		}
	}
	next(1)
	ok(put(1))
	ok(put(2))
	next(3)
	last("", "policy")
	for _, v := range []string{"9223372036854775807", "9223372036854775806", "4", "0", "-9223372036854775808"} {
		forge("INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, " + v + ", text, digest, at, who, mac, key_id FROM policies WHERE version = 2")
	}
	if _, err := s.Policy(ctx, "w"); !errors.Is(err, store.ErrTampered) {
		t.Errorf("the newest is judged by: found %v", err)
	}
	next(3)
	if err := put(5); !errors.Is(err, store.ErrConflict) {
		t.Errorf("after a gap: found %v", err)
	}
	ok(put(3))
	last("3 rows of higher versions were removed", "policy")
	if p, err := s.Policy(ctx, "w"); err != nil || p.Version != 3 {
		t.Errorf("found %+v, %v", p, err)
	}
	// One that follows without a gap could be a Steward's that was changed: it is counted.
	forge("INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, 4, text, digest, at, who, mac, key_id FROM policies WHERE version = 2")
	next(5)
	ok(put(5))
	last("", "policy")
	// Behind a row that somebody took away, what is proven counts.
	forge("DELETE FROM policies WHERE version = 1")
	next(6)
	// And with no key that proves anything, what has no gap.
	forge("DELETE FROM policies WHERE version = 0")
	forge("INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, 1, text, digest, at, who, mac, key_id FROM policies WHERE version = 2")
	forge("INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, 77, text, digest, at, who, mac, key_id FROM policies WHERE version = 2")
	if _, err := raw.Exec("UPDATE policies SET key_id = 'gone'"); err != nil {
		t.Fatal(err)
	}
	next(6)

	sec := store.Secret{SecretKey: store.SecretKey{Workload: "w", Name: "n"}, Version: 1, Sealed: []byte{1}, KeyID: "k", Policy: storetest.Digest("policy", 1)}
	ok(s.PutSecret(ctx, sec, by))
	forge("INSERT INTO secrets (workload, name, version, sealed, key_id, policy, at, who, deleted) SELECT workload, name, 9223372036854775807, sealed, key_id, policy, at, who, 0 FROM secrets")
	if v, err := s.SecretVersion(ctx, "w", "n"); v != 1 || err != nil {
		t.Errorf("found %d, %v", v, err)
	}
	sec.Version = 2
	ok(s.PutSecret(ctx, sec, by))
	last("1 rows of higher versions were removed", "secret-set")
	if list, err := s.Secrets(ctx, "w"); err != nil || len(list) != 1 || list[0].Version != 2 {
		t.Errorf("found %+v, %v", list, err)
	}

	ok(s.PutValue(ctx, "v", store.Value{Version: 1, Data: []byte("x")}))
	for _, v := range []int64{math.MaxInt64, 1 << 62, 0, -1} {
		if _, err := raw.Exec("UPDATE kept SET version = " + strconv.FormatInt(v, 10)); err != nil {
			t.Fatal(err)
		}
		got, err := s.Value(ctx, "v")
		if !errors.Is(err, store.ErrTampered) || got == nil || got.Version != 0 {
			t.Fatalf("version %d: found %+v, %v", v, got, err)
		}
		ok(s.PutValue(ctx, "v", store.Value{Version: got.Version + 1, Data: []byte("y")}))
		if got, err := s.Value(ctx, "v"); err != nil || string(got.Data) != "y" {
			t.Errorf("version %d: found %+v, %v", v, got, err)
		}
	}
	// Close to the end the next ones hold, and then none would follow.
	if _, err := raw.Exec("UPDATE kept SET version = " + strconv.FormatInt(1<<62-1, 10)); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		got, err := s.Value(ctx, "v")
		if err != nil && !errors.Is(err, store.ErrTampered) {
			t.Fatal(err)
		}
		ok(s.PutValue(ctx, "v", store.Value{Version: got.Version + 1, Data: []byte("y")}))
	}
	if err := s.PutValue(ctx, "v", store.Value{Version: 1, Data: []byte("z")}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("over one that holds: found %v", err)
	}
}
