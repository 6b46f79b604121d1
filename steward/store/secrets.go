package store

import (
	"context"
	"fmt"

	"github.com/donjon-tee/donjon/steward/audit"
)

// maxMAC bounds a confirmation's MAC, in bytes.
const maxMAC = 64

func (k SecretKey) valid() error {
	return first(text("the secret's workload", k.Workload, 1), textTo("the secret's name", k.Name, 1, 256))
}

// newest gives the newest version, 0 where there is none, and whether it is deleted.
func (t *tx) newest(ctx context.Context, k SecretKey) (v uint64, deleted bool, err error) {
	var n, gone int64
	err = t.row(ctx, "SELECT version, deleted FROM secrets WHERE workload = ? AND name = ? ORDER BY version DESC LIMIT 1", []any{k.Workload, k.Name}, &n, &gone)
	return uint64(n), gone != 0, noRow(err)
}

func (d *db) PutSecret(ctx context.Context, sec Secret, by Actor) error {
	if err := first(sec.valid(), version("the secret", sec.Version), size("the sealed secret", len(sec.Sealed), 1, MaxSealed), text("the key id", sec.KeyID, 1)); err != nil {
		return err
	}
	if sec.Policy.IsZero() {
		return fmt.Errorf("%w: the secret names no policy", ErrInvalid)
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		have, err := d.followed(ctx, t.conn, sec.SecretKey)
		if err != nil {
			return nil, t.fail(err)
		}
		if sec.Version != have+1 {
			return nil, refuse(ErrConflict, "the secret %s: found version %d, wanted to write %d", sec.Name, have, sec.Version)
		}
		if _, err := t.exec(ctx, "UPDATE secrets SET sealed = NULL WHERE workload = ? AND name = ?", sec.Workload, sec.Name); err != nil {
			return nil, err
		}
		r := &audit.Record{Kind: audit.SecretSet, Workload: sec.Workload, Name: sec.Name, Version: sec.Version, Policy: sec.Policy}
		n, err := t.exec(ctx, "DELETE FROM secrets WHERE workload = ? AND name = ? AND version > ?", sec.Workload, sec.Name, int64(have))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			r.Text = fmt.Sprintf("%d rows of higher versions were removed, which no Steward wrote", n)
		}
		_, err = t.exec(ctx, "INSERT INTO secrets (workload, name, version, sealed, key_id, policy, at, who, deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
			sec.Workload, sec.Name, int64(sec.Version), sec.Sealed, sec.KeyID, sec.Policy[:], us(by.At), by.Who)
		return r, err
	})
	return err
}

func (d *db) SecretVersion(ctx context.Context, workload, name string) (uint64, error) {
	k := SecretKey{workload, name}
	if err := k.valid(); err != nil {
		return 0, err
	}
	v, err := d.followed(ctx, d.reads, k)
	return v, d.translate(err)
}

// followed is the version that the next one follows: versions are counted from 1, and no
// row of one goes away, so one behind a gap is not a Steward's. See counted.
func (d *db) followed(ctx context.Context, q querier, k SecretKey) (have uint64, err error) {
	err = d.each(ctx, q, "SELECT version FROM secrets WHERE workload = ? AND name = ? AND version > 0 ORDER BY version", []any{k.Workload, k.Name}, func(scan func(...any) error) error {
		var v int64
		if err := scan(&v); err != nil {
			return err
		}
		if uint64(v) == have+1 {
			have++
		}
		return nil
	})
	return have, err
}

func secretColumns(sealed string) string {
	return "SELECT workload, name, version, " + sealed + ", key_id, policy, at, who FROM secrets s WHERE deleted = 0 AND version = (SELECT MAX(version) FROM secrets q WHERE q.workload = s.workload AND q.name = s.name)"
}

// secrets reads secrets and what they are confirmed for, from one moment.
func (d *db) secrets(ctx context.Context, query string, args ...any) ([]Secret, error) {
	t, err := d.beginTx(ctx, d.reads, d.beginRead())
	if err != nil {
		return nil, d.translate(err)
	}
	defer t.rollback()
	var out []Secret
	err = t.each(ctx, query, args, func(scan func(...any) error) error {
		var s Secret
		var v, at int64
		var policy []byte
		if err := scan(&s.Workload, &s.Name, &v, &s.Sealed, &s.KeyID, &policy, &at, &s.By); err != nil {
			return err
		}
		if len(policy) != len(s.Policy) {
			return refuse(ErrTampered, "the secret %s names no policy", s.Name)
		}
		s.Version, s.At, s.Policy = uint64(v), when(at), audit.Digest(policy)
		out = append(out, s)
		return nil
	})
	for i := 0; err == nil && i < len(out); i++ {
		s := &out[i]
		err = t.each(ctx, "SELECT policy, mac, key_id FROM confirmations WHERE workload = ? AND name = ? AND version = ? ORDER BY at, policy",
			[]any{s.Workload, s.Name, int64(s.Version)}, func(scan func(...any) error) error {
				var c Confirmation
				var policy []byte
				if err := scan(&policy, &c.MAC, &c.KeyID); err != nil {
					return err
				}
				if len(policy) == len(s.Policy) {
					c.Policy = audit.Digest(policy)
					s.Confirmed = append(s.Confirmed, c)
				}
				return nil
			})
	}
	if err != nil {
		return nil, d.translate(err)
	}
	return out, nil
}

