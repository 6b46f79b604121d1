package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

func sqliteFresh(t testing.TB) func(store.Options) store.Store {
	path := filepath.Join(t.TempDir(), "steward.db")
	return func(o store.Options) store.Store {
		s, err := store.OpenSQLite(context.Background(), path, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func postgresFresh(c *storetest.Cluster) storetest.Fresh {
	return func(t testing.TB) func(store.Options) store.Store {
		dsn := c.Database(t)
		return func(o store.Options) store.Store {
			s, err := store.OpenPostgres(context.Background(), dsn, o)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
}

func TestSQLite(t *testing.T) { storetest.Run(t, sqliteFresh) }

func TestPostgres(t *testing.T) {
	c := storetest.Postgres(t)
	storetest.Run(t, postgresFresh(c))
}

// TestAcross restores the backup of one database in the other.
func TestAcross(t *testing.T) {
	pg := postgresFresh(storetest.Postgres(t))
	t.Run("sqlite-to-postgres", func(t *testing.T) { storetest.Backup(t, sqliteFresh, pg) })
	t.Run("postgres-to-sqlite", func(t *testing.T) { storetest.Backup(t, pg, sqliteFresh) })
	t.Run("purged", func(t *testing.T) { storetest.RestorePurged(t, pg, sqliteFresh) })
}
