package store

import (
	"fmt"
	"strings"
	"testing"
)

func TestMerged(t *testing.T) {
	const a, b = "INSERT INTO a (x, y) VALUES (?, ?)", "INSERT INTO b (z) VALUES (?)"
	upsert := b + " ON CONFLICT (z) DO UPDATE SET z = excluded.z"
	for name, c := range map[string]struct {
		in   []statement
		want string
	}{
		"none": {nil, ""},
		"one":  {[]statement{stmt(a, int64(1), "x")}, a + " [1 x]"},
		"two tables": {[]statement{stmt(a, int64(1), "x"), stmt(b, []byte("p")), stmt(a, int64(2), "y"), stmt(b, []byte(nil))},
			"INSERT INTO a (x, y) SELECT * FROM unnest($1::bigint[], $2::text[]) [[1 2] [x y]]|INSERT INTO b (z) SELECT * FROM unnest($1::bytea[]) [[[112] []]]"},
		"not over another":  {[]statement{stmt(b, "p"), stmt("DELETE FROM b"), stmt(b, "q")}, b + " [p]|DELETE FROM b []|" + b + " [q]"},
		"not what updates":  {[]statement{stmt(upsert, "p"), stmt(upsert, "p")}, upsert + " [p]|" + upsert + " [p]"},
		"types that differ": {[]statement{stmt(b, "p"), stmt(b, int64(1))}, b + " [p]|" + b + " [1]"},
		"an unknown type":   {[]statement{stmt(b, 1.5), stmt(b, 2.5)}, b + " [1.5]|" + b + " [2.5]"},
		"no value":          {[]statement{stmt(b, nil), stmt(b, nil)}, b + " [<nil>]|" + b + " [<nil>]"},
	} {
		var got []string
		for _, s := range merged(c.in) {
			got = append(got, fmt.Sprintf("%s %v", s.sql, s.args))
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%s: found %s, wanted %s", name, text, c.want)
		}
	}
}
