package store

import (
	"context"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

func (d *db) readState(ctx context.Context) (*state, error) {
	s := &state{}
	if err := s.scan(d.reads.QueryRowContext(ctx, "SELECT "+stateColumns+" FROM state WHERE id = 1").Scan); err != nil {
		return nil, d.translate(err)
	}
	d.log.Store(&s.log)
	return s, nil
}

func (d *db) Epoch(ctx context.Context) (Epoch, error) {
	s, err := d.readState(ctx)
	if err != nil {
		return Epoch{}, err
	}
	return s.epoch, nil
}

func (d *db) OpenEpoch(ctx context.Context, reason string, by Actor) (Epoch, error) {
	if err := first(text("the reason", reason, 1)); err != nil {
		return Epoch{}, err
	}
	var out Epoch
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		out = s.open(reason, by)
		return &audit.Record{Kind: audit.EpochOpen, Text: reason}, nil
	})
	return out, err
}

// open begins the next epoch; the record that says so is its first.
func (s *state) open(reason string, by Actor) Epoch {
	s.epoch = Epoch{Number: s.epoch.Number + 1, Opened: by.At.UTC().Truncate(time.Microsecond), Reason: reason}
	s.confirmed = 0
	return s.epoch
}

func (d *db) ConfirmEpoch(ctx context.Context, number uint64, by Actor) error {
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		if s.epoch.Number != number {
			return nil, refuse(ErrConflict, "found epoch %d, wanted %d", s.epoch.Number, number)
		}
		if s.epoch.Confirmed {
			return nil, refuse(ErrConflict, "epoch %d is confirmed", number)
		}
		s.epoch.Confirmed, s.confirmed = true, us(by.At)
		return &audit.Record{Kind: audit.EpochConfirm}, nil
	})
	return err
}

func (d *db) Head(ctx context.Context) (Receipt, error) {
	s, err := d.readState(ctx)
	if err != nil {
		return Receipt{}, err
	}
	// An epoch begins with a record of its own, so the last record is of this one.
	return Receipt{Seq: s.chain.Seq, Hash: s.chain.Hash, Epoch: s.chain.Epoch}, nil
}

func (d *db) Append(ctx context.Context, r audit.Record, by Actor) (Receipt, error) {
	switch r.Kind {
	case audit.Note, audit.SignIn, audit.SignInRefused, audit.SignOut:
	default:
		return Receipt{}, fmt.Errorf("%w: records of the kind %q are written by what they are about", ErrInvalid, r.Kind)
	}
	if err := first(text("the note", r.Text, 1), text("its workload", r.Workload, 0), text("its name", r.Name, 0)); err != nil {
		return Receipt{}, err
	}
	return d.write(ctx, by, func(*tx, *state) (*audit.Record, error) {
		return &audit.Record{Kind: r.Kind, Text: r.Text, Workload: r.Workload, Name: r.Name, Version: r.Version}, nil
	})
}

func (d *db) AuditRecords(ctx context.Context, from uint64, n int) ([][]byte, error) {
	if from > 1<<62 {
		return nil, nil
	}
	var out [][]byte
	err := d.each(ctx, d.reads, "SELECT record FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?", []any{int64(from), limit(n)}, func(scan func(...any) error) error {
		var b []byte
		err := scan(&b)
		out = append(out, b)
		return err
	})
	return out, d.translate(err)
}

func (d *db) Records(ctx context.Context, f func([]byte) error) (Receipt, error) {
	t, err := d.beginTx(ctx, d.reads, d.beginRead())
	if err != nil {
		return Receipt{}, d.translate(err)
	}
	defer t.rollback()
	s := &state{}
	if err := s.scan(t.conn.QueryRowContext(ctx, "SELECT "+stateColumns+" FROM state WHERE id = 1").Scan); err != nil {
		return Receipt{}, d.translate(err)
	}
	var failed error // of the caller's, not of the database
	err = t.each(ctx, "SELECT record FROM audit ORDER BY seq", nil, func(scan func(...any) error) error {
		var b []byte
		if err := scan(&b); err != nil {
			return err
		}
		failed = f(b)
		return failed
	})
	if failed != nil {
		return Receipt{}, failed
	}
	return Receipt{Seq: s.chain.Seq, Hash: s.chain.Hash, Epoch: s.chain.Epoch}, d.translate(err)
}

func (d *db) PutHead(ctx context.Context, seq uint64, head []byte) error {
	if err := first(size("the head", len(head), 1, audit.MaxHead), version("the head", seq)); err != nil {
		return err
	}
	_, err := d.one(ctx, "INSERT INTO heads (id, seq, head) VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, head = excluded.head WHERE heads.seq <= excluded.seq", int64(seq), head)
	return d.translate(err)
}

func (d *db) LatestHead(ctx context.Context) ([]byte, error) {
	var b []byte
	err := d.reads.QueryRowContext(ctx, "SELECT head FROM heads WHERE id = 1").Scan(&b)
	return b, d.translate(err)
}

func (d *db) Purge(ctx context.Context, before time.Time, n int) (int, error) {
	if err := first(moment("what is forgotten", before, false)); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	t, err := d.beginTx(ctx, d.writes, d.begin())
	if err != nil {
		return 0, d.translate(err)
	}
	gone, err := t.purge(ctx, us(before), limit(n))
	if err != nil {
		t.rollback()
		return 0, d.translate(err)
	}
	return int(gone), d.translate(t.commit(ctx))
}

// purge first says how far it forgets, then forgets: what expired before that is
// refused from then on, whatever the clock says.
func (t *tx) purge(ctx context.Context, before int64, n int) (int64, error) {
	s, err := t.state(ctx)
	if err != nil {
		return 0, err
	}
	s.purged = max(s.purged, before)
	if err := t.putState(ctx, s); err != nil {
		return 0, err
	}
	gone, err := t.exec(ctx, "DELETE FROM used WHERE (digest, kind) IN (SELECT digest, kind FROM used WHERE expires > 0 AND expires < ? ORDER BY expires LIMIT ?)", before, n)
	if err != nil {
		return 0, err
	}
	if gone >= int64(n) {
		return gone, nil
	}
	more, err := t.exec(ctx, "DELETE FROM leases WHERE (workload, instance) IN (SELECT workload, instance FROM leases WHERE until < ? ORDER BY until LIMIT ?)", before, int64(n)-gone)
	return gone + more, err
}

func (d *db) Stats(ctx context.Context) (Stats, error) {
	out := Stats{Database: d.name(), Waiting: len(d.queue)}
	var decisions, used int64
	for _, q := range []struct {
		query string
		dest  any
	}{
		{d.version(), &out.Version},
		{d.size(), &out.Bytes},
		{"SELECT MAX(version_id) FROM schema_version WHERE is_applied", &out.Schema},
		{"SELECT COALESCE(SUM(n), 0) FROM counts", &decisions},
		{"SELECT COUNT(*) FROM used", &used},
	} {
		if err := d.reads.QueryRowContext(ctx, q.query).Scan(q.dest); err != nil {
			return out, d.translate(err)
		}
	}
	out.Decisions, out.Used = uint64(decisions), uint64(used)
	return out, nil
}

// Ping takes the writers' lock and gives it back: a database that cannot be written
// is not ready.
func (d *db) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	t, err := d.beginTx(ctx, d.writes, d.begin())
	if err != nil {
		return d.translate(err)
	}
	defer t.rollback()
	_, err = t.state(ctx)
	return d.translate(err)
}
