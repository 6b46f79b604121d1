package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

func (t *Token) valid() error {
	errs := []error{textTo("the token's id", t.ID, 1, 128), text("the token's name", t.Name, 0), moment("the token's expiry", t.Expires, true)}
	if len(t.Scopes) == 0 || t.Hash == [32]byte{} {
		errs = append(errs, refuse(ErrInvalid, "the token has no scope, or no hash"))
	}
	for _, s := range t.Scopes {
		switch s {
		case ScopeRead, ScopePolicy, ScopeSecret, ScopeAudit, ScopeAdmin:
		default:
			errs = append(errs, refuse(ErrInvalid, "the scope %q", s))
		}
	}
	return first(errs...)
}

func (d *db) PutToken(ctx context.Context, tok Token, by Actor) error {
	return d.putToken(ctx, tok, by, false)
}

func (d *db) PutFirstToken(ctx context.Context, tok Token, by Actor) error {
	return d.putToken(ctx, tok, by, true)
}

func (d *db) putToken(ctx context.Context, tok Token, by Actor, only bool) error {
	if err := first(tok.valid(), by.valid()); err != nil {
		return err
	}
	tok.Created, tok.By, tok.Revoked = by.At, by.Who, time.Time{}
	pr, err := d.prove(tok.message())
	if err != nil {
		return err
	}
	list, ends := tok.scopes(), us(tok.Expires)
	_, err = d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		if only {
			var have int64
			if err := t.row(ctx, "SELECT COUNT(*) FROM tokens", nil, &have); err != nil {
				return nil, err
			}
			if have > 0 {
				return nil, refuse(ErrConflict, "found %d tokens, wanted none", have)
			}
		}
		n, err := t.exec(ctx, "INSERT INTO tokens (id, name, hash, scopes, created, who, expires, revoked, mac, key_id) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO NOTHING",
			tok.ID, tok.Name, tok.Hash[:], list, us(by.At), by.Who, us(tok.Expires), pr.mac, pr.keyID)
		if err == nil && n != 1 {
			err = refuse(ErrConflict, "the token %s is there", tok.ID)
		}
		return &audit.Record{Kind: audit.TokenCreate, Name: tok.ID, Text: list, Detail: tokenDigest(tok.Hash), Expires: &ends}, err
	})
	return err
}

const tokenColumns = "SELECT id, name, hash, scopes, created, who, expires, revoked, mac, key_id FROM tokens"

func scanToken(scan func(...any) error) (t Token, pr proof, err error) {
	var hash []byte
	var scopes string
	var created, expires, revoked int64
	if err := scan(&t.ID, &t.Name, &hash, &scopes, &created, &t.By, &expires, &revoked, &pr.mac, &pr.keyID); err != nil {
		return t, pr, err
	}
	t.Created, t.Expires, t.Revoked = when(created), when(expires), when(revoked)
	for _, s := range strings.Fields(scopes) {
		t.Scopes = append(t.Scopes, Scope(s))
	}
	if len(hash) != len(t.Hash) {
		return t, pr, fmt.Errorf("%w: the token %s", ErrTampered, t.ID)
	}
	t.Hash = [32]byte(hash)
	return t, pr, nil
}

func (t *Token) what() string { return "the token " + t.ID }

func (d *db) TokenByHash(ctx context.Context, hash [32]byte) (*Token, error) {
	t, pr, err := scanToken(d.reads.QueryRowContext(ctx, d.rewrite(tokenColumns+" WHERE hash = ?"), hash[:]).Scan)
	if err == nil {
		err = d.proven(t.what(), t.message(), pr)
	}
	if err != nil {
		return nil, d.translate(err)
	}
	return &t, nil
}

func (d *db) Tokens(ctx context.Context) ([]Token, error) {
	var out []Token
	err := d.each(ctx, d.reads, tokenColumns+" ORDER BY created, id LIMIT ?", []any{MaxPage}, func(scan func(...any) error) error {
		t, pr, err := scanToken(scan)
		switch {
		case errors.Is(err, ErrTampered):
			t.Doubt, err = Forged, nil
		case err == nil:
			t.Doubt = d.doubt(t.what(), t.message(), pr)
		}
		out = append(out, t)
		return err
	})
	return out, d.translate(err)
}

