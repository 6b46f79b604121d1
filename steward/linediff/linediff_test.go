package linediff

import (
	"slices"
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a\nb\n", "a\nb\n", "  a|  b"},
		{"", "a\n", "+ a"},
		{"a\n", "", "- a"},
		{"a\nb\nc\n", "a\nx\nc\nd\n", "  a|- b|+ x|  c|+ d"},
		{"a\n\n", "a\n", "  a|- "},
	} {
		if got := strings.Join(Texts(c.a, c.b), "|"); got != c.want {
			t.Errorf("%q to %q: found %q, wanted %q", c.a, c.b, got, c.want)
		}
	}
	// Too many lines to compare are all shown.
	long := strings.Repeat("x\n", 2000)
	if got := Texts(long, long); len(got) != 4000 || got[0] != "- x" || !slices.Contains(got, "+ x") {
		t.Errorf("found %d lines", len(got))
	}
}
