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
