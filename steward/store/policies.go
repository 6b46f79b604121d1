package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/donjon-tee/donjon/steward/audit"
)

func (d *db) PutWorkload(ctx context.Context, w Workload, by Actor) error {
	if err := first(text("the workload's digest", w.Digest, 1), text("the workload's name", w.Name, 0),
		size("the manifest", len(w.Manifest), 0, MaxManifest), moment("first seen", w.FirstSeen, true)); err != nil {
		return err
	}
	if w.FirstSeen.IsZero() {
		w.FirstSeen = by.At
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		// A manifest is never lost by naming its digest again.
		_, err := t.exec(ctx, "INSERT INTO workloads (digest, name, first_seen, manifest) VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET name = excluded.name, manifest = COALESCE(excluded.manifest, workloads.manifest)",
			w.Digest, w.Name, us(w.FirstSeen), w.Manifest)
		return &audit.Record{Kind: audit.Workload, Workload: w.Digest, Name: w.Name, Detail: digestOf(w.Manifest)}, err
	})
	return err
}

const workloadColumns = "SELECT digest, name, first_seen, manifest FROM workloads"

func scanWorkload(scan func(...any) error) (w Workload, err error) {
	var seen int64
	err = scan(&w.Digest, &w.Name, &seen, &w.Manifest)
	w.FirstSeen = when(seen)
	return w, err
}

func (d *db) Workload(ctx context.Context, digest string) (*Workload, error) {
	if err := first(text("the workload's digest", digest, 1)); err != nil {
		return nil, err
	}
	w, err := scanWorkload(d.reads.QueryRowContext(ctx, d.rewrite(workloadColumns+" WHERE digest = ?"), digest).Scan)
	if err != nil {
		return nil, d.translate(err)
	}
	return &w, nil
}

func (d *db) Workloads(ctx context.Context, after string, n int) ([]Workload, error) {
	if err := first(text("the page", after, 0)); err != nil {
		return nil, err
	}
	var out []Workload
	err := d.each(ctx, d.reads, workloadColumns+" WHERE digest > ? ORDER BY digest LIMIT ?", []any{after, limit(n)}, func(scan func(...any) error) error {
		w, err := scanWorkload(scan)
		out = append(out, w)
		return err
	})
	return out, d.translate(err)
}

func (d *db) PutPolicy(ctx context.Context, p Policy, by Actor) error {
	if err := first(text("the policy's workload", p.Workload, 1), version("the policy", p.Version),
		size("the policy", len(p.Text), 1, MaxPolicy)); err != nil {
		return err
	}
	p.Digest, p.At, p.By = sha256.Sum256(p.Text), by.At, by.Who
	pr, err := d.prove(p.message())
	if err != nil {
		return err
	}
	_, err = d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		have, err := t.counted(ctx, p.Workload)
		if err != nil {
			return nil, err
		}
		if p.Version != uint64(have)+1 {
			return nil, refuse(ErrConflict, "the policy of %s: found version %d, wanted to write %d", p.Workload, have, p.Version)
		}
		r := &audit.Record{Kind: audit.Policy, Workload: p.Workload, Version: p.Version, Policy: p.Digest}
		n, err := t.exec(ctx, "DELETE FROM policies WHERE workload = ? AND version > ?", p.Workload, have)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			r.Text = fmt.Sprintf("%d rows of higher versions were removed, which no Steward with these keys wrote", n)
		}
		_, err = t.exec(ctx, "INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			p.Workload, int64(p.Version), p.Text, p.Digest[:], us(by.At), by.Who, pr.mac, pr.keyID)
		return r, err
	})
	return err
}

