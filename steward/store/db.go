package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/donjon-tee/donjon/steward/audit"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// Options says how a database is used. The zero value is good, but for Guard.
type Options struct {
	// Guard authenticates the rows that grant something. nil: such rows can be neither
	// written nor read (ErrUnavailable).
	Guard Guard
	// Clock dates the log's first record. nil: the system's.
	Clock func() time.Time
	// Queue is how many Decide calls may wait; more get ErrBusy. 0: 1024.
	Queue int
	// Batch is how many decisions share a transaction at most. 0: 128.
	Batch int
	// Wait is how long a write waits for another writer before ErrBusy. 0: 5 s.
	Wait time.Duration
}

func (o Options) filled() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Queue <= 0 {
		o.Queue = 1024
	}
	if o.Batch <= 0 {
		o.Batch = 128
	}
	if o.Wait <= 0 {
		o.Wait = 5 * time.Second
	}
	return o
}

// txTime bounds one transaction, so that a writer that hangs does not hang others.
const txTime = 20 * time.Second

// dialect is where SQLite and PostgreSQL differ.
type dialect interface {
	name() string // sqlite or postgresql
	goose() goose.Dialect
	rewrite(query string) string // from ? placeholders
	begin() string               // a transaction that writes
	beginRead() string           // one that reads from one moment
	lockRow() string             // what makes SELECT … hold the row until commit
	classify(err error) error    // ErrBusy, ErrConflict, ErrUnavailable, …; nil where it cannot tell
	ask(context.Context, *tx, []question) error
	bulk(context.Context, *tx, []statement) error
	finish(context.Context, *tx, []statement) (sure bool, err error) // bulk, and commit
	commit(context.Context, *sql.Conn) error
	size() string    // query for the size on disk
	version() string // query for the server's version
}

// db is the Store over either database.
type db struct {
	dialect
	o      Options
	writes *sql.DB
	reads  *sql.DB // the same, for PostgreSQL
	queue  chan *job
	log    atomic.Pointer[audit.LogID]
	codec  codec
	closed chan struct{}
	end    sync.Once
	done   sync.WaitGroup
}

// refusal marks an error that is an answer, not a failure of the database.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func refuse(err error, format string, args ...any) error {
	return refusal{fmt.Errorf("%w: "+format, append([]any{err}, args...)...)}
}

