package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"
)

// statement is one statement with its arguments.
type statement struct {
	sql  string
	args []any
}

func stmt(query string, args ...any) statement { return statement{query, args} }

// question is a statement and what is done with each row of its answer; nil: it has none.
type question struct {
	statement
	row func(scan func(...any) error) error
}

// tx is a transaction on a connection of its own. After any error it is not
// committed.
type tx struct {
	d    *db
	conn *sql.Conn
	err  error
}

func (t *tx) fail(err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if t.err == nil {
		t.err = err
	}
	return err
}

func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.conn.ExecContext(ctx, t.d.rewrite(query), args...)
	if err != nil {
		return 0, t.fail(err)
	}
	return res.RowsAffected()
}

func (t *tx) row(ctx context.Context, query string, args []any, dest ...any) error {
	return t.fail(t.conn.QueryRowContext(ctx, t.d.rewrite(query), args...).Scan(dest...))
}

// querier is a database or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls f for each row.
func (d *db) each(ctx context.Context, q querier, query string, args []any, f func(scan func(...any) error) error) error {
	rows, err := q.QueryContext(ctx, d.rewrite(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *tx) each(ctx context.Context, query string, args []any, f func(scan func(...any) error) error) error {
	return t.fail(t.d.each(ctx, t.conn, query, args, f))
}

// begin starts a transaction. The caller ends it with t.commit or t.rollback.
func (d *db) beginTx(ctx context.Context, pool *sql.DB, begin string) (*tx, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		discard(conn)
		return nil, err
	}
	return &tx{d: d, conn: conn}, nil
}

// beginState starts a transaction that writes, and holds the state: as many round trips
// as one.
func (d *db) beginState(ctx context.Context) (*tx, *state, error) {
	conn, err := d.writes.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, s := &tx{d: d, conn: conn}, &state{}
	found := false
	err = d.ask(ctx, t, []question{{statement: stmt(d.begin())}, {stmt(d.selectState()), func(scan func(...any) error) error {
		found = true
		return s.scan(scan)
	}}})
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	if err != nil {
		t.rollback()
		return nil, nil, err
	}
	d.log.Store(&s.log)
	return t, s, nil
}

// discard closes a connection for good: its state is not known.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

func (t *tx) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := t.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		discard(t.conn)
		return
	}
	_ = t.conn.Close()
}

// commit ends the transaction. With an error it is not known whether it is there,
// unless t.err was set before.
func (t *tx) commit(ctx context.Context) error {
	if t.err != nil {
		t.rollback()
		return t.err
	}
	if err := t.d.commit(ctx, t.conn); err != nil {
		t.rollback()
		return err
	}
	return t.conn.Close()
}

// finish runs the statements and commits, in one round trip where the database can. With
// an error sure says that nothing of the transaction is there.
func (t *tx) finish(ctx context.Context, ss []statement) (sure bool, err error) {
	if t.err != nil {
		t.rollback()
		return true, t.err
	}
	if sure, err = t.d.finish(ctx, t, ss); err != nil {
		t.rollback()
		return sure, err
	}
	return false, t.conn.Close() // all of it is there
}
