// Package strict says whether JSON has one meaning: encoding/json takes the last of
// two equal keys, other readers the first, and what two readers understand
// differently is no evidence (THREATS T26).
package strict

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Limits bound a document. Zero values: depth 32, 65,536 values, as many keys as
// there are values.
type Limits struct {
	Depth  int  // of nested objects and arrays
	Values int  // objects, arrays, strings, numbers and the rest, without keys
	Keys   int  // of one object
	Plain  bool // keys are ASCII without escapes
}

// few keys are compared one by one, more through a map.
const few = 16

// object is one that is open; an array has no keys.
type object struct {
	array bool
	key   bool     // the next string is a key
	keys  []string // folded
	many  map[string]struct{}
}

// JSON says whether b is exactly one JSON value, in UTF-8, in which no object has a
// key twice, within limits. Keys are compared as they are decoded, and without regard
// to case, because encoding/json matches field names so. It does not recurse.
func JSON(b []byte, l Limits) error {
	if l.Depth == 0 {
		l.Depth = 32
	}
	if l.Values == 0 {
		l.Values = 1 << 16
	}
	if l.Keys == 0 {
		l.Keys = l.Values
	}
	switch {
	case !utf8.Valid(b):
		return errors.New("the text is not in UTF-8")
	case !json.Valid(b):
		return errors.New("it is no JSON: it is malformed, ends early, or something follows it")
	}
	var open []object
	values := 0
	for i := 0; i < len(b); i++ {
		top := len(open) - 1
		switch c := b[i]; c {
		case ' ', '\t', '\r', '\n', ':':
			continue
		case '}', ']':
			open = open[:top]
			continue
		case ',':
			open[top].key = !open[top].array
			continue
		case '{', '[':
			if len(open) == l.Depth {
				return fmt.Errorf("it is nested deeper than %d", l.Depth)
			}
			open = append(open, object{array: c == '[', key: c == '{'})
		case '"':
			start := i
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if top >= 0 && open[top].key {
				open[top].key = false
				if err := open[top].add(b[start:i+1], l); err != nil {
					return err
				}
				continue
			}
		default: // a number, true, false or null
			for i+1 < len(b) && !ends(b[i+1]) {
				i++
			}
		}
		if values++; values > l.Values {
			return fmt.Errorf("it has more than %d values", l.Values)
		}
	}
	return nil
}

func ends(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ',', '}', ']':
		return true
	}
	return false
}

// add takes a key with its quotes.
func (o *object) add(quoted []byte, l Limits) error {
	k, err := fold(quoted, l.Plain)
	if err != nil {
		return err
	}
	twice := false
	if o.many != nil {
		_, twice = o.many[k]
	} else {
		for _, x := range o.keys {
			twice = twice || x == k
		}
	}
	if twice {
		return fmt.Errorf("the key %.80q stands twice in one object", k)
	}
	if len(o.keys)+len(o.many) == l.Keys {
		return fmt.Errorf("an object has more than %d keys", l.Keys)
	}
	switch {
	case o.many != nil:
		o.many[k] = struct{}{}
	case len(o.keys) < few:
		o.keys = append(o.keys, k)
	default:
		o.many = map[string]struct{}{k: {}}
		for _, x := range o.keys {
			o.many[x] = struct{}{}
		}
		o.keys = nil
	}
	return nil
}

// fold decodes a key and gives each letter the form that all its cases share, as
// encoding/json does: the Kelvin sign is a k, the long s an s.
func fold(quoted []byte, plain bool) (string, error) {
	b := quoted[1 : len(quoted)-1]
	out, ascii := make([]byte, len(b)), true
	for i, c := range b {
		if c >= utf8.RuneSelf || c == '\\' {
			ascii = false
			break
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	if ascii {
		return string(out), nil
	}
	if plain {
		return "", fmt.Errorf("the key %.80q has characters other than plain ASCII", b)
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "", err
	}
	runes := []rune(s)
	for i, r := range runes {
		least := r
		for x := unicode.SimpleFold(r); x != r; x = unicode.SimpleFold(x) {
			least = min(least, x)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		runes[i] = least
	}
	return string(runes), nil
}
