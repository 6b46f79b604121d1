package workload

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

const (
	maxNesting = 32
	maxMarks   = 6 << 10 // '=', '.', '[' and '{' outside strings: keys and tables, roughly
)

// bounded refuses what no configuration has before the TOML parser sees it: deep
// nesting, on which it recurses, and very many keys, for which it takes the square
// of their number (minutes for a mebibyte). Brackets in strings and comments do not count (TOML
// 1.0, "String" and "Comment"). Where the text is no TOML the two may disagree
// about what a string is, but only behind the place where the parser stops.
func bounded(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("it is not UTF-8 text")
	}
	depth, marks := 0, 0
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case '#':
			n := bytes.IndexByte(b[i:], '\n')
			if n < 0 {
				return nil
			}
			i += n
		case '"', '\'':
			i += stringLength(b[i:], c)
		default:
			if c == '=' || c == '.' || c == '[' || c == '{' {
				if marks++; marks > maxMarks {
					return errors.New("it has more than 6144 keys and tables")
				}
			}
			switch c {
			case '[', '{':
				if depth++; depth > maxNesting {
					return errors.New("brackets are nested more than 32 deep")
				}
			case ']', '}':
				depth = max(0, depth-1)
			}
			i++
		}
	}
	return nil
}

// stringLength is the length of the string that b begins with, quotes included;
// at least 1. A string that does not end takes its line, or all of b where it may
// have many lines.
func stringLength(b []byte, quote byte) int {
	three := []byte{quote, quote, quote}
	if !bytes.HasPrefix(b, three) {
		for i := 1; i < len(b); i++ {
			switch {
			case b[i] == quote:
				return i + 1
			case b[i] == '\n':
				return i
			case b[i] == '\\' && quote == '"':
				i++
			}
		}
		return len(b)
	}
	for i := 3; i < len(b); i++ {
		if b[i] == '\\' && quote == '"' {
			i++
			continue
		}
		if bytes.HasPrefix(b[i:], three) {
			i += 3
			// One or two quotes may stand directly before the closing three.
			for n := 0; n < 2 && i < len(b) && b[i] == quote; n++ {
				i++
			}
			return i
		}
	}
	return len(b)
}
