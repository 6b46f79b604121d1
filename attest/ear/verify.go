package ear

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is read.
const (
	MaxToken   = 1 << 20 // bytes of a token
	maxHeader  = 4 << 10 // bytes of its header
	maxDepth   = 32      // of nested objects and lists
	maxSubmods = 16
	clockSkew  = time.Minute // a token may be issued so much after the reader's now
	// legacyLife is how long a token of an older profile counts that has no exp.
	legacyLife = 5 * time.Minute
)

// Profiles of other verifiers' older tokens, which Verify reads and Encode never
// writes: claim names with dots and hyphens.
const (
	profileVeraison = "tag:github.com,2023:veraison/ear"
	profileTrustee  = "tag:github.com,2024:confidential-containers/Trustee"
)

// Result is a token whose signature and times hold. That it admits is for the
// reader to say: Status and the submodules tell.
type Result struct {
	Profile   string
	Issuer    string
	Audience  []string
	ID        string
	IssuedAt  time.Time
	Expires   time.Time
	Verifier  Verifier
	Nonce     []byte // the relying party's; nil where there is none
	Key       []byte // SHA-256 of the SubjectPublicKeyInfo that may present it; nil: a bearer token
	Status    Tier   // of the whole; the worst submodule's where the token says none
	Submods   map[string]Appraisal
	OldNaming bool // one of the older profiles
}

// Appraisal is what a token says of one attester.
type Appraisal struct {
	Status   Tier
	Vector   *Vector // nil: left out
	Policies []string
	Nonce    []byte
	Verdict  *Summary // Donjon's own words; nil in other verifiers' tokens
}

// Verify reads a token, checks its signature under key, and that at lies between iat
// and exp and aud is among its audiences. The algorithm follows from the key, never
// from the token. With aud "" a token must name no audience.
func Verify(token string, key *ecdsa.PublicKey, at time.Time, aud string) (*Result, error) {
	a, err := algorithmOf(key)
	if err != nil {
		return nil, err
	}
	if len(token) > MaxToken {
		return nil, fmt.Errorf("ear: found a token of %d bytes, at most %d", len(token), MaxToken)
	}
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return nil, fmt.Errorf("ear: found %d parts, wanted 3 (a JWS in compact form, RFC 7515 section 7.1)", len(parts))
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil || strings.ContainsAny(p, "\r\n") {
			return nil, fmt.Errorf("ear: part %d is not base64url without padding", i+1)
		}
	}
	header, err := readHeader(raw[0])
	if err != nil {
		return nil, err
	}
	if header.Algorithm != a.name {
		return nil, fmt.Errorf("ear: found algorithm %.20q, wanted %s, the key's", header.Algorithm, a.name)
	}
	if len(raw[2]) != 2*a.size {
		return nil, fmt.Errorf("ear: found a signature of %d bytes, wanted %d", len(raw[2]), 2*a.size)
	}
	r, s := new(big.Int).SetBytes(raw[2][:a.size]), new(big.Int).SetBytes(raw[2][a.size:])
	if !ecdsa.Verify(key, a.digest(parts[0]+"."+parts[1]), r, s) {
		return nil, errors.New("ear: the signature does not hold under this key")
	}
	out, err := readClaims(raw[1])
	if err != nil {
		return nil, err
	}
	return out, out.check(header.Type, at, aud)
}

type header struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ"`
}

func readHeader(b []byte) (header, error) {
	var h header
	if len(b) > maxHeader {
		return h, fmt.Errorf("ear: found a header of %d bytes, at most %d", len(b), maxHeader)
	}
	all, err := object(b)
	if err != nil {
		return h, fmt.Errorf("ear: header: %w", err)
	}
	for _, name := range []string{"crit", "b64", "zip"} {
		if _, ok := all[name]; ok {
			return h, fmt.Errorf("ear: header: %s is not supported", name)
		}
	}
	if err := all.text("alg", &h.Algorithm); err != nil {
		return h, fmt.Errorf("ear: header: %w", err)
	}
	if err := all.text("typ", &h.Type); err != nil {
		return h, fmt.Errorf("ear: header: %w", err)
	}
	return h, nil
}

