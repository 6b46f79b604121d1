package dcap

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Bounds on a signed document.
const (
	maxDocument = 256 << 10 // the longest seen is 7 KiB
	maxDepth    = 12
	maxKeys     = 32     // of one object
	maxValues   = 20_000 // of the whole document
	maxLevels   = 512
	maxAdvisory = 256 // of one level
)

// strict decodes a document into v after it has looked for what encoding/json lets
// pass: keys that stand twice (in any case of letters, as it matches them so), deep
// nesting, data without end.
func strict(body []byte, v any) error {
	if len(body) > maxDocument {
		return fmt.Errorf("found %d bytes, at most %d are taken", len(body), maxDocument)
	}
	if !json.Valid(body) {
		return errors.New("it is no JSON")
	}
	if err := unambiguous(body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// unambiguous walks valid JSON once, without recursion.
func unambiguous(b []byte) error {
	type level struct {
		object bool
		key    bool // the next string is a key
		keys   []string
	}
	var stack []level
	values := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if len(stack) == maxDepth {
				return fmt.Errorf("it is nested deeper than %d", maxDepth)
			}
			stack = append(stack, level{object: b[i] == '{', key: b[i] == '{'})
			values++
		case '}', ']':
			stack = stack[:len(stack)-1]
		case ',':
			if top := &stack[len(stack)-1]; top.object {
				top.key = true
			}
			values++
		case '"':
			start := i + 1
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if len(stack) == 0 || !stack[len(stack)-1].key {
				continue
			}
			top := &stack[len(stack)-1]
			top.key = false
			k, err := plainKey(b[start:i])
			if err != nil {
				return err
			}
			for _, x := range top.keys {
				if x == k {
					return fmt.Errorf("the key %q stands twice", k)
				}
			}
			if top.keys = append(top.keys, k); len(top.keys) > maxKeys {
				return fmt.Errorf("an object has more than %d keys", maxKeys)
			}
		}
		if values > maxValues {
			return fmt.Errorf("it has more than %d values", maxValues)
		}
	}
	return nil
}

// plainKey gives a key in lower case. Letters outside ASCII and escapes are
// refused: Intel uses none, and they could make two keys look like one.
func plainKey(b []byte) (string, error) {
	out := make([]byte, len(b))
	for i, c := range b {
		if c >= 0x80 || c == '\\' {
			return "", fmt.Errorf("the key %q has characters other than ASCII", b)
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return string(out), nil
}

// hexN is bytes in hexadecimal, in either case.
type hexN []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexN) UnmarshalText(b []byte) error {
	if len(b) > 256 {
		return fmt.Errorf("found %d hexadecimal digits, at most 256 are taken", len(b))
	}
	v, err := hex.DecodeString(string(b))
	*h = v
	return err
}

func (h hexN) want(n int, name string) error {
	if len(h) != n {
		return fmt.Errorf("%s: found %d bytes, wanted %d", name, len(h), n)
	}
	return nil
}

// window is when a document is current.
type window struct {
	IssueDate  time.Time `json:"issueDate"`
	NextUpdate time.Time `json:"nextUpdate"`
}

func (w window) check() error {
	if w.IssueDate.IsZero() || w.NextUpdate.IsZero() || w.NextUpdate.Before(w.IssueDate) {
		return errors.New("issueDate or nextUpdate is missing, or they are the wrong way round")
	}
	return nil
}

// stale says why the document is not current at the time; "" where it is. bound,
// if above 0, shortens nextUpdate.
func (w window) stale(at time.Time, bound time.Duration) string {
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case at.Before(w.IssueDate):
		return "it begins on " + day(w.IssueDate) + " only"
	case at.After(w.NextUpdate):
		return "it ended on " + day(w.NextUpdate)
	case bound > 0 && at.After(w.IssueDate.Add(bound)):
		return "it is from " + day(w.IssueDate) + ", older than the policy allows (" + bound.String() + ")"
	}
	return ""
}
