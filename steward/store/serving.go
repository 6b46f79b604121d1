package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrServing is the answer to who would be alone on a PostgreSQL and is not, and to who
// would serve while another is alone.
var ErrServing = errors.New("store: the database is in use")

// servingClass is the first half of the advisory locks that say who serves; the second is
// the schema's hash. PostgreSQL keeps those of each database apart.
const servingClass = 0x446f6e6a

// servingPause is how often a lock is looked after.
const servingPause = 5 * time.Second

// Serving says on a PostgreSQL, named by a connection string, that a Steward serves, until
// release is called or the process ends. Any number may; ErrServing while one is Alone.
// The lock is a session's, on a connection of its own. Where that is cut, it is taken
// anew, and lost is told what went wrong until then; it may be nil.
func Serving(ctx context.Context, dsn string, lost func(error)) (release func(), err error) {
	conn, err := servingLock(ctx, dsn, "pg_try_advisory_lock_shared")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		holdServing(ctx, conn, dsn, lost)
	}()
	return func() { cancel(); <-ended }, nil
}

// Alone is Serving for who must be the only one: ErrServing where any other serves.
func Alone(ctx context.Context, dsn string) (release func(), err error) {
	conn, err := servingLock(ctx, dsn, "pg_try_advisory_lock")
	if err != nil {
		return nil, err
	}
	return func() { endServing(conn) }, nil
}

func servingLock(ctx context.Context, dsn, take string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("store: the connection string: %w", err) // pgx leaves the password out
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	cfg.RuntimeParams["application_name"] = "donjon-steward-serving"
	cfg.RuntimeParams["statement_timeout"] = strconv.FormatInt(servingPause.Milliseconds(), 10)
	cfg.RuntimeParams["idle_session_timeout"] = "0" // it is idle all the time
	// A machine that is gone without a word holds the lock for a minute, not for hours.
	cfg.RuntimeParams["tcp_keepalives_idle"] = "30"
	cfg.RuntimeParams["tcp_keepalives_interval"] = "10"
	cfg.RuntimeParams["tcp_keepalives_count"] = "3"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	const schema = "hashtext(coalesce(current_schema(), ''))"
	var got bool
	err = conn.QueryRow(ctx, "SELECT "+take+"($1, "+schema+")", servingClass).Scan(&got)
	if err == nil && got {
		return conn, nil
	}
	n := 0
	if err == nil {
		// objid is an oid, which has no sign.
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = $1::int8::oid"+
			" AND objid = ("+schema+"::int8 & 4294967295)::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", servingClass).Scan(&n)
	}
	endServing(conn)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, fmt.Errorf("%w: by %d processes", ErrServing, n)
}

// endServing gives a lock back, and closes its connection: that alone would give it back
// too, once the server has noticed.
func endServing(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	_ = conn.Close(ctx)
}

// holdServing looks after the lock until ctx ends.
func holdServing(ctx context.Context, conn *pgx.Conn, dsn string, lost func(error)) {
	for {
		select {
		case <-ctx.Done():
			if conn != nil {
				endServing(conn)
			}
			return
		case <-time.After(servingPause):
		}
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, servingPause)
			defer cancel()
			if conn != nil {
				if conn.Ping(ctx) == nil {
					return nil
				}
				endServing(conn)
			}
			var err error
			conn, err = servingLock(ctx, dsn, "pg_try_advisory_lock_shared")
			return err
		}()
		if err != nil && ctx.Err() == nil && lost != nil {
			lost(err)
		}
	}
}