// check is about typ, times and audience. It returns nil where the token counts.
func (r *Result) check(typ string, at time.Time, aud string) error {
	want := []string{Type}
	if r.OldNaming {
		want = []string{"", "JWT", Type}
	}
	switch {
	case !slices.Contains(want, typ):
		return fmt.Errorf("ear: found typ %.40q, wanted %q", typ, Type)
	case at.IsZero():
		return errors.New("ear: no time to judge at")
	case r.IssuedAt.After(at.Add(clockSkew)):
		return fmt.Errorf("ear: issued at %v, after %v", r.IssuedAt, at.UTC())
	case !at.Before(r.Expires):
		return fmt.Errorf("ear: expired at %v", r.Expires)
	case !r.Expires.After(r.IssuedAt):
		return fmt.Errorf("ear: ends at %v, before it begins", r.Expires)
	case aud == "" && len(r.Audience) > 0:
		return fmt.Errorf("ear: made for %.200q, and no audience was named", r.Audience)
	case aud != "" && !slices.Contains(r.Audience, aud):
		return fmt.Errorf("ear: made for %.200q, wanted %q", r.Audience, aud)
	}
	return nil
}

func readClaims(b []byte) (*Result, error) {
	all, err := object(b)
	if err != nil {
		return nil, fmt.Errorf("ear: claims: %w", err)
	}
	r := &Result{}
	if err := all.text("eat_profile", &r.Profile); err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	name := func(s string) string { return s }
	switch r.Profile {
	case Profile:
	case profileVeraison, profileTrustee:
		r.OldNaming = true
		name = oldName
	default:
		return nil, fmt.Errorf("ear: found profile %.100q, wanted %q", r.Profile, Profile)
	}
	if err := r.readTop(all, name); err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	subs, err := all.object("submods")
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	if len(subs) == 0 || len(subs) > maxSubmods {
		return nil, fmt.Errorf("ear: found %d submodules, wanted 1 to %d", len(subs), maxSubmods)
	}
	r.Submods = map[string]Appraisal{}
	lowest := Affirming
	for label := range subs {
		s, err := subs.object(label)
		if err != nil {
			return nil, fmt.Errorf("ear: submods: %w", err)
		}
		a, err := readAppraisal(s, name)
		if err != nil {
			return nil, fmt.Errorf("ear: submodule %.60q: %w", label, err)
		}
		r.Submods[label] = a
		lowest = lower(lowest, a.Status)
	}
	if r.Status == "" {
		r.Status = lowest
	}
	if lower(r.Status, lowest) != r.Status {
		return nil, fmt.Errorf("ear: ear_status is %s and a submodule's %s", r.Status, lowest)
	}
	return r, nil
}

// oldName is a claim's name in the older profiles: ear.verifier-id.
func oldName(s string) string {
	return strings.ReplaceAll(strings.Replace(s, "ear_", "ear.", 1), "_", "-")
}

func (r *Result) readTop(all fields, name func(string) string) error {
	var err error
	if r.IssuedAt, err = all.time("iat"); err != nil {
		return err
	}
	switch _, has := all["exp"]; {
	case has:
		if r.Expires, err = all.time("exp"); err != nil {
			return err
		}
	case r.OldNaming:
		r.Expires = r.IssuedAt.Add(legacyLife)
	default:
		return errors.New("exp is missing")
	}
	for claim, to := range map[string]*string{"iss": &r.Issuer, "jti": &r.ID} {
		if err := all.text(claim, to); err != nil {
			return err
		}
	}
	if !r.OldNaming && r.ID == "" {
		return errors.New("jti is missing")
	}
	if r.Audience, err = all.texts("aud"); err != nil {
		return err
	}
	if r.Nonce, err = all.nonce(r.OldNaming); err != nil {
		return err
	}
	if v, err := all.object(name("ear_verifier_id")); err != nil {
		return err
	} else if err := errors.Join(v.text("developer", &r.Verifier.Developer), v.text("build", &r.Verifier.Build)); err != nil {
		return err
	}
	if r.Verifier.Developer == "" || r.Verifier.Build == "" {
		return errors.New("the verifier's developer or build is missing")
	}
	if _, has := all[name("ear_status")]; has {
		if r.Status, err = all.tier(name("ear_status")); err != nil {
			return err
		}
	}
	if _, has := all["cnf"]; has {
		return r.readKey(all)
	}
	return nil
}

