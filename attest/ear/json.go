package ear

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/strict"
)

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// object reads exactly one JSON object without members of the same name at any
// depth.
func object(b []byte) (fields, error) {
	if err := strict.JSON(b, strict.Limits{Depth: maxDepth}); err != nil {
		return nil, err
	}
	var f fields
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if f == nil {
		return nil, errors.New("found null, wanted a JSON object")
	}
	return f, nil
}

func (f fields) object(name string) (fields, error) {
	raw, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("%s is missing", name)
	}
	var out fields
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return out, nil
}

// text reads a string where there is one.
func (f fields) text(name string, to *string) error {
	raw, ok := f[name]
	if !ok {
		return nil
	}
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, to) != nil {
		return fmt.Errorf("%s is not a string", name)
	}
	return nil
}

// texts reads a string or a list of at most 64 of them; nil where there is none.
func (f fields) texts(name string) ([]string, error) {
	raw, ok := f[name]
	if !ok {
		return nil, nil
	}
	var one string
	if err := f.text(name, &one); err == nil {
		return []string{one}, nil
	}
	var many []*string
	if err := json.Unmarshal(raw, &many); err != nil || len(many) == 0 || len(many) > 64 || slices.Contains(many, nil) {
		return nil, fmt.Errorf("%s is neither a string nor a short list of strings", name)
	}
	var out []string
	for _, s := range many {
		out = append(out, *s)
	}
	return out, nil
}

// time reads seconds since 1970: a whole number (RFC 9711 section 4.3.1).
func (f fields) time(name string) (time.Time, error) {
	n, err := strconv.ParseInt(string(f[name]), 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}, fmt.Errorf("%s: found %.40q, wanted whole seconds since 1970", name, string(f[name]))
	}
	return time.Unix(n, 0).UTC(), nil
}

func (f fields) tier(name string) (Tier, error) {
	var s string
	if err := f.text(name, &s); err != nil {
		return "", err
	}
	switch t := Tier(s); t {
	case None, Affirming, Warning, Contraindicated:
		return t, nil
	}
	return "", fmt.Errorf("%s: found %.40q, wanted a trustworthiness tier", name, s)
}

// nonce reads eat_nonce: base64url, padded or not. Older tokens hold any text.
func (f fields) nonce(old bool) ([]byte, error) {
	var s string
	if err := f.text("eat_nonce", &s); err != nil {
		return nil, err
	}
	if _, has := f["eat_nonce"]; !has {
		return nil, nil
	} else if old {
		return []byte(s), nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) < MinNonce || len(b) > MaxNonce {
		return nil, fmt.Errorf("eat_nonce: found %.100q, wanted %d to %d bytes in base64url", s, MinNonce, MaxNonce)
	}
	return b, nil
}

// readVector reads the eight claims by their exact names; what is left out is 0.
func readVector(raw json.RawMessage) (*Vector, error) {
	var all map[string]*int8
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return nil, errors.New("not an object of whole numbers from -128 to 127")
	}
	v := &Vector{}
	to := map[string]*int8{
		"instance-identity": &v.InstanceIdentity, "configuration": &v.Configuration, "executables": &v.Executables, "file-system": &v.FileSystem,
		"hardware": &v.Hardware, "runtime-opaque": &v.RuntimeOpaque, "storage-opaque": &v.StorageOpaque, "sourced-data": &v.SourcedData,
	}
	for name, value := range all {
		if to[name] == nil || value == nil {
			return nil, fmt.Errorf("%.40q is no trustworthiness claim or has no value", name)
		}
		*to[name] = *value
	}
	return v, nil
}
