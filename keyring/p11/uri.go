package p11

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// ErrURI says that a PKCS#11 URI cannot be used.
var ErrURI = errors.New("p11: the PKCS#11 URI cannot be used")

// maxURI bounds one, in bytes.
const maxURI = 2048

// URI names a key in a token: RFC 7512, of its attributes token, serial, object, id and
// type (secret-key alone), and module-path. All others are refused: a URI that is not
// heeded in every part would name another key than its reader thinks. PINs do not
// belong into one.
type URI struct {
	Token  string // label, at most 32 bytes
	Serial string // of the token, at most 16 bytes; "": any
	Object string // label of the key; "": any
	ID     []byte // CKA_ID of the key; nil: any
	Module string // module-path, absolute; "": none
}

// String names the key to a person.
func (u URI) String() string {
	name := fmt.Sprintf("%q", u.Object)
	if u.ID != nil {
		name = strings.TrimPrefix(name+" ", `"" `) + fmt.Sprintf("with the id %x", u.ID)
	}
	return fmt.Sprintf("%s in %q", name, u.Token)
}

// ParseURI reads one. It needs token, and object or id. Error: ErrURI.
func ParseURI(s string) (URI, error) {
	refuse := func(format string, args ...any) (URI, error) {
		return URI{}, fmt.Errorf("%w: %s", ErrURI, fmt.Sprintf(format, args...))
	}
	if mentionsPIN(s) { // before anything of it is quoted
		return refuse("a PIN does not belong into it: name a PIN file")
	}
	rest, ok := strings.CutPrefix(s, "pkcs11:")
	if !ok || len(s) > maxURI {
		return refuse("found %.40q, wanted pkcs11:token=…;object=…?module-path=…, of at most %d bytes", s, maxURI)
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	var u URI
	parts := strings.Split(path, ";")
	inPath := len(parts)
	if hasQuery {
		parts = append(parts, strings.Split(query, "&")...)
	}
	seen := map[string]bool{}
	for i, p := range parts {
		name, raw, ok := strings.Cut(p, "=")
		if !ok {
			return refuse("found %.40q, wanted NAME=VALUE", p)
		}
		if seen[name] {
			return refuse("%.20q stands in it twice", name)
		}
		seen[name] = true
		v, err := unescape(raw)
		if err != nil || v == "" {
			return refuse("%.20s: found %.40q, wanted text in which what is reserved is written %%XX", name, raw)
		}
		if name != "id" && (!utf8.ValidString(v) || strings.ContainsRune(v, 0)) {
			return refuse("%.20s: found %.40q, wanted UTF-8", name, v)
		}
		query := i >= inPath
		switch {
		case name == "token" && !query && len(v) <= 32:
			u.Token = v
		case name == "serial" && !query && len(v) <= 16:
			u.Serial = v
		case name == "object" && !query && len(v) <= 255:
			u.Object = v
		case name == "id" && !query && len(v) <= 255:
			u.ID = []byte(v)
		case name == "type" && !query && v == "secret-key":
		case name == "module-path" && query && filepath.IsAbs(v):
			u.Module = filepath.Clean(v)
		default:
			return refuse("%.20q: found %.60q, wanted token (32 bytes at most), serial (16), object, id, type=secret-key, and after ? module-path (absolute)", name, v)
		}
	}
	if u.Token == "" || u.Object == "" && u.ID == nil {
		return refuse("found %.60q, wanted token, and object or id", s)
	}
	return u, nil
}

// mentionsPIN says whether an attribute's name begins with pin, however it is written:
// pin-value and pin-source, and what somebody takes for them.
func mentionsPIN(s string) bool {
	if scheme, rest, ok := strings.Cut(s, ":"); ok && !strings.Contains(scheme, "=") {
		s = rest
	}
	for _, p := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(";?&", r) }) {
		name, _, _ := strings.Cut(p, "=")
		if plain, err := unescape(name); err == nil {
			name = plain
		}
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(name)), "pin") {
			return true
		}
	}
	return false
}

// unescape takes %XX apart. What RFC 7512 wants escaped is an error as it is.
func unescape(s string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) {
				return "", ErrURI
			}
			hi, lo := strings.IndexByte("0123456789abcdef", s[i+1]|0x20), strings.IndexByte("0123456789abcdef", s[i+2]|0x20)
			if hi < 0 || lo < 0 {
				return "", ErrURI
			}
			out.WriteByte(byte(hi<<4 | lo))
			i += 2
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~:[]@!$'()*+,=/", c) >= 0:
			out.WriteByte(c)
		default:
			return "", ErrURI
		}
	}
	return out.String(), nil
}