// readKey reads cnf. Of another verifier's cnf nothing is known here, and a token
// that is bound to what is not understood must not pass for a bearer's.
func (r *Result) readKey(all fields) error {
	cnf, err := all.object("cnf")
	if err != nil {
		return err
	}
	var spki string
	if err := cnf.text("spki#S256", &spki); err != nil {
		return fmt.Errorf("cnf: %w", err)
	}
	r.Key, err = base64.RawURLEncoding.Strict().DecodeString(spki)
	if err != nil || len(r.Key) != 32 || len(cnf) != 1 {
		return errors.New("cnf: wanted the SHA-256 of a SubjectPublicKeyInfo under spki#S256, and nothing else")
	}
	return nil
}

func readAppraisal(s fields, name func(string) string) (Appraisal, error) {
	var a Appraisal
	var err error
	if a.Status, err = s.tier(name("ear_status")); err != nil {
		return a, err
	}
	old := name("ear_status") != "ear_status"
	if a.Nonce, err = s.nonce(old); err != nil {
		return a, err
	}
	policies := name("ear_appraisal_policy_ids")
	if old {
		policies = "ear.appraisal-policy-id"
	}
	if a.Policies, err = s.texts(policies); err != nil {
		return a, err
	}
	if raw, has := s[name("ear_trustworthiness_vector")]; has {
		if a.Vector, err = readVector(raw); err != nil {
			return a, fmt.Errorf("trustworthiness vector: %w", err)
		}
		if w := worst(Affirming, *a.Vector); lower(a.Status, w) != a.Status {
			return a, fmt.Errorf("ear_status is %s and the vector's worst claim %s", a.Status, w)
		}
	}
	if _, has := s["ear_verifier_claims"]; has && !old {
		v, err := s.object("ear_verifier_claims")
		if err != nil {
			return a, err
		}
		if raw, has := v["donjon_verdict"]; has {
			a.Verdict = &Summary{}
			if err := json.Unmarshal(raw, a.Verdict); err != nil {
				return a, fmt.Errorf("donjon_verdict: %w", err)
			}
		}
	}
	return a, nil
}

// lower is the tier of less trust; none says less than a warning does, and stands
// above contraindicated.
func lower(a, b Tier) Tier {
	order := []Tier{Contraindicated, None, Warning, Affirming}
	return order[min(slices.Index(order, a), slices.Index(order, b))]
}

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// object reads exactly one JSON object without members of the same name at any
// depth.
func object(b []byte) (fields, error) {
	if err := walk(b); err != nil {
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

// walk refuses what encoding/json is lenient about: two members of one name, which
// it lets the last win, deep nesting, and text behind the value.
func walk(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil: a list
		name  bool            // a member's name comes next
	}
	var open []level
	for first := true; ; first = false {
		t, err := d.Token()
		if err == io.EOF && len(open) == 0 && !first {
			return nil
		}
		if err != nil {
			return errors.New("not JSON")
		}
		if !first && len(open) == 0 {
			return errors.New("text behind the JSON value")
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			if text, ok := t.(string); ok && open[n-1].name {
				if open[n-1].names[text] {
					return fmt.Errorf("two members called %.60q", text)
				}
				open[n-1].names[text], open[n-1].name = true, false
				continue
			}
			open[n-1].name = true // the value of the last name
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{map[string]bool{}, true})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			if n := len(open); n > 0 {
				open[n-1].name = true
			}
		}
		if len(open) > maxDepth {
			return fmt.Errorf("nested more than %d deep", maxDepth)
		}
	}
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