func (d *db) Secrets(ctx context.Context, workload string) ([]Secret, error) {
	if err := first(text("the secret's workload", workload, 1)); err != nil {
		return nil, err
	}
	return d.secrets(ctx, secretColumns("sealed")+" AND workload = ? ORDER BY name LIMIT ?", workload, MaxPage)
}

func (d *db) AllSecrets(ctx context.Context, after SecretKey, n int) ([]Secret, error) {
	if err := first(text("the page", after.Workload, 0), text("the page", after.Name, 0)); err != nil {
		return nil, err
	}
	return d.secrets(ctx, secretColumns("NULL")+" AND (workload > ? OR workload = ? AND name > ?) ORDER BY workload, name LIMIT ?",
		after.Workload, after.Workload, after.Name, limit(n))
}

func (d *db) StaleSecrets(ctx context.Context, keyID string, n int) ([]Secret, error) {
	if err := first(text("the key id", keyID, 1)); err != nil {
		return nil, err
	}
	return d.secrets(ctx, secretColumns("sealed")+" AND (key_id <> ? OR EXISTS (SELECT 1 FROM confirmations c WHERE c.workload = s.workload AND c.name = s.name"+
		" AND c.version = s.version AND c.key_id <> ? AND LENGTH(c.policy) = 32)) ORDER BY workload, name LIMIT ?", keyID, keyID, limit(n))
}

func (d *db) ConfirmSecret(ctx context.Context, k SecretKey, v uint64, c Confirmation, by Actor) error {
	if err := first(k.valid(), version("the secret", v), size("the confirmation's MAC", len(c.MAC), 1, maxMAC), text("the key id", c.KeyID, 1)); err != nil {
		return err
	}
	if c.Policy.IsZero() {
		return fmt.Errorf("%w: no policy is named", ErrInvalid)
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		have, deleted, err := t.newest(ctx, k)
		if err != nil {
			return nil, err
		}
		if have == 0 || deleted {
			return nil, refuse(ErrNotFound, "the secret %s", k.Name)
		}
		if have != v {
			return nil, refuse(ErrConflict, "the secret %s: found version %d, wanted %d", k.Name, have, v)
		}
		_, err = t.exec(ctx, "INSERT INTO confirmations (workload, name, version, policy, at, who, mac, key_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"+
			" ON CONFLICT (workload, name, version, policy) DO UPDATE SET at = excluded.at, who = excluded.who, mac = excluded.mac, key_id = excluded.key_id",
			k.Workload, k.Name, int64(v), c.Policy[:], us(by.At), by.Who, c.MAC, c.KeyID)
		return &audit.Record{Kind: audit.SecretConfirm, Workload: k.Workload, Name: k.Name, Version: v, Policy: c.Policy}, err
	})
	return err
}

func (d *db) DeleteSecret(ctx context.Context, k SecretKey, by Actor) error {
	if err := k.valid(); err != nil {
		return err
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		have, deleted, err := t.newest(ctx, k)
		if err != nil {
			return nil, err
		}
		if have == 0 || deleted {
			return nil, refuse(ErrNotFound, "the secret %s", k.Name)
		}
		_, err = t.exec(ctx, "UPDATE secrets SET sealed = NULL, deleted = ? WHERE workload = ? AND name = ?", us(by.At), k.Workload, k.Name)
		return &audit.Record{Kind: audit.SecretDelete, Workload: k.Workload, Name: k.Name, Version: have}, err
	})
	return err
}

func (d *db) RewrapSecret(ctx context.Context, sec Secret, oldKeyID string, by Actor) error {
	if err := first(sec.valid(), version("the secret", sec.Version), size("the sealed secret", len(sec.Sealed), 1, MaxSealed),
		text("the key id", sec.KeyID, 1), text("the old key id", oldKeyID, 1)); err != nil {
		return err
	}
	for _, c := range sec.Confirmed {
		if err := first(size("the confirmation's MAC", len(c.MAC), 0, maxMAC), text("the key id", c.KeyID, 1)); err != nil {
			return err
		}
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		n, err := t.exec(ctx, "UPDATE secrets SET sealed = ?, key_id = ? WHERE workload = ? AND name = ? AND version = ? AND key_id = ? AND deleted = 0 AND sealed IS NOT NULL",
			sec.Sealed, sec.KeyID, sec.Workload, sec.Name, int64(sec.Version), oldKeyID)
		if err == nil && n != 1 {
			err = refuse(ErrConflict, "the secret %s: found no version %d under the key %s", sec.Name, sec.Version, oldKeyID)
		}
		for _, c := range sec.Confirmed {
			if err != nil {
				break
			}
			// One that was confirmed anew meanwhile stays.
			_, err = t.exec(ctx, "UPDATE confirmations SET mac = ?, key_id = ? WHERE workload = ? AND name = ? AND version = ? AND policy = ? AND key_id <> ?",
				append([]byte{}, c.MAC...), c.KeyID, sec.Workload, sec.Name, int64(sec.Version), c.Policy[:], c.KeyID)
		}
		return &audit.Record{Kind: audit.SecretRewrap, Workload: sec.Workload, Name: sec.Name, Version: sec.Version, Text: sec.KeyID}, err
	})
	return err
}
