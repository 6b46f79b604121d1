package strict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestT26JSON(t *testing.T) {
	for in, ok := range map[string]bool{
		`{}`: true, `[]`: true, `1`: true, `"a"`: true, `null`: true, ` true `: true,
		`{"a":1,"b":{"a":1}}`: true, `{"a":[{"a":1},{"a":2}],"b":"a"}`: true,
		`{"a":"a","b":"a"}`: true, `[[1,"a"],{"a":"a"}]`: true, `{"a\"":1,"a":2}`: true, `{"a":"{\"a\":1,\"a\":2}"}`: true,
		`{"ä":1,"a":2}`: true, `{"":1,"a":2}`: true,
		`{"a":1,"a":2}`: false, `{"a":1,"A":2}`: false, `{"a":1,"\u0061":2}`: false, `{"":1,"":2}`: false,
		`{"s":1,"` + "\u017f" + `":2}`: false, `{"K":1,"\u212A":2}`: false, `{"ä":1,"Ä":2}`: false, `{"\ud800":1,"\udfff":2}`: false,
		`{"b":{"a":1},"b":2}`: false, `{"x":[1,2],"y":{"k":1,"k":2}}`: false,
		`{} {}`: false, `{}x`: false, ``: false, `{"a"`: false, `{"a":}`: false, `[1,]`: false, `{`: false, "\"\xff\"": false,
	} {
		if err := JSON([]byte(in), Limits{}); (err == nil) != ok {
			t.Errorf("%s: %v, wanted ok %v", in, err, ok)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		in string
		l  Limits
		ok bool
	}{
		{strings.Repeat("[", 32) + strings.Repeat("]", 32), Limits{}, true},
		{strings.Repeat("[", 33) + strings.Repeat("]", 33), Limits{}, false},
		{"[1,[],{\"a\":\"b\"}]", Limits{Values: 5}, true},
		{"[1,[],{\"a\":\"b\"}]", Limits{Values: 4}, false},
		{"[" + strings.Repeat("1,", 1<<16-2) + "1]", Limits{}, true},
		{"[" + strings.Repeat("1,", 1<<16-1) + "1]", Limits{}, false},
		{`{"a":1,"b":2}`, Limits{Keys: 2}, true},
		{`{"a":1,"b":2,"c":3}`, Limits{Keys: 2}, false},
		{`{"\u0061":1}`, Limits{}, true},
		{`{"\u0061":1}`, Limits{Plain: true}, false},
		{"{\"\u017f\":1}", Limits{Plain: true}, false},
		{"{\"a\":\"\u017f\"}", Limits{Plain: true}, true},
		{strings.Repeat("[", 50<<20), Limits{}, false},
	} {
		if err := JSON([]byte(c.in), c.l); (err == nil) != c.ok {
			t.Errorf("%.40s with %+v: %v, wanted ok %v", c.in, c.l, err, c.ok)
		}
	}
	// Many keys are found as few are.
	for _, n := range []int{few - 1, few, few + 1, 1000} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":0,`, i)
		}
		if err := JSON([]byte("{"+b.String()+`"last":0}`), Limits{Keys: n + 1}); err != nil {
			t.Errorf("%d keys: %v", n, err)
		}
		for _, twice := range []string{"K0", fmt.Sprintf("k%d", n-1)} {
			if JSON([]byte("{"+b.String()+`"`+twice+`":0}`), Limits{}) == nil {
				t.Errorf("%d keys, %s twice: accepted", n, twice)
			}
		}
		if JSON([]byte("{"+b.String()+`"last":0}`), Limits{Keys: n}) == nil {
			t.Errorf("%d keys of %d: accepted", n+1, n)
		}
	}
}

// slow finds a key that stands twice with encoding/json's own tokens.
func slow(d *json.Decoder) (twice bool) {
	t, err := d.Token()
	if err != nil {
		return false
	}
	var keys []string
	for d.More() {
		if t == json.Delim('{') {
			k, _ := d.Token()
			for _, x := range keys {
				twice = twice || strings.EqualFold(x, k.(string))
			}
			keys = append(keys, k.(string))
		}
		twice = slow(d) || twice
	}
	if _, ok := t.(json.Delim); ok {
		_, _ = d.Token()
	}
	return twice
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`))
	f.Add([]byte(`{"a":[1,{"\u0062":null,"B":"x"}],"c":-1e5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := JSON(b, Limits{Depth: 64, Values: 1 << 30})
		if err == nil && !json.Valid(b) {
			t.Errorf("accepted what is no JSON: %q", b)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		if err == nil && slow(d) {
			t.Errorf("accepted a key twice: %q", b)
		}
		if _, more := d.Token(); err == nil && more != io.EOF {
			t.Errorf("accepted what follows: %q", b)
		}
	})
}
