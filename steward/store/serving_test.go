package store_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// TestServing: any number serve, and one who would be alone is not beside them.
func TestServing(t *testing.T) {
	c := storetest.Postgres(t)
	dsn, other := c.Database(t), c.Database(t)
	ctx := context.Background()
	lost := make(chan error, 100)
	serve := func(dsn string) func() {
		t.Helper()
		release, err := store.Serving(ctx, dsn, func(err error) { lost <- err })
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	refused := func(when, words string) {
		t.Helper()
		release, err := store.Alone(ctx, dsn)
		if err == nil {
			release()
		}
		if !errors.Is(err, store.ErrServing) || !strings.Contains(err.Error(), words) {
			t.Fatalf("%s: found %v, wanted ErrServing with %q", when, err, words)
		}
	}
	alone := func(when string) func() {
		t.Helper()
		release, err := store.Alone(ctx, dsn)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		return release
	}
	elsewhere := serve(other)
	defer elsewhere()
	one := serve(dsn)
	two := serve(dsn)
	refused("two serve", "2 processes")
	one()
	refused("one serves", "1 processes")
	two()
	end := alone("none serves")
	if _, err := store.Serving(ctx, dsn, nil); !errors.Is(err, store.ErrServing) {
		t.Errorf("serving while another is alone: found %v", err)
	}
	refused("another is alone", "1 processes")
	end()

	// In another schema there is another Steward.
	raw, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec("CREATE SCHEMA beside"); err != nil {
		t.Fatal(err)
	}
	beside := serve(dsn + " search_path=beside")
	alone("one serves in another schema")()
	beside()

	exec := func(q string) {
		t.Helper()
		if _, err := raw.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	const cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'donjon-steward-serving' AND datname = current_database()"
	// A connection that is cut is made anew, and the lock taken again.
	exec("CREATE ROLE server LOGIN")
	three := serve(strings.Replace(dsn, "user=postgres", "user=server", 1))
	exec(cut)
	for {
		release, err := store.Alone(ctx, dsn)
		if errors.Is(err, store.ErrServing) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		release()
		time.Sleep(100 * time.Millisecond)
	}
	// Where another is alone meanwhile, that is said.
	exec("ALTER ROLE server NOLOGIN")
	exec(cut)
	for { // its server process needs a moment to end
		var err error
		if end, err = store.Alone(ctx, dsn); err == nil {
			break
		} else if !errors.Is(err, store.ErrServing) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	exec("ALTER ROLE server LOGIN")
	for err := range lost {
		if errors.Is(err, store.ErrServing) {
			break
		}
	}
	end()
	three()
	alone("at the end")()

	c.Kill()
	if _, err := store.Serving(ctx, dsn, nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a server: found %v", err)
	}
	if _, err := store.Alone(ctx, "postgres://%zz"); err == nil {
		t.Error("a connection string that is none is taken")
	}
}
