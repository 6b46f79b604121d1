package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

// OpenSQLite opens the database in a file, and makes it where there is none (mode
// 0600). Other processes may have it open too.
//
// It writes ahead (WAL) and waits for the disk at every commit (synchronous FULL),
// as PostgreSQL does.
func OpenSQLite(ctx context.Context, path string, o Options) (Store, error) {
	o = o.filled()
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	// Starts of two processes at once migrate one after another.
	unlock, err := lockFile(abs)
	if err != nil {
		return nil, err
	}
	defer unlock()
	d := &db{dialect: sqliteDialect{}, o: o}
	if d.writes, err = sqlitePool(abs, o.Wait, false); err != nil {
		return nil, err
	}
	d.writes.SetMaxOpenConns(1)
	if d.reads, err = sqlitePool(abs, o.Wait, true); err != nil {
		return nil, errors.Join(err, d.writes.Close())
	}
	d.reads.SetMaxOpenConns(4)
	d.reads.SetMaxIdleConns(4)
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.writes.Close(), d.reads.Close())
	}
	if err := syncDir(filepath.Dir(abs)); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// lockFile makes the database's file where there is none and holds a lock on the
// folder it is in: a lock on the file itself would be SQLite's own.
func lockFile(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, file(err)
	}
	if err := f.Close(); err != nil {
		return nil, file(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, file(err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("%w: locking %s: %w", ErrUnavailable, filepath.Dir(path), err)
	}
	return func() { _ = dir.Close() }, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return file(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return file(err)
	}
	return nil
}

func sqlitePool(path string, wait time.Duration, read bool) (*sql.DB, error) {
	q := url.Values{"_pragma": {
		"busy_timeout(" + strconv.FormatInt(wait.Milliseconds(), 10) + ")",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"secure_delete(ON)",
		"trusted_schema(OFF)",
		"temp_store(MEMORY)",
		"cache_size(-16384)",
	}}
	if read {
		q.Add("_pragma", "query_only(ON)")
	}
	// As a URI, so that no character of the path is read as a parameter.
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return sql.Open("sqlite", u.String())
}

type sqliteDialect struct{}

func (sqliteDialect) name() string                { return "sqlite" }
func (sqliteDialect) goose() goose.Dialect        { return goose.DialectSQLite3 }
func (sqliteDialect) rewrite(query string) string { return query }
func (sqliteDialect) begin() string               { return "BEGIN IMMEDIATE" }
func (sqliteDialect) beginRead() string           { return "BEGIN DEFERRED" }
func (sqliteDialect) lockRow() string             { return "" } // BEGIN IMMEDIATE has the whole database
func (sqliteDialect) version() string             { return "SELECT sqlite_version()" }

func (sqliteDialect) size() string {
	return "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
}

func (sqliteDialect) commit(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "COMMIT")
	return err
}

func (sqliteDialect) ask(ctx context.Context, t *tx, qs []question) error {
	for _, q := range qs {
		if q.row == nil {
			if _, err := t.exec(ctx, q.sql, q.args...); err != nil {
				return err
			}
		} else if err := t.each(ctx, q.sql, q.args, q.row); err != nil {
			return err
		}
	}
	return nil
}

func (d sqliteDialect) finish(ctx context.Context, t *tx, ss []statement) (bool, error) {
	if err := d.bulk(ctx, t, ss); err != nil {
		return true, err
	}
	return false, d.commit(ctx, t.conn)
}

// bulk runs the statements, each text prepared once.
func (sqliteDialect) bulk(ctx context.Context, t *tx, ss []statement) error {
	prepared := map[string]*sql.Stmt{}
	defer func() {
		for _, p := range prepared {
			_ = p.Close()
		}
	}()
	for _, s := range ss {
		p := prepared[s.sql]
		if p == nil {
			var err error
			if p, err = t.conn.PrepareContext(ctx, s.sql); err != nil {
				return t.fail(err)
			}
			prepared[s.sql] = p
		}
		if _, err := p.ExecContext(ctx, s.args...); err != nil {
			return t.fail(err)
		}
	}
	return nil
}

// SQLite's result codes, https://sqlite.org/rescode.html.
const (
	sqlitePerm     = 3
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteReadOnly = 8
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteTooBig   = 18
	sqliteConstr   = 19
	sqliteNotADB   = 26
)

func (sqliteDialect) classify(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code() & 0xff {
	case sqliteBusy, sqliteLocked:
		return ErrBusy
	case sqliteTooBig:
		return ErrInvalid
	case sqliteConstr:
		return ErrConflict
	case sqliteCorrupt, sqliteNotADB:
		return ErrDamaged
	case sqliteFull:
		return ErrFull
	case sqliteReadOnly, sqlitePerm:
		return ErrReadOnly
	}
	return ErrUnavailable
}

// file makes an error of the system one of the package's.
func file(err error) error {
	kind := ErrUnavailable
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = ErrFull
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		kind = ErrReadOnly
	}
	return fmt.Errorf("%w: %w", kind, err)
}
