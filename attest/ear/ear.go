// Package ear writes a verdict as an EAT attestation result (EAR,
// draft-ietf-rats-ear-04): a JWT, signed with ES256 or ES384, that a relying party
// can check without appraising evidence itself. Verify reads such tokens.
//
// A token is no bearer's: it names the key whose owner may present it (cnf) and who
// it is for (aud), and whoever accepts it must see proof of possession of that key.
// How checks become an AR4SI trustworthiness vector stands in vector.go and in
// docs/ear.md.
package ear

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Profile is the eat_profile that Encode writes.
const Profile = "tag:ietf.org,2026:rats/ear#04"

// Type is the JOSE header typ of such a token (RFC 9782: application/eat+jwt).
const Type = "eat+jwt"

// MaxLifetime bounds how long a token may be valid.
const MaxLifetime = 24 * time.Hour

// Nonces are this long, in bytes (draft-ietf-rats-ear-04 section 3, eat_nonce).
const (
	MinNonce = 8
	MaxNonce = 64
)

// Verifier says who appraised (AR4SI section 3.3).
type Verifier struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

// Options is what a token says beside the verdict.
type Options struct {
	IssuedAt time.Time     // iat
	Lifetime time.Duration // exp is this long after IssuedAt, at most MaxLifetime …
	NotAfter time.Time     // … and never later than this: the end of the certificate, say
	Audience string        // aud: who may accept it
	Issuer   string        // iss; "" leaves it out
	Verifier Verifier      // both parts are mandatory
	// Key is the SHA-256 of the SubjectPublicKeyInfo that may present the token; nil:
	// the one that the evidence binds. Bearer says that no key is wanted: whoever has
	// the token may use it.
	Key    []byte
	Bearer bool
	// Nonce is the relying party's, echoed for freshness of the result: 8 to 64
	// bytes; nil leaves it out. The evidence's own nonce stands in the submodule.
	Nonce []byte
	// AuditHead is the issuer's signed audit head (a Steward's); "" leaves it out.
	AuditHead string
	// Rand gives the token's id, and is handed to the signer.
	Rand io.Reader
}

// claimSet is the JWT's payload.
type claimSet struct {
	Profile  string               `json:"eat_profile"`
	Issuer   string               `json:"iss,omitempty"`
	Audience string               `json:"aud"`
	IssuedAt int64                `json:"iat"`
	Expires  int64                `json:"exp"`
	ID       string               `json:"jti"`
	Confirm  *confirm             `json:"cnf,omitempty"`
	Nonce    string               `json:"eat_nonce,omitempty"`
	Verifier Verifier             `json:"ear_verifier_id"`
	Status   Tier                 `json:"ear_status"`
	Submods  map[string]appraisal `json:"submods"`
	Head     string               `json:"donjon_audit_head,omitempty"` // private claim
}

// confirm is RFC 7800's cnf. No registered member holds the hash of a
// SubjectPublicKeyInfo; this one is named as RFC 8705 names the hash of a
// certificate.
type confirm struct {
	SPKI string `json:"spki#S256"`
}

type appraisal struct {
	Status   Tier           `json:"ear_status"`
	Vector   Vector         `json:"ear_trustworthiness_vector"`
	Policies []string       `json:"ear_appraisal_policy_ids,omitempty"`
	Nonce    string         `json:"eat_nonce,omitempty"`
	Verifier verifierClaims `json:"ear_verifier_claims"`
}

// verifierClaims is the draft's place for what the verifier adds; the verdict's own
// words are a private claim in it.
type verifierClaims struct {
	Verdict Summary `json:"donjon_verdict"`
}

// Summary is the part of a verdict that a token carries.
type Summary struct {
	Outcome    verdict.Outcome    `json:"outcome"`
	Form       string             `json:"form,omitempty"`
	Evidence   string             `json:"evidence_sha256,omitempty"`
	Simulated  bool               `json:"simulated"`
	TCBStatus  string             `json:"tcb_status,omitempty"`
	Checks     []verdict.Check    `json:"checks"`
	Advisories []verdict.Advisory `json:"advisories,omitempty"`
}

