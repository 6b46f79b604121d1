package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strings"
)

// text undoes PEM, hexadecimal and base64, at most one of them and once, then goes
// on with what is inside.
func (o *opener) text(b []byte) (*Envelope, error) {
	t := bytes.TrimSpace(b)
	switch {
	case len(t) == 0:
		return nil, o.errorf("no bytes at all")
	case bytes.HasPrefix(t, []byte("-----BEGIN ")):
		return o.pem(t)
	case t[0] == '{' || t[0] == '[':
		if len(t) > 1 && isText(t[:min(len(t), 64)]) {
			o.enter("JSON")
			return o.json(t)
		}
	}
	if isText(t[:min(len(t), 256)]) && isText(t) {
		compact := stripSpace(t)
		if raw, err := hex.DecodeString(string(bytes.TrimPrefix(compact, []byte("0x")))); err == nil {
			o.enter("hexadecimal")
			return o.binary(raw)
		}
		if raw, ok := fromBase64(string(compact)); ok {
			o.enter("base64")
			if inner := bytes.TrimSpace(raw); len(inner) > 0 && inner[0] == '{' && isText(inner) {
				o.enter("JSON")
				return o.json(inner)
			}
			return o.binary(raw)
		}
		return nil, &FormError{Form: "text", Err: errNotEvidence, What: "evidence is binary, hexadecimal, base64, PEM, DER, JSON or CBOR"}
	}
	return o.binary(b)
}

// pem takes exactly one block; further certificates in the file are a chain and set
// aside, since a chain to a CA says nothing about the evidence.
func (o *opener) pem(t []byte) (*Envelope, error) {
	block, rest := pem.Decode(t)
	if block == nil {
		return nil, &FormError{Form: "PEM", Err: errNotEvidence, What: "the block is damaged"}
	}
	kind := block.Type
	o.enter("PEM")
	more := 0
	for len(bytes.TrimSpace(rest)) > 0 {
		var next *pem.Block
		next, rest = pem.Decode(rest)
		if next == nil || next.Type != "CERTIFICATE" || more >= 8 {
			return nil, o.errorf("something follows the first block that is no certificate of a chain")
		}
		more++
	}
	// A block that does not decode is passed over by pem, and the next one taken.
	if n := bytes.Count(t, []byte("-----BEGIN ")); n != 1+more {
		return nil, o.errorf("found %d blocks, %d of them damaged: which counts?", n, n-1-more)
	}
	switch kind {
	case "CERTIFICATE", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
	default:
		return nil, o.errorf("a block of type %q, wanted CERTIFICATE or CERTIFICATE REQUEST", kind)
	}
	e, err := o.der(block.Bytes, kind != "CERTIFICATE")
	if err == nil && more > 0 {
		e.Aside = append(e.Aside, "further certificates in the file")
	}
	return e, err
}

func isText(b []byte) bool {
	for _, c := range b {
		if c >= 0x7f || c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}

func stripSpace(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			out = append(out, c)
		}
	}
	return out
}

// fromBase64 takes the standard and the URL alphabet, padded or not.
func fromBase64(s string) ([]byte, bool) {
	s = strings.TrimRight(s, "=")
	enc := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.RawURLEncoding
	}
	b, err := enc.Strict().DecodeString(s)
	return b, err == nil && len(b) > 0
}
