package store

import (
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

// What the log says of a token's end is compared; a log of an earlier release says nothing.
func TestTokenEnd(t *testing.T) {
	end := time.Unix(1_800_000_000, 0)
	tok := Token{ID: "t", Hash: [32]byte{1}, Scopes: []Scope{ScopeRead}, Expires: end}
	number, never := us(end), int64(0)
	for _, c := range []struct {
		name string
		said *int64
		ends time.Time
		want bool
	}{
		{"as made", &number, end, true},
		{"later", &number, end.Add(time.Hour), false},
		{"never, and it ends in the log", &number, time.Time{}, false},
		{"never", &never, time.Time{}, true},
		{"an end that the log does not have", &never, end, false},
		{"an earlier log", nil, end, true},
	} {
		l := newSaid()
		l.token(&audit.Record{Kind: audit.TokenCreate, Name: tok.ID, Text: tok.scopes(), Detail: tokenDigest(tok.Hash), Expires: c.said})
		tok.Expires = c.ends
		if got := l.agrees(&tok); got != c.want {
			t.Errorf("%s: found %t, wanted %t", c.name, got, c.want)
		}
	}
}

// Where the MAC cannot be checked, who made a token, and when, is what the log says.
func TestTokenMade(t *testing.T) {
	made := time.Unix(1_800_000_000, 0)
	l := newSaid()
	l.token(&audit.Record{Kind: audit.TokenCreate, Who: "w", Time: us(made), Name: "t", Text: "read", Detail: tokenDigest([32]byte{1})})
	l.token(&audit.Record{Kind: audit.TokenRevoke, Who: "w", Time: us(made.Add(time.Hour)), Name: "t"})
	as := func(change func(*Token)) *Token {
		x := Token{ID: "t", Hash: [32]byte{1}, Scopes: []Scope{ScopeRead}, Created: made, By: "w", Revoked: made.Add(time.Hour)}
		change(&x)
		return &x
	}
	for name, c := range map[string]struct {
		change func(*Token)
		want   bool
	}{
		"as made":           {func(*Token) {}, true},
		"by another":        {func(x *Token) { x.By = "x" }, false},
		"at another time":   {func(x *Token) { x.Created = made.Add(1000) }, false},
		"revoked elsewhere": {func(x *Token) { x.Revoked = made }, false},
	} {
		if got := l.agrees(as(c.change)); got != c.want {
			t.Errorf("%s: found %t, wanted %t", name, got, c.want)
		}
	}
}