// Encode signs v as an EAR. A verdict that does not admit is written too: it says
// contraindicated or none. The signer's key must be ECDSA on P-256 (ES256) or P-384
// (ES384).
func Encode(v *verdict.Verdict, signer crypto.Signer, o Options) (string, error) {
	if v == nil || signer == nil || o.Rand == nil {
		return "", errors.New("ear: no verdict, no signer or no source of randomness")
	}
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return "", fmt.Errorf("ear: found a signing key of type %T, wanted ECDSA", signer.Public())
	}
	a, err := algorithmOf(key)
	if err != nil {
		return "", err
	}
	set, err := claimsOf(v, o)
	if err != nil {
		return "", err
	}
	kid, err := Thumbprint(key)
	if err != nil {
		return "", err
	}
	header, err := json.Marshal(map[string]string{"alg": a.name, "typ": Type, "kid": base64.RawURLEncoding.EncodeToString(kid)})
	if err != nil {
		return "", fmt.Errorf("ear: %w", err)
	}
	payload, err := json.Marshal(set)
	if err != nil {
		return "", fmt.Errorf("ear: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sig, err := a.sign(signer, o.Rand, signed)
	if err != nil {
		return "", err
	}
	token := signed + "." + base64.RawURLEncoding.EncodeToString(sig)
	if len(token) > MaxToken {
		return "", fmt.Errorf("ear: the token is %d bytes long, at most %d", len(token), MaxToken)
	}
	return token, nil
}

func claimsOf(v *verdict.Verdict, o Options) (*claimSet, error) {
	switch {
	case o.IssuedAt.IsZero() || o.NotAfter.IsZero():
		return nil, errors.New("ear: IssuedAt and NotAfter are mandatory")
	case o.Lifetime <= 0 || o.Lifetime > MaxLifetime:
		return nil, fmt.Errorf("ear: found a lifetime of %v, wanted up to %v", o.Lifetime, MaxLifetime)
	case o.Audience == "":
		return nil, errors.New("ear: no audience: a token for everybody is a token to steal")
	case o.Verifier.Developer == "" || o.Verifier.Build == "":
		return nil, errors.New("ear: the verifier's developer and build are mandatory")
	case o.Nonce != nil && (len(o.Nonce) < MinNonce || len(o.Nonce) > MaxNonce):
		return nil, fmt.Errorf("ear: found a nonce of %d bytes, wanted %d to %d", len(o.Nonce), MinNonce, MaxNonce)
	}
	exp := o.IssuedAt.Add(o.Lifetime)
	if o.NotAfter.Before(exp) {
		exp = o.NotAfter
	}
	if exp.Unix() <= o.IssuedAt.Unix() {
		return nil, fmt.Errorf("ear: the token would end at %v, before it begins", exp.UTC())
	}
	key := o.Key
	if key == nil && v.Claims != nil {
		key = v.Claims.Key
	}
	set := &claimSet{
		Profile: Profile, Issuer: o.Issuer, Audience: o.Audience, IssuedAt: o.IssuedAt.Unix(), Expires: exp.Unix(),
		Verifier: o.Verifier, Nonce: nonceText(o.Nonce), Head: o.AuditHead,
	}
	switch {
	case o.Bearer && o.Key != nil:
		return nil, errors.New("ear: a bearer token with a key")
	case o.Bearer:
	case len(key) != sha256.Size:
		return nil, fmt.Errorf("ear: found a key hash of %d bytes, wanted %d: the evidence binds no key and none was given", len(key), sha256.Size)
	default:
		set.Confirm = &confirm{SPKI: base64.RawURLEncoding.EncodeToString(key)}
	}
	var id [16]byte
	if _, err := io.ReadFull(o.Rand, id[:]); err != nil {
		return nil, fmt.Errorf("ear: making the token's id: %w", err)
	}
	set.ID = base64.RawURLEncoding.EncodeToString(id[:])
	a := appraise(v)
	set.Status = a.Status
	label := "unknown"
	if v.Claims != nil && v.Claims.TEE != "" {
		label = v.Claims.TEE
	}
	set.Submods = map[string]appraisal{label: a}
	return set, nil
}

// nonceText is padded, so that 8 to 64 bytes become the 12 to 88 characters of the
// draft.
func nonceText(b []byte) string { return base64.URLEncoding.EncodeToString(b) }

func appraise(v *verdict.Verdict) appraisal {
	vector := VectorOf(v)
	a := appraisal{Status: statusOf(v, vector), Vector: vector, Verifier: verifierClaims{Summary{
		Outcome: v.Outcome, Form: v.Form, Evidence: v.Evidence, Simulated: v.Simulated, TCBStatus: v.TCBStatus, Checks: v.Checks, Advisories: v.Advisories,
	}}}
	if a.Verifier.Verdict.Checks == nil {
		a.Verifier.Verdict.Checks = []verdict.Check{}
	}
	if v.Policy != "" {
		a.Policies = []string{"sha256:" + v.Policy}
	}
	if v.Claims != nil {
		nonce := []byte(v.Claims.Nonce)
		if v.Claims.Keep != nil {
			nonce = v.Claims.Keep.Nonce
		}
		if len(nonce) >= MinNonce && len(nonce) <= MaxNonce {
			a.Nonce = nonceText(nonce)
		}
	}
	return a
}

// Thumbprint is the SHA-256 of a public key's SubjectPublicKeyInfo in DER, as cnf
// and claims.Claims.Key hold it.
func Thumbprint(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	h := sha256.Sum256(der)
	return h[:], nil
}

// algorithm is a JWS algorithm (RFC 7518 section 3.4), which follows from the key.
type algorithm struct {
	name string
	hash crypto.Hash
	size int // bytes of r and of s
}

func algorithmOf(key *ecdsa.PublicKey) (algorithm, error) {
	if key == nil || key.Curve == nil {
		return algorithm{}, errors.New("ear: no key")
	}
	switch key.Curve {
	case elliptic.P256():
		return algorithm{"ES256", crypto.SHA256, 32}, nil
	case elliptic.P384():
		return algorithm{"ES384", crypto.SHA384, 48}, nil
	}
	return algorithm{}, fmt.Errorf("ear: found a key on %s, wanted P-256 or P-384", key.Curve.Params().Name)
}

func (a algorithm) digest(signed string) []byte {
	h := a.hash.New()
	h.Write([]byte(signed))
	return h.Sum(nil)
}

func (a algorithm) sign(signer crypto.Signer, rand io.Reader, signed string) ([]byte, error) {
	der, err := signer.Sign(rand, a.digest(signed), a.hash)
	if err != nil {
		return nil, fmt.Errorf("ear: signing: %w", err)
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 || rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || rs.R.BitLen() > 8*a.size || rs.S.BitLen() > 8*a.size {
		return nil, errors.New("ear: the signer gave no ECDSA signature in DER")
	}
	out := make([]byte, 2*a.size)
	rs.R.FillBytes(out[:a.size])
	rs.S.FillBytes(out[a.size:])
	return out, nil
}
