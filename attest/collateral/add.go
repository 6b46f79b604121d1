package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// ErrLimit is wrapped by every error of Add: a file, or the whole Set, holds more
// than the bounds allow.
var ErrLimit = errors.New("collateral: over a limit")

const (
	maxPEMBlocks = 512
	maxName      = 256
)

// Add takes the bytes of one file apart and adds what it holds. What it is, is told
// by its content; name is for Ignored alone. Understood are, see docs/collateral.md:
//
//   - PEM: certificates and revocation lists, any number, mixed
//   - DER: the same, one after the other, or in sequences (PkiPath, and the caches
//     of revocation lists that Enarx's tools write)
//   - JSON: Intel's signed TCB info and QE identity, the objects of the dcap
//     libraries that hold all of it in fields, a Bundle
//   - any of these in hexadecimal or base64
//
// A file that holds nothing of use, or a part of it, is recorded in Ignored: that is
// no error. A DER or JSON file that is malformed anywhere adds nothing at all. What
// is in the Set already is not added again. Errors wrap ErrLimit; nothing of the file
// is added then.
//
// Nothing is verified here.
func (s *Set) Add(name string, b []byte) error {
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	if len(b) > MaxFile {
		return fmt.Errorf("%w: %s has %d bytes, wanted at most %d", ErrLimit, name, len(b), MaxFile)
	}
	found := &Set{}
	if why := found.content(name, b, 2); why != "" {
		found.Ignored = append(found.Ignored, Ignored{name, why})
	}
	return s.take(name, found)
}

// content adds what b holds, or says why it is of no use; s is as before then.
// text bounds how often text that stands for bytes is decoded.
func (s *Set) content(name string, b []byte, text int) (why string) {
	trimmed := trim(b)
	if len(trimmed) > 0 && trimmed[0] == '{' && isText(trimmed) {
		return s.object(name, trimmed)
	}
	if raw, ok := plain(b); ok && text > 0 {
		return s.content(name, raw, text-1)
	}
	return s.x509(name, b, 0)
}

// x509 adds the certificates and lists of b: DER, PEM, percent-encoded PEM or, up to
// text times over, hexadecimal or base64 of that.
func (s *Set) x509(name string, b []byte, text int) (why string) {
	if len(b) > 0 && b[0] == 0x30 && !isText(b) {
		return s.der(b)
	}
	trimmed := trim(b)
	switch {
	case len(trimmed) == 0:
		return "it is empty"
	case !isText(trimmed):
		return "it is no certificate, revocation list, TCB info or QE identity"
	case bytes.Contains(trimmed, []byte("-----BEGIN%20")):
		unescaped, err := url.PathUnescape(string(trimmed)) // as Intel's servers put it in a header
		if err != nil {
			return "its percent encoding is malformed"
		}
		return s.pem(name, []byte(unescaped))
	case bytes.Contains(trimmed, []byte("-----BEGIN ")):
		return s.pem(name, trimmed)
	}
	if raw, ok := plain(b); ok && text > 0 {
		return s.x509(name, raw, text-1)
	}
	return "it is text, but no PEM, JSON, hexadecimal or base64 of that"
}

// trim takes white space and a byte order mark away.
func trim(b []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
}

// isText says whether b is UTF-8 without control characters but those of lines.
func isText(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return utf8.Valid(b)
}

// plain decodes hexadecimal or base64, over any number of lines.
func plain(b []byte) ([]byte, bool) {
	b = trim(b)
	if len(b) == 0 || !isText(b) || bytes.Contains(b, []byte("-----BEGIN")) { // - is a digit of base64url
		return nil, false
	}
	joined := strings.TrimPrefix(string(bytes.Join(bytes.Fields(b), nil)), "0x")
	if raw, err := hex.DecodeString(joined); err == nil {
		return raw, true
	}
	joined = strings.TrimRight(joined, "=")
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if raw, err := e.Strict().DecodeString(joined); err == nil {
			return raw, true
		}
	}
	return nil, false
}

// pem adds the certificates and lists among the blocks; others are ignored by name.
func (s *Set) pem(name string, b []byte) string {
	n := 0
	for rest := b; ; n++ {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			if bytes.Contains(rest, []byte("-----BEGIN ")) {
				s.ignore(name, fmt.Sprintf("what begins after PEM block %d is malformed", n))
			}
			break
		}
		if n >= maxPEMBlocks {
			s.ignore(name, fmt.Sprintf("it has more than %d PEM blocks; the rest was not read", maxPEMBlocks))
			break
		}
		switch p.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "X509 CRL", "CRL":
			part := &Set{}
			if why := part.der(p.Bytes); why != "" {
				s.ignore(name, fmt.Sprintf("PEM block %d (%s): %s", n+1, p.Type, why))
				continue
			}
			s.join(part)
		default:
			s.ignore(name, fmt.Sprintf("PEM block %d is %.40q, no certificate or revocation list", n+1, p.Type))
		}
	}
	if n == 0 && len(s.Ignored) == 0 {
		return "it holds no whole PEM block"
	}
	return ""
}

func (s *Set) ignore(name, why string) { s.Ignored = append(s.Ignored, Ignored{name, why}) }

// take adds all of found or, over a limit, nothing.
func (s *Set) take(name string, found *Set) error {
	old := *s
	s.join(found)
	for _, l := range []struct {
		what      string
		have, may int
	}{
		{"certificates", len(s.Certificates), MaxCertificates},
		{"revocation lists", len(s.Lists), MaxLists},
		{"TCB infos", len(s.TCBInfos), MaxDocuments},
		{"QE identities", len(s.QEIdentities), MaxDocuments},
		{"files of no use", len(s.Ignored), MaxIgnored},
	} {
		if l.have > l.may {
			*s = old
			return fmt.Errorf("%w: with %s there are %d %s, wanted at most %d", ErrLimit, name, l.have, l.what, l.may)
		}
	}
	return nil
}

// join adds what is not there yet.
func (s *Set) join(o *Set) {
	for _, c := range o.Certificates {
		if !containsRaw(s.Certificates, func(x *x509.Certificate) []byte { return x.Raw }, c.Raw) {
			s.Certificates = append(s.Certificates, c)
		}
	}
	for _, l := range o.Lists {
		if !containsRaw(s.Lists, func(x *x509.RevocationList) []byte { return x.Raw }, l.Raw) {
			s.Lists = append(s.Lists, l)
		}
	}
	s.TCBInfos = joinDocuments(s.TCBInfos, o.TCBInfos)
	s.QEIdentities = joinDocuments(s.QEIdentities, o.QEIdentities)
	s.Ignored = append(s.Ignored, o.Ignored...)
}

func containsRaw[T any](list []T, raw func(T) []byte, want []byte) bool {
	for _, x := range list {
		if bytes.Equal(raw(x), want) {
			return true
		}
	}
	return false
}

func joinDocuments(list, more []Document) []Document {
	for _, d := range more {
		known := false
		for _, x := range list {
			known = known || bytes.Equal(x.Body, d.Body) && bytes.Equal(x.Signature, d.Signature)
		}
		if !known {
			list = append(list, d)
		}
	}
	return list
}