// RevokeToken also takes back a token whose row does not hold; that stays so.
func (d *db) RevokeToken(ctx context.Context, id string, by Actor) error {
	if err := first(text("the token's id", id, 1)); err != nil {
		return err
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		tok, pr, err := scanToken(t.conn.QueryRowContext(ctx, d.rewrite(tokenColumns+" WHERE id = ?"), id).Scan)
		broken := errors.Is(err, ErrTampered)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && !tok.Revoked.IsZero():
			return nil, refuse(ErrNotFound, "the token %s", id)
		case err != nil && !broken:
			return nil, t.fail(err)
		case err == nil:
			err = d.proven(tok.what(), tok.message(), pr)
			if broken = errors.Is(err, ErrTampered); err != nil && !broken {
				return nil, err
			}
			if errors.Is(err, ErrKeyGone) { // put back, that key would say of the row that it was changed
				pr.mac = lostMAC
			}
		}
		if !broken {
			tok.Revoked = by.At
			if pr, err = d.prove(tok.message()); err != nil {
				return nil, err
			}
		}
		_, err = t.exec(ctx, "UPDATE tokens SET revoked = ?, mac = ?, key_id = ? WHERE id = ?", us(by.At), nonNil(pr.mac), pr.keyID, id)
		return &audit.Record{Kind: audit.TokenRevoke, Name: id}, err
	})
	return err
}

// nonNil is b as no database takes for NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (d *db) Value(ctx context.Context, key string) (*Value, error) {
	if err := first(textTo("the value's key", key, 1, 128)); err != nil {
		return nil, err
	}
	var v Value
	var n int64
	var pr proof
	if err := d.reads.QueryRowContext(ctx, d.rewrite("SELECT data, version, mac, key_id FROM kept WHERE name = ?"), key).Scan(&v.Data, &n, &pr.mac, &pr.keyID); err != nil {
		return nil, d.translate(err)
	}
	v.Version = uint64(n)
	err := d.proven("the value "+key, v.message(key), pr)
	if v.Version >= lastVersion {
		v.Version = 0 // none can follow it, whether it holds or not: it is put anew
	}
	if errors.Is(err, ErrTampered) {
		return &Value{Version: v.Version}, err
	}
	if err != nil {
		return nil, err
	}
	return &v, nil
}

func (d *db) PutValue(ctx context.Context, key string, v Value) error {
	if err := first(textTo("the value's key", key, 1, 128), size("the value", len(v.Data), 0, MaxValue), version("the value", v.Version)); err != nil {
		return err
	}
	if v.Data == nil {
		v.Data = []byte{}
	}
	pr, err := d.prove(v.message(key))
	if err != nil {
		return err
	}
	var n int64
	if v.Version == 1 {
		n, err = d.one(ctx, "INSERT INTO kept (name, data, version, mac, key_id) VALUES (?, ?, 1, ?, ?) ON CONFLICT (name) DO UPDATE SET data = excluded.data, version = 1, mac = excluded.mac, key_id = excluded.key_id WHERE kept.version >= ? OR kept.version < 1",
			key, v.Data, pr.mac, pr.keyID, int64(lastVersion))
	} else {
		n, err = d.one(ctx, "UPDATE kept SET data = ?, version = ?, mac = ?, key_id = ? WHERE name = ? AND version = ?", v.Data, int64(v.Version), pr.mac, pr.keyID, key, int64(v.Version-1))
	}
	if err != nil {
		return d.translate(err)
	}
	if n != 1 {
		return fmt.Errorf("%w: the value %s is not at version %d", ErrConflict, key, v.Version-1)
	}
	return nil
}

// one runs a single statement that is a transaction of its own.
func (d *db) one(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := d.writes.ExecContext(ctx, d.rewrite(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
