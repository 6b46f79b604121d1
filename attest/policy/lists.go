package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Version is a version such as 1.55.22, compared number by number. nil: none.
type Version []uint8

// UnmarshalText implements encoding.TextUnmarshaler: one to three numbers from 0 to
// 255, separated by dots.
func (v *Version) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), ".")
	if len(parts) > 3 {
		return fmt.Errorf("found version %.40q, wanted one such as 1.55 or 1.55.22", b)
	}
	out := make(Version, 0, 3)
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil || len(p) > 1 && p[0] == '0' || p[0] == '+' {
			return fmt.Errorf("found version %.40q, wanted one such as 1.55 or 1.55.22", b)
		}
		out = append(out, uint8(n))
	}
	*v = out
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

func (v Version) String() string {
	s := make([]string, len(v))
	for i, n := range v {
		s[i] = strconv.Itoa(int(n))
	}
	return strings.Join(s, ".")
}

// less compares; numbers that are not there count as 0.
func (v Version) less(w Version) bool {
	for i := range max(len(v), len(w)) {
		var a, b uint8
		if i < len(v) {
			a = v[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return a < b
		}
	}
	return false
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// or is the list, or its default where the file has none.
func or(list, standard []string) []string {
	if list == nil {
		return standard
	}
	return list
}

func names(bits []bit) []string {
	var out []string
	for _, b := range bits {
		out = append(out, b.name)
	}
	return out
}

func among(key string, list, known []string) error {
	for _, x := range list {
		if !has(known, x) {
			return fmt.Errorf("%s: found %.40q, wanted one of %s", key, x, strings.Join(known, ", "))
		}
	}
	return nil
}

func sized(key string, list []Digest, sizes ...int) error {
	for _, d := range list {
		ok := false
		for _, n := range sizes {
			ok = ok || len(d) == n
		}
		if !ok {
			return fmt.Errorf("%s: found %d bytes, wanted %s", key, len(d), ints(sizes))
		}
		if claims.Zero(d) && (key == "launch_digests" || key == "id_keys" || key == "author_keys" || key == "chip_ids") {
			return errors.New(key + ": found zero, which names nothing")
		}
	}
	return nil
}

func within(key string, list []int, most int) error {
	for _, n := range list {
		if n < 0 || n > most {
			return fmt.Errorf("%s: found %d, wanted 0 to %d", key, n, most)
		}
	}
	return nil
}

func ints(list []int) string {
	s := make([]string, len(list))
	for i, n := range list {
		s[i] = strconv.Itoa(n)
	}
	return wantOne(s)
}

// wantOne and wantAll print what a list admits.
func wantOne(list []string) string {
	if len(list) == 0 {
		return "nothing: the list is empty"
	}
	return strings.Join(list, " or ")
}

func wantAll(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

func yes(b bool, then, otherwise string) string {
	if b {
		return then
	}
	return otherwise
}
