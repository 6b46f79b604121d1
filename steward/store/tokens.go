package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/steward/audit"
)

func (d *db) PutToken(ctx context.Context, tok Token, by Actor) error {
	errs := []error{textTo("the token's id", tok.ID, 1, 128), text("the token's name", tok.Name, 0), moment("the token's expiry", tok.Expires, true)}
	if len(tok.Scopes) == 0 || tok.Hash == [32]byte{} {
		errs = append(errs, refuse(ErrInvalid, "the token has no scope, or no hash"))
	}
	var scopes []string
	for _, s := range tok.Scopes {
		switch s {
		case ScopeRead, ScopePolicy, ScopeSecret, ScopeAudit, ScopeAdmin:
			scopes = append(scopes, string(s))
		default:
			errs = append(errs, refuse(ErrInvalid, "the scope %q", s))
		}
	}
	if err := first(errs...); err != nil {
		return err
	}
	list := strings.Join(scopes, " ")
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		n, err := t.exec(ctx, "INSERT INTO tokens (id, name, hash, scopes, created, who, expires, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
			tok.ID, tok.Name, tok.Hash[:], list, us(by.At), by.Who, us(tok.Expires))
		if err == nil && n != 1 {
			err = refuse(ErrConflict, "the token %s is there", tok.ID)
		}
		return &audit.Record{Kind: audit.TokenCreate, Name: tok.ID, Text: list, Detail: tokenDigest(tok.Hash)}, err
	})
	return err
}

const tokenColumns = "SELECT id, name, hash, scopes, created, who, expires, revoked FROM tokens"

func scanToken(scan func(...any) error) (t Token, err error) {
	var hash []byte
	var scopes string
	var created, expires, revoked int64
	if err := scan(&t.ID, &t.Name, &hash, &scopes, &created, &t.By, &expires, &revoked); err != nil {
		return t, err
	}
	if len(hash) != len(t.Hash) {
		return t, fmt.Errorf("%w: the token %s", ErrTampered, t.ID)
	}
	t.Hash, t.Created, t.Expires, t.Revoked = [32]byte(hash), when(created), when(expires), when(revoked)
	for _, s := range strings.Fields(scopes) {
		t.Scopes = append(t.Scopes, Scope(s))
	}
	return t, nil
}

func (d *db) TokenByHash(ctx context.Context, hash [32]byte) (*Token, error) {
	t, err := scanToken(d.reads.QueryRowContext(ctx, d.rewrite(tokenColumns+" WHERE hash = ?"), hash[:]).Scan)
	if err != nil {
		return nil, d.translate(err)
	}
	return &t, nil
}

func (d *db) Tokens(ctx context.Context) ([]Token, error) {
	var out []Token
	err := d.each(ctx, d.reads, tokenColumns+" ORDER BY created, id LIMIT ?", []any{MaxPage}, func(scan func(...any) error) error {
		t, err := scanToken(scan)
		out = append(out, t)
		return err
	})
	return out, d.translate(err)
}

func (d *db) RevokeToken(ctx context.Context, id string, by Actor) error {
	if err := first(text("the token's id", id, 1)); err != nil {
		return err
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		n, err := t.exec(ctx, "UPDATE tokens SET revoked = ? WHERE id = ? AND revoked = 0", us(by.At), id)
		if err == nil && n != 1 {
			err = refuse(ErrNotFound, "the token %s", id)
		}
		return &audit.Record{Kind: audit.TokenRevoke, Name: id}, err
	})
	return err
}

func (d *db) Value(ctx context.Context, key string) (*Value, error) {
	if err := first(textTo("the value's key", key, 1, 128)); err != nil {
		return nil, err
	}
	var v Value
	var n int64
	if err := d.reads.QueryRowContext(ctx, d.rewrite("SELECT data, version FROM kept WHERE name = ?"), key).Scan(&v.Data, &n); err != nil {
		return nil, d.translate(err)
	}
	v.Version = uint64(n)
	return &v, nil
}

func (d *db) PutValue(ctx context.Context, key string, v Value) error {
	if err := first(textTo("the value's key", key, 1, 128), size("the value", len(v.Data), 0, MaxValue), version("the value", v.Version)); err != nil {
		return err
	}
	if v.Data == nil {
		v.Data = []byte{}
	}
	var n int64
	var err error
	if v.Version == 1 {
		n, err = d.one(ctx, "INSERT INTO kept (name, data, version) VALUES (?, ?, 1) ON CONFLICT DO NOTHING", key, v.Data)
	} else {
		n, err = d.one(ctx, "UPDATE kept SET data = ?, version = ? WHERE name = ? AND version = ?", v.Data, int64(v.Version), key, int64(v.Version-1))
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
