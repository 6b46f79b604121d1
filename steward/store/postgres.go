package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// OpenPostgres opens a PostgreSQL database (14 or later) named by a connection
// string, and makes its tables where there are none. Many Stewards may have it open.
//
// ErrDurability where the server is set not to wait for its disk.
func OpenPostgres(ctx context.Context, dsn string, o Options) (Store, error) {
	o = o.filled()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("store: the connection string: %w", err) // pgx leaves the password out
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	for k, v := range map[string]string{
		"application_name":   "donjon-steward",
		"synchronous_commit": "on",
		// Tables grow from nothing faster than the planner hears of it: what it plans while
		// they are small it keeps, and reads all of a table at each decision. Every query of
		// a decision has its index.
		"enable_seqscan":                      "off",
		"plan_cache_mode":                     "force_generic_plan",
		"jit":                                 "off", // a scan that must be costs so much by the first that it would be compiled
		"lock_timeout":                        ms(o.Wait),
		"statement_timeout":                   ms(txTime),
		"idle_in_transaction_session_timeout": ms(2 * txTime),
	} {
		cfg.RuntimeParams[k] = v
	}
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(8)
	pool.SetMaxIdleConns(8)
	d := &db{dialect: postgresDialect{}, o: o, writes: pool, reads: pool}
	if err := d.durable(ctx); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return d, nil
}

// durable looks whether what is committed survives a crash of the server.
func (d *db) durable(ctx context.Context) error {
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		var v string
		if err := d.reads.QueryRowContext(ctx, "SELECT current_setting($1)", name).Scan(&v); err != nil {
			return d.translate(err)
		}
		if v == "off" || name == "synchronous_commit" && v != "on" && v != "remote_apply" {
			return fmt.Errorf("%w: found %s = %s, wanted on", ErrDurability, name, v)
		}
	}
	return nil
}

type postgresDialect struct{}

func (postgresDialect) name() string         { return "postgresql" }
func (postgresDialect) goose() goose.Dialect { return goose.DialectPostgres }
func (postgresDialect) lockRow() string      { return " FOR UPDATE" }
func (postgresDialect) version() string      { return "SELECT current_setting('server_version')" }
func (postgresDialect) size() string         { return "SELECT pg_database_size(current_database())" }

// Read committed, because the lock on the state row puts the writers in order, and
// each statement after it must see what the writer before committed. A snapshot from
// before the lock would not.
func (postgresDialect) begin() string { return "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" }

func (postgresDialect) beginRead() string { return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" }

// rewrite numbers the placeholders. No text of ours holds a ? that is none.
func (postgresDialect) rewrite(query string) string {
	var b strings.Builder
	n := 0
	for {
		i := strings.IndexByte(query, '?')
		if i < 0 {
			break
		}
		n++
		b.WriteString(query[:i])
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		query = query[i+1:]
	}
	b.WriteString(query)
	return b.String()
}

func raw(c *sql.Conn, f func(*pgx.Conn) error) error {
	return c.Raw(func(dc any) error { return f(dc.(*stdlib.Conn).Conn()) })
}

func (postgresDialect) commit(ctx context.Context, c *sql.Conn) error {
	return raw(c, func(p *pgx.Conn) error {
		tag, err := p.Exec(ctx, "COMMIT")
		if err != nil {
			return err
		}
		return committed(tag)
	})
}

// committed looks at what the server says it did: COMMIT of a failed transaction is
// answered with ROLLBACK, and no error.
func committed(tag pgconn.CommandTag) error {
	if tag.String() != "COMMIT" {
		return fmt.Errorf("%w: the commit was answered with %s", ErrUnavailable, tag)
	}
	return nil
}

// Classes of SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html.
func (postgresDialect) classify(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ErrUnavailable
	}
	switch e.Code {
	case "40001", "40P01", "55P03": // serialization, deadlock, lock not available
		return ErrBusy
	case "53300": // too many connections
		return ErrBusy
	case "53100": // disk full
		return ErrFull
	case "25006": // read-only transaction: a standby
		return ErrReadOnly
	case "XX001", "XX002": // data, index corrupted
		return ErrDamaged
	case "23505": // unique
		return ErrConflict
	case "22021", "22P05", "54000": // characters it cannot keep, too large
		return ErrInvalid
	}
	return ErrUnavailable
}