// counted is the newest version of a workload's policy that the next one follows: the
// newest that is proven, and those after it without a gap, which may be from before rows
// were authenticated, or have been changed. Whoever writes the database could else put
// the last number there is into a row, and no version would ever follow (but by hand).
func (t *tx) counted(ctx context.Context, workload string) (int64, error) {
	var doubted []int64 // newest first
	var have int64
	for most := int64(math.MaxInt64); most > 0; {
		p, pr, err := scanPolicy(t.conn.QueryRowContext(ctx, t.d.rewrite(policyColumns+" WHERE workload = ? AND version <= ? ORDER BY version DESC LIMIT 1"), workload, most).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err == nil {
			err = t.d.proven(p.what(), p.message(), pr)
		}
		v := int64(p.Version)
		if err == nil {
			have = max(v, 0)
			break
		}
		if !errors.Is(err, ErrTampered) {
			return 0, t.fail(err)
		}
		doubted = append(doubted, v)
		most = v - 1
	}
	for _, v := range slices.Backward(doubted) {
		if v == have+1 {
			have = v
		}
	}
	return have, nil
}

func (d *db) NextPolicy(ctx context.Context, workload string) (uint64, error) {
	if err := first(text("the policy's workload", workload, 1)); err != nil {
		return 0, err
	}
	t, err := d.beginTx(ctx, d.reads, d.beginRead())
	if err != nil {
		return 0, d.translate(err)
	}
	defer t.rollback()
	have, err := t.counted(ctx, workload)
	return uint64(have) + 1, d.translate(err)
}

const policyColumns = "SELECT workload, version, text, digest, at, who, mac, key_id FROM policies p"

// scanPolicy computes the digest: what is judged by must be what is named.
func scanPolicy(scan func(...any) error) (p Policy, pr proof, err error) {
	var v, at int64
	var digest []byte
	if err := scan(&p.Workload, &v, &p.Text, &digest, &at, &p.By, &pr.mac, &pr.keyID); err != nil {
		return p, pr, err
	}
	p.Version, p.At, p.Digest = uint64(v), when(at), sha256.Sum256(p.Text)
	if string(digest) != string(p.Digest[:]) {
		return p, pr, refuse(ErrTampered, "policy %d of %s is not the one of its digest", v, p.Workload)
	}
	return p, pr, nil
}

func (p *Policy) what() string { return fmt.Sprintf("policy %d of %s", p.Version, p.Workload) }

// uncheckedPolicy is the error of a policy whose MAC could not be checked. Whoever asks
// for it has the policy, to hold it against the log.
type uncheckedPolicy struct {
	error
	policy Policy
}

func (u uncheckedPolicy) Unwrap() error { return u.error }

// policy gives one that is proven.
func (d *db) policy(ctx context.Context, cond string, args ...any) (*Policy, error) {
	p, pr, err := scanPolicy(d.reads.QueryRowContext(ctx, d.rewrite(policyColumns+cond), args...).Scan)
	if err == nil {
		if err = d.proven(p.what(), p.message(), pr); errors.Is(err, ErrKeyGone) || errors.Is(err, ErrKey) {
			return nil, uncheckedPolicy{err, p}
		}
	}
	if err != nil {
		return nil, d.translate(err)
	}
	return &p, nil
}

func (d *db) Policy(ctx context.Context, workload string) (*Policy, error) {
	if err := first(text("the policy's workload", workload, 1)); err != nil {
		return nil, err
	}
	return d.policy(ctx, " WHERE workload = ? ORDER BY version DESC LIMIT 1", workload)
}

func (d *db) PolicyVersion(ctx context.Context, workload string, v uint64) (*Policy, error) {
	if err := first(text("the policy's workload", workload, 1), version("the policy", v)); err != nil {
		return nil, err
	}
	return d.policy(ctx, " WHERE workload = ? AND version = ?", workload, int64(v))
}

func (d *db) Policies(ctx context.Context, workload string, n int) ([]Policy, error) {
	if err := first(text("the policy's workload", workload, 1)); err != nil {
		return nil, err
	}
	return d.policies(ctx, " WHERE workload = ? ORDER BY version DESC LIMIT ?", workload, limit(n))
}

func (d *db) Subjects(ctx context.Context, after string, n int) ([]Policy, error) {
	if err := first(text("the page", after, 0)); err != nil {
		return nil, err
	}
	return d.policies(ctx, " WHERE workload > ? AND version = (SELECT MAX(version) FROM policies q WHERE q.workload = p.workload) ORDER BY workload LIMIT ?", after, limit(n))
}

func (d *db) SignedVersion(ctx context.Context, signer, name string) (uint64, error) {
	if err := first(text("the signer", signer, 1), text("the signed name", name, 1)); err != nil {
		return 0, err
	}
	var v int64
	err := d.reads.QueryRowContext(ctx, d.rewrite("SELECT COALESCE(MAX(version), 0) FROM signers WHERE signer = ? AND name = ?"), signer, name).Scan(&v)
	return uint64(v), d.translate(err)
}

func (d *db) policies(ctx context.Context, cond string, args ...any) ([]Policy, error) {
	var out []Policy
	err := d.each(ctx, d.reads, policyColumns+cond, args, func(scan func(...any) error) error {
		p, pr, err := scanPolicy(scan)
		switch {
		case errors.Is(err, ErrTampered):
			p.Doubt, err = Forged, nil
		case err == nil:
			p.Doubt = d.doubt(p.what(), p.message(), pr)
		}
		out = append(out, p)
		return err
	})
	return out, d.translate(err)
}
