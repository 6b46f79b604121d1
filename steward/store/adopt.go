package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/steward/audit"
)

func (d *db) AdoptToken(ctx context.Context, tok Token, by Actor) error {
	pr, err := d.prove(tok.message())
	if err != nil {
		return err
	}
	_, err = d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		have, old, err := scanToken(t.conn.QueryRowContext(ctx, d.rewrite(tokenColumns+" WHERE id = ?"), tok.ID).Scan)
		if err != nil {
			return nil, t.fail(err)
		}
		if string(have.message()) != string(tok.message()) || old.keyID != "" || len(old.mac) > 0 {
			return nil, refuse(ErrConflict, "the token %s is another one now, or has a MAC", tok.ID)
		}
		_, err = t.exec(ctx, "UPDATE tokens SET mac = ?, key_id = ? WHERE id = ?", pr.mac, pr.keyID, tok.ID)
		return &audit.Record{Kind: audit.Note, Name: tok.ID, Text: "adopted: the token, with the scopes " + tok.scopes()}, err
	})
	return err
}

func (d *db) AdoptPolicy(ctx context.Context, p Policy, by Actor) error {
	pr, err := d.prove(p.message())
	if err != nil {
		return err
	}
	_, err = d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		have, old, err := scanPolicy(t.conn.QueryRowContext(ctx, d.rewrite(policyColumns+" WHERE workload = ? AND version = ?"), p.Workload, int64(p.Version)).Scan)
		if err != nil {
			return nil, t.fail(err)
		}
		if string(have.message()) != string(p.message()) || old.keyID != "" || len(old.mac) > 0 {
			return nil, refuse(ErrConflict, "policy %d of %s is another one now, or has a MAC", p.Version, p.Workload)
		}
		_, err = t.exec(ctx, "UPDATE policies SET mac = ?, key_id = ? WHERE workload = ? AND version = ?", pr.mac, pr.keyID, p.Workload, int64(p.Version))
		return &audit.Record{Kind: audit.Note, Workload: p.Workload, Text: fmt.Sprintf("adopted: policy %d, sha256:%s", p.Version, p.Digest)}, err
	})
	return err
}

// reproof is a row that another key authenticated.
type reproof struct {
	what    string
	message []byte
	old     proof
	update  func(proof) statement
}

func (d *db) Reprove(ctx context.Context, keyID string, n int, by Actor) (int, error) {
	if err := first(text("the key id", keyID, 1)); err != nil {
		return 0, err
	}
	done := 0
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		rows, err := t.stale(ctx, keyID, limit(n))
		if err != nil {
			return nil, err
		}
		if done = len(rows); done == 0 {
			return nil, nil
		}
		broken, lost := 0, 0
		var out []statement
		for _, r := range rows {
			err := d.proven(r.what, r.message, r.old)
			fresh := proof{mac: []byte{}, keyID: keyID}
			switch {
			case errors.Is(err, ErrKeyGone):
				fresh.mac = lostMAC
				lost++
			case errors.Is(err, ErrTampered):
				broken++
			case err != nil:
				return nil, err
			default:
				if fresh, err = d.prove(r.message); err != nil {
					return nil, err
				}
				if fresh.keyID != keyID {
					return nil, refuse(ErrConflict, "the current key is %s, wanted %s", fresh.keyID, keyID)
				}
			}
			out = append(out, r.update(fresh))
		}
		if err := d.bulk(ctx, t, out); err != nil {
			return nil, err
		}
		said := fmt.Sprintf("%d rows were authenticated under the key %s; %d did not hold, and do not", done-broken-lost, keyID, broken)
		if lost > 0 {
			said += fmt.Sprintf("; of %d the key was gone", lost)
		}
		return &audit.Record{Kind: audit.Note, Text: said}, nil
	})
	return done, err
}

// stale gives rows that another key than keyID authenticated; none that none did.
func (t *tx) stale(ctx context.Context, keyID string, n int) ([]reproof, error) {
	var out []reproof
	const cond = " WHERE key_id <> '' AND key_id <> ? LIMIT ?"
	err := t.each(ctx, tokenColumns+cond, []any{keyID, n}, func(scan func(...any) error) error {
		x, old, err := scanToken(scan)
		msg := x.message()
		if errors.Is(err, ErrTampered) {
			msg, err = nil, nil // no MAC is of nothing
		}
		out = append(out, reproof{x.what(), msg, old, func(p proof) statement {
			return stmt("UPDATE tokens SET mac = ?, key_id = ? WHERE id = ?", p.mac, p.keyID, x.ID)
		}})
		return err
	})
	if err != nil || len(out) >= n {
		return out, err
	}
	err = t.each(ctx, policyColumns+cond, []any{keyID, n - len(out)}, func(scan func(...any) error) error {
		x, old, err := scanPolicy(scan)
		msg := x.message()
		if errors.Is(err, ErrTampered) {
			msg, err = nil, nil // no MAC is of nothing
		}
		out = append(out, reproof{x.what(), msg, old, func(p proof) statement {
			return stmt("UPDATE policies SET mac = ?, key_id = ? WHERE workload = ? AND version = ?", p.mac, p.keyID, x.Workload, int64(x.Version))
		}})
		return err
	})
	if err != nil || len(out) >= n {
		return out, err
	}
	err = t.each(ctx, "SELECT name, data, version, mac, key_id FROM kept"+cond, []any{keyID, n - len(out)}, func(scan func(...any) error) error {
		var name string
		var v Value
		var at int64
		var old proof
		if err := scan(&name, &v.Data, &at, &old.mac, &old.keyID); err != nil {
			return err
		}
		v.Version = uint64(at)
		out = append(out, reproof{"the value " + name, v.message(name), old, func(p proof) statement {
			return stmt("UPDATE kept SET mac = ?, key_id = ? WHERE name = ? AND version = ?", p.mac, p.keyID, name, at)
		}})
		return nil
	})
	return out, err
}
