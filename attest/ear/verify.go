package ear

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
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
