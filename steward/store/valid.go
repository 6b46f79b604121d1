package store

import (
	"strings"
	"time"
	"unicode/utf8"
)

// text refuses what one of the databases would not keep as it is.
func text(what, s string, min int) error { return textTo(what, s, min, MaxText) }

func textTo(what, s string, min, max int) error {
	switch {
	case len(s) < min:
		return refuse(ErrInvalid, "%s is empty", what)
	case len(s) > max:
		return refuse(ErrInvalid, "%s has %d bytes, at most %d", what, len(s), max)
	case !utf8.ValidString(s):
		return refuse(ErrInvalid, "%s is not UTF-8", what)
	case strings.IndexByte(s, 0) >= 0:
		return refuse(ErrInvalid, "%s holds a NUL", what)
	}
	return nil
}

func size(what string, n, min, max int) error {
	if n < min || n > max {
		return refuse(ErrInvalid, "%s has %d bytes, wanted %d to %d", what, n, min, max)
	}
	return nil
}

// moment refuses times that a database would not give back as they are.
func moment(what string, t time.Time, zero bool) error {
	if t.IsZero() && zero {
		return nil
	}
	if y := t.UTC().Year(); y < 1971 || y > 9998 {
		return refuse(ErrInvalid, "%s is %s", what, t.UTC().Format(time.RFC3339))
	}
	return nil
}

// lastVersion is where counting ends, before the databases' numbers do.
const lastVersion = 1 << 62

func version(what string, v uint64) error {
	if v == 0 || v > lastVersion {
		return refuse(ErrInvalid, "%s has the version %d", what, v)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return plain(err)
		}
	}
	return nil
}

// plain takes the mark of a refusal off.
func plain(err error) error {
	if r, ok := err.(refusal); ok {
		return r.error
	}
	return err
}

func (a Actor) valid() error {
	return first(text("who changes it", a.Who, 1), moment("the time of the change", a.At, false))
}

// limit bounds a page.
func limit(n int) int {
	if n <= 0 {
		return 100
	}
	return min(n, MaxPage)
}
