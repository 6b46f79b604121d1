// Package strict says whether JSON has one meaning: encoding/json takes the last of
// two equal keys, other readers the first, and what two readers understand
// differently is no evidence (THREATS T26).
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits bound a document. Zero values: depth 32, 65,536 values.
type Limits struct {
	Depth  int
	Values int
}

// JSON says whether b is exactly one JSON value in which no object has a key twice,
// within limits. Keys are compared as they are decoded, and without regard to case,
// because encoding/json matches field names so.
func JSON(b []byte, l Limits) error {
	if l.Depth == 0 {
		l.Depth = 32
	}
	if l.Values == 0 {
		l.Values = 1 << 16
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	type frame struct {
		keys map[string]struct{} // nil: an array
		key  bool                // the next token is a key
	}
	var stack []frame
	for n := 0; ; n++ {
		if n > l.Values {
			return fmt.Errorf("JSON: more than %d values", l.Values)
		}
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("JSON: %w", noEOF(err))
		}
		top := len(stack) - 1
		if top >= 0 && stack[top].keys != nil && stack[top].key {
			if s, ok := t.(string); ok {
				folded := string(bytes.ToLower([]byte(s)))
				if _, twice := stack[top].keys[folded]; twice {
					return fmt.Errorf("JSON: the key %.80q stands twice in one object", s)
				}
				stack[top].keys[folded] = struct{}{}
				stack[top].key = false
				continue
			}
		}
		switch t {
		case json.Delim('{'):
			stack = append(stack, frame{keys: map[string]struct{}{}, key: true})
		case json.Delim('['):
			stack = append(stack, frame{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
			if top = len(stack) - 1; top >= 0 {
				stack[top].key = stack[top].keys != nil
			}
		default:
			if top >= 0 {
				stack[top].key = stack[top].keys != nil
			}
		}
		if len(stack) > l.Depth {
			return fmt.Errorf("JSON: nested deeper than %d", l.Depth)
		}
		if len(stack) == 0 {
			break
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("JSON: something follows the value")
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