// translate makes an error of the database one of the package's.
func (d *db) translate(err error) error {
	if err == nil {
		return nil
	}
	var r refusal
	if errors.As(err, &r) {
		return r.error
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	for _, known := range []error{ErrBusy, ErrUnavailable, ErrInvalid, ErrTampered, ErrBackup} {
		if errors.Is(err, known) {
			return err
		}
	}
	kind := d.classify(err)
	if kind == nil {
		kind = ErrUnavailable
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// state is the one row that every writer locks first: the end of the log, the epoch,
// and how far used challenges were forgotten. Its lock puts the writers of all
// replicas in one order, so what is read after it stays true until commit.
type state struct {
	log       audit.LogID
	chain     audit.Chain
	epoch     Epoch
	purged    int64
	confirmed int64
	retained  int64 // up to which record decisions were purged
}

const stateColumns = "log, seq, hash, epoch, opened, reason, confirmed, purged, retained"

func (s *state) scan(scan func(...any) error) error {
	var log, hash []byte
	var seq, epoch, opened int64
	if err := scan(&log, &seq, &hash, &epoch, &opened, &s.epoch.Reason, &s.confirmed, &s.purged, &s.retained); err != nil {
		return err
	}
	if len(log) != len(s.log) || len(hash) != 32 || seq < 0 || epoch < 1 || s.retained < 0 {
		return fmt.Errorf("%w: the state row", ErrTampered)
	}
	s.log, s.chain = audit.LogID(log), audit.Chain{Seq: uint64(seq), Hash: audit.Digest(hash), Epoch: uint64(epoch)}
	s.epoch.Number, s.epoch.Opened, s.epoch.Confirmed = uint64(epoch), when(opened), s.confirmed != 0
	return nil
}

func (d *db) selectState() string {
	return "SELECT " + stateColumns + " FROM state WHERE id = 1" + d.lockRow()
}

func (t *tx) state(ctx context.Context) (*state, error) {
	s := &state{}
	row := t.conn.QueryRowContext(ctx, t.d.selectState())
	if err := s.scan(row.Scan); err != nil {
		return nil, t.fail(err)
	}
	t.d.log.Store(&s.log)
	return s, nil
}

func (t *tx) putState(ctx context.Context, s *state) error {
	_, err := t.exec(ctx, "UPDATE state SET log = ?, seq = ?, hash = ?, epoch = ?, opened = ?, reason = ?, confirmed = ?, purged = ?, retained = ? WHERE id = 1",
		s.log[:], int64(s.chain.Seq), s.chain.Hash[:], int64(s.epoch.Number), us(s.epoch.Opened), s.epoch.Reason, s.confirmed, s.purged, s.retained)
	return err
}

// append adds a record to the log, in t.
func (t *tx) append(ctx context.Context, s *state, r *audit.Record, at time.Time) error {
	r.Epoch = s.epoch.Number
	b, err := s.chain.Next(r, at)
	if err != nil {
		return refuse(ErrInvalid, "%w", err)
	}
	_, err = t.exec(ctx, "INSERT INTO audit (seq, record) VALUES (?, ?)", int64(r.Seq), b)
	return err
}

// write runs f in a transaction that holds the state, and audits what it did where f
// gives a record. A refusal of f rolls everything back.
func (d *db) write(ctx context.Context, by Actor, f func(t *tx, s *state) (*audit.Record, error)) (Receipt, error) {
	if err := by.valid(); err != nil {
		return Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	t, s, err := d.beginState(ctx)
	if err != nil {
		return Receipt{}, d.translate(err)
	}
	r, err := f(t, s)
	if err == nil && r != nil {
		r.Who = by.Who
		err = t.append(ctx, s, r, by.At)
	}
	if err == nil {
		err = t.putState(ctx, s)
	}
	if err != nil {
		t.rollback()
		return Receipt{}, d.translate(err)
	}
	if err := t.commit(ctx); err != nil {
		return Receipt{}, d.translate(err)
	}
	d.log.Store(&s.log)
	return Receipt{Seq: s.chain.Seq, Hash: s.chain.Hash, Epoch: s.epoch.Number}, nil
}

// open brings the tables up to date, begins the log where there is none, and starts
// the goroutine that decides.
func (d *db) open(ctx context.Context) error {
	if err := d.migrate(ctx); err != nil {
		return err
	}
	if err := d.genesis(ctx); err != nil {
		return d.translate(err)
	}
	d.queue = make(chan *job, d.o.Queue)
	d.closed = make(chan struct{})
	d.done.Add(1)
	go d.decider()
	return nil
}

func (d *db) migrate(ctx context.Context) error {
	sub, err := fs.Sub(migrations, "migrations/"+d.name())
	if err != nil {
		return err
	}
	opts := []goose.ProviderOption{goose.WithTableName("schema_version"), goose.WithDisableGlobalRegistry(true)}
	if d.goose() == goose.DialectPostgres {
		// Replicas that start together migrate one after another.
		l, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(l))
	}
	p, err := goose.NewProvider(d.goose(), d.writes, sub, opts...)
	if err != nil {
		return fmt.Errorf("store: migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("store: migrating the database: %w", d.translate(err))
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("store: the database's version: %w", d.translate(err))
	}
	if have != want {
		return fmt.Errorf("store: the database is of a newer Steward: found schema %d, wanted %d", have, want)
	}
	return nil
}

func (d *db) genesis(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	t, err := d.beginTx(ctx, d.writes, d.begin())
	if err != nil {
		return err
	}
	var log audit.LogID
	rand.Read(log[:])
	start, now := audit.Start(log), d.o.Clock()
	n, err := t.exec(ctx, "INSERT INTO state (id, "+stateColumns+") VALUES (1, ?, 0, ?, 1, ?, ?, 1, 0, 0) ON CONFLICT DO NOTHING",
		log[:], start[:], us(now), "first start")
	if err != nil {
		t.rollback()
		return err
	}
	s, err := t.state(ctx)
	if err == nil && n == 1 {
		if err = t.append(ctx, s, &audit.Record{Kind: audit.Genesis, Who: "steward"}, now); err == nil {
			err = t.putState(ctx, s)
		}
	}
	if err != nil {
		t.rollback()
		return err
	}
	return t.commit(ctx)
}

func (d *db) Close() error {
	var err error
	d.end.Do(func() {
		close(d.closed)
		d.done.Wait()
		err = d.writes.Close()
		if d.reads != d.writes {
			err = errors.Join(err, d.reads.Close())
		}
	})
	return err
}

// Log names the audit log.
func (d *db) Log() audit.LogID { return *d.log.Load() }

// in is "(?, ?, …)" with at least n places, a power of two, so that few different
// statements come to be prepared; args is filled up with its last one.
func in(args []any) (string, []any) {
	n := 1
	for n < len(args) {
		n *= 2
	}
	for len(args) < n {
		args = append(args, args[len(args)-1])
	}
	return "(?" + strings.Repeat(", ?", n-1) + ")", args
}

func us(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func when(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
