package store

import (
	"context"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

// DecisionPurge says which decisions are forgotten.
type DecisionPurge struct {
	Before time.Time // decisions from before it
	Limit  int       // at most so many at once; 0: 1000
	Why    string    // for the log
	// Sign signs what the log says of it (audit.Purged.Sign, with the key of heads).
	Sign func(*audit.Purged, audit.LogID) error
}

func (d *db) PurgeDecisions(ctx context.Context, p DecisionPurge, by Actor) (int, error) {
	if err := first(moment("what is forgotten", p.Before, false), text("why", p.Why, 1)); err != nil {
		return 0, err
	}
	if p.Sign == nil {
		return 0, fmt.Errorf("%w: nobody signs the purge", ErrInvalid)
	}
	n := limit(p.Limit)
	if p.Limit == 0 {
		n = MaxPage
	}
	count := 0
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		batch, err := t.expired(ctx, s.retained, us(p.Before), n)
		if err != nil || batch.Count == 0 {
			return nil, err
		}
		count = int(batch.Count)
		if err := p.Sign(&batch.Purged, s.log); err != nil {
			return nil, fmt.Errorf("%w: signing: %w", ErrUnavailable, err)
		}
		out := append(batch.stubs,
			stmt("DELETE FROM decisions WHERE seq >= ? AND seq <= ?", int64(batch.From), int64(batch.To)),
			stmt("DELETE FROM certificates WHERE seq >= ? AND seq <= ?", int64(batch.From), int64(batch.To)))
		s.retained = int64(batch.To)
		return &audit.Record{Kind: audit.Purge, Text: p.Why, Purged: &batch.Purged}, d.bulk(ctx, t, out)
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

// expired is what one purge takes.
type expired struct {
	audit.Purged
	stubs []statement
}

// expired goes through the log from where the last purge ended to the first decision
// that stays, or to n decisions.
func (t *tx) expired(ctx context.Context, after, before int64, n int) (*expired, error) {
	out := &expired{Purged: audit.Purged{From: uint64(after) + 1}}
	sum := audit.NewHashes(out.From)
	var last audit.Stub
	for done := false; !done; {
		seen := 0
		err := t.each(ctx, "SELECT seq, record FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", []any{after, n}, func(scan func(...any) error) error {
			var raw []byte
			if err := scan(&after, &raw); err != nil {
				return err
			}
			seen++
			if done {
				return nil
			}
			r, err := audit.Parse(raw)
			if err != nil || r.Seq != uint64(after) {
				return refuse(ErrTampered, "record %d is not in its form", after)
			}
			stays := r.Kind != audit.Decision
			if done = !stays && r.Time >= before; done {
				return nil
			}
			hash := audit.Hash(raw)
			sum.Add(hash)
			if stays {
				return nil
			}
			if last.Seq > 0 {
				if err := out.add(&last); err != nil {
					return err
				}
			}
			last = audit.Stub{Seq: r.Seq, Hash: hash}
			out.Count, out.To, out.Hashes = out.Count+1, r.Seq, sum.Sum()
			done = out.Count >= uint64(n)
			return nil
		})
		if err != nil {
			return nil, err
		}
		done = done || seen < n
	}
	if out.Count == 0 {
		return out, nil
	}
	last.Last = true
	return out, out.add(&last)
}

func (e *expired) add(s *audit.Stub) error {
	b, err := s.Encode()
	if err != nil {
		return err
	}
	e.stubs = append(e.stubs, stmt("UPDATE audit SET record = ? WHERE seq = ?", b, int64(s.Seq)))
	return nil
}
