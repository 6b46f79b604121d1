package strict

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	for in, ok := range map[string]bool{
		`{}`: true, `[]`: true, `1`: true, `"a"`: true, `null`: true,
		`{"a":1,"b":{"a":1}}`: true, `{"a":[{"a":1},{"a":2}],"b":"a"}`: true,
		`{"a":"a","b":"a"}`: true, `[[1,"a"],{"a":"a"}]`: true,
		`{"a":1,"a":2}`: false, `{"a":1,"A":2}`: false, `{"a":1,"\u0061":2}`: false,
		`{"b":{"a":1},"b":2}`: false, `{"x":[1,2],"y":{"k":1,"k":2}}`: false,
		`{} {}`: false, `{}x`: false, ``: false, `{"a"`: false, `{"a":}`: false, `[1,]`: false, `{`: false,
	} {
		if err := JSON([]byte(in), Limits{}); (err == nil) != ok {
			t.Errorf("%s: %v, wanted ok %v", in, err, ok)
		}
	}
	if JSON([]byte(strings.Repeat("[", 40)+strings.Repeat("]", 40)), Limits{}) == nil {
		t.Error("nested 40 deep: accepted")
	}
	if JSON([]byte("["+strings.Repeat("1,", 99)+"1]"), Limits{Values: 50}) == nil {
		t.Error("100 values of 50: accepted")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if JSON(b, Limits{}) == nil && !json.Valid(b) {
			t.Errorf("accepted what is no JSON: %q", b)
		}
	})
}
