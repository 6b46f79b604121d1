package ear

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// counter is a source of bytes that differ and are known.
type counter struct{ n byte }

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

// testKey makes a key from a fixed scalar: these tests use no randomness.
func testKey(curve elliptic.Curve, d int64) *ecdsa.PrivateKey {
	size := (curve.Params().BitSize + 7) / 8
	k, err := ecdsa.ParseRawPrivateKey(curve, big.NewInt(d).FillBytes(make([]byte, size)))
	if err != nil {
		panic(err)
	}
	return k
}

func good() *verdict.Verdict {
	v := &verdict.Verdict{
		Form: "snp-report", Evidence: verdict.Digest([]byte("x")), Policy: verdict.Digest([]byte("p")), At: now,
		Claims: &claims.Claims{TEE: claims.SNP, Key: sha256.New().Sum(nil), Nonce: []byte("0123456789abcdef")},
	}
	for _, c := range []verdict.Code{verdict.Form, verdict.TrustedRoot, verdict.Chain, verdict.Signature, verdict.Debug, verdict.GuestPolicy, verdict.TCBFloor, verdict.RuntimePinned, verdict.Workload} {
		v.Checks = append(v.Checks, verdict.Pass(c, "good"))
	}
	v.Conclude()
	return v
}

func options() Options {
	return Options{IssuedAt: now, Lifetime: time.Hour, NotAfter: now.Add(30 * time.Minute), Audience: "https://rp.example",
		Verifier: Verifier{"https://verifier.example", "donjon test"}, Nonce: bytes.Repeat([]byte{7}, 8), Rand: &counter{}}
}

func TestRoundTrip(t *testing.T) {
	for step, curve := range map[int]elliptic.Curve{1: elliptic.P256(), 11: elliptic.P384()} {
		k := testKey(curve, 12345)
		token, err := Encode(good(), k, options())
		if err != nil {
			t.Fatal(err)
		}
		r, err := Verify(token, &k.PublicKey, now.Add(time.Minute), "https://rp.example")
		if err != nil {
			t.Fatal(err)
		}
		s, ok := r.Submods[claims.SNP]
		if r.Profile != Profile || r.Status != Affirming || !ok || s.Status != Affirming || !r.Expires.Equal(now.Add(30*time.Minute)) || !r.IssuedAt.Equal(now) ||
			!bytes.Equal(r.Key, good().Claims.Key) || !bytes.Equal(r.Nonce, options().Nonce) || string(s.Nonce) != "0123456789abcdef" || len(r.ID) != 22 {
			t.Errorf("found %+v", r)
		}
		if s.Verdict == nil || s.Verdict.Outcome != verdict.Admitted || len(s.Verdict.Checks) != len(good().Checks) || s.Policies[0] != "sha256:"+good().Policy {
			t.Errorf("found %+v", s)
		}
		if want := (Vector{InstanceIdentity: 2, Configuration: 2, Executables: 2, Hardware: 2, RuntimeOpaque: 2}); *s.Vector != want {
			t.Errorf("found %+v, wanted %+v", *s.Vector, want)
		}
		again, err := Encode(good(), k, options())
		if err != nil {
			t.Fatal(err)
		}
		if r2, err := Verify(again, &k.PublicKey, now, "https://rp.example"); err != nil || r2.ID != r.ID {
			t.Errorf("the same randomness gives another id: %v", err)
		}
		// A flipped bit of any character and every truncation is refused.
		for i := 0; i < len(token); i += step {
			b := []byte(token)
			b[i] ^= 1
			if _, err := Verify(string(b), &k.PublicKey, now, "https://rp.example"); err == nil {
				t.Fatalf("%s: a flipped bit at %d verifies", curve.Params().Name, i)
			}
			if _, err := Verify(token[:i], &k.PublicKey, now, "https://rp.example"); err == nil {
				t.Fatalf("%d characters verify", i)
			}
		}
		other := testKey(curve, 12346)
		if _, err := Verify(token, &other.PublicKey, now, "https://rp.example"); err == nil {
			t.Error("another key verifies")
		}
	}
	k256, k384 := testKey(elliptic.P256(), 5), testKey(elliptic.P384(), 5)
	token, err := Encode(good(), k256, options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(token, &k384.PublicKey, now, "https://rp.example"); err == nil || !strings.Contains(err.Error(), "wanted ES384") {
		t.Errorf("found %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	k := testKey(elliptic.P256(), 9)
	for name, change := range map[string]func(*Options, *verdict.Verdict){
		"no audience":         func(o *Options, _ *verdict.Verdict) { o.Audience = "" },
		"no verifier":         func(o *Options, _ *verdict.Verdict) { o.Verifier.Build = "" },
		"no time":             func(o *Options, _ *verdict.Verdict) { o.IssuedAt = time.Time{} },
		"no end":              func(o *Options, _ *verdict.Verdict) { o.NotAfter = time.Time{} },
		"end is past":         func(o *Options, _ *verdict.Verdict) { o.NotAfter = now },
		"no lifetime":         func(o *Options, _ *verdict.Verdict) { o.Lifetime = 0 },
		"too long":            func(o *Options, _ *verdict.Verdict) { o.Lifetime = MaxLifetime + 1 },
		"under a second":      func(o *Options, _ *verdict.Verdict) { o.Lifetime = time.Millisecond },
		"short nonce":         func(o *Options, _ *verdict.Verdict) { o.Nonce = make([]byte, 7) },
		"long nonce":          func(o *Options, _ *verdict.Verdict) { o.Nonce = make([]byte, 65) },
		"no randomness":       func(o *Options, _ *verdict.Verdict) { o.Rand = nil },
		"randomness runs out": func(o *Options, _ *verdict.Verdict) { o.Rand = io.LimitReader(&counter{}, 15) },
		"no key":              func(_ *Options, v *verdict.Verdict) { v.Claims.Key = nil },
		"short key hash":      func(o *Options, _ *verdict.Verdict) { o.Key = make([]byte, 31) },
		"bearer with a key":   func(o *Options, _ *verdict.Verdict) { o.Bearer, o.Key = true, make([]byte, 32) },
	} {
		o, v := options(), good()
		change(&o, v)
		if token, err := Encode(v, k, o); err == nil {
			t.Errorf("%s: %s", name, token)
		}
	}
	if _, err := Encode(nil, k, options()); err == nil {
		t.Error("no verdict is encoded")
	}
	_, ed, _ := ed25519.GenerateKey(&counter{})
	for _, s := range []crypto.Signer{nil, ed, testKey(elliptic.P521(), 3), badSigner{k}} {
		if _, err := Encode(good(), s, options()); err == nil {
			t.Errorf("%T signs", s)
		}
	}
	o := options()
	o.Bearer = true
	token, err := Encode(good(), k, o)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(token, &k.PublicKey, now, o.Audience); err != nil || r.Key != nil {
		t.Errorf("found %v, %v", r, err)
	}
}

type badSigner struct{ *ecdsa.PrivateKey }

func (badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return []byte{0x30, 0}, nil
}

// forge signs any header and payload.
func forge(t *testing.T, k *ecdsa.PrivateKey, head, payload string) string {
	t.Helper()
	a, err := algorithmOf(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	sig, err := a.sign(k, &counter{}, signed)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

const goodHeader = `{"alg":"ES256","typ":"eat+jwt"}`

// goodPayload is a token of another verifier's, as the draft would have it.
func goodPayload() string {
	return fmt.Sprintf(`{"eat_profile":"tag:ietf.org,2026:rats/ear#04","iat":%d,"exp":%d,"jti":"a","aud":"me","ear_verifier_id":{"developer":"d","build":"b"},"submods":{"snp":{"ear_status":"affirming","ear_trustworthiness_vector":{"hardware":2}}}}`, now.Unix(), now.Unix()+60)
}

func TestVerifyRefuses(t *testing.T) {
	k := testKey(elliptic.P256(), 77)
	verify := func(head, payload string) error {
		_, err := Verify(forge(t, k, head, payload), &k.PublicKey, now, "me")
		return err
	}
	if err := verify(goodHeader, goodPayload()); err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{
		`{"alg":"none","typ":"eat+jwt"}`, `{"alg":"","typ":"eat+jwt"}`, `{"typ":"eat+jwt"}`, `{"alg":"ES384","typ":"eat+jwt"}`, `{"alg":"HS256","typ":"eat+jwt"}`,
		`{"alg":"es256","typ":"eat+jwt"}`, `{"ALG":"ES256","typ":"eat+jwt"}`, `{"alg":"ES256"}`, `{"alg":"ES256","typ":"JWT"}`, `{"alg":"ES256","typ":"at+jwt"}`, `{"alg":"ES256","typ":1}`,
		`{"alg":"ES256","typ":"eat+jwt","crit":["exp"]}`, `{"alg":"ES256","typ":"eat+jwt","b64":false}`, `{"alg":"ES256","typ":"eat+jwt","zip":"DEF"}`,
		`{"alg":"none","alg":"ES256","typ":"eat+jwt"}`, `{"alg":["ES256"],"typ":"eat+jwt"}`, `[]`, `null`, ``, `{"alg":"ES256","typ":"eat+jwt"} {}`,
		`{"alg":"ES256","typ":"eat+jwt","x":"` + strings.Repeat("x", maxHeader) + `"}`,
	} {
		if verify(h, goodPayload()) == nil {
			t.Errorf("the header %.80s verifies", h)
		}
	}
	end := fmt.Sprintf(`"exp":%d`, now.Unix()+60)
	start := fmt.Sprintf(`"iat":%d`, now.Unix())
	for _, c := range [][2]string{
		{`"tag:ietf.org,2026:rats/ear#04"`, `"tag:ietf.org,2026:rats/ear#05"`}, {`"eat_profile":"tag:ietf.org,2026:rats/ear#04",`, ``}, {`"tag:ietf.org,2026:rats/ear#04"`, `7`},
		{`"tag:ietf.org,2026:rats/ear#04"`, `"tag:github.com,2023:veraison/ear"`}, // old profile, new names
		{end, `"exp":1`}, {end, `"exp":1e12`}, {end, fmt.Sprintf(`"exp":%d.0`, now.Unix()+60)}, {end, `"exp":"9999999999"`}, {end, `"exp":null`}, {end, `"exp":-1`}, {end, `"exp":99999999999999999999`},
		{end, fmt.Sprintf(`"exp":%d`, now.Unix())}, {end, `"x":1`},
		{start, `"iat":9999999999`}, {start, `"x":1`}, {start, fmt.Sprintf(`"iat":%d`, now.Unix()+61)}, {start, `"iat":0`}, {start, `"iat":1.5`},
		{`"aud":"me"`, `"aud":"you"`}, {`"aud":"me"`, `"aud":["you"]`}, {`"aud":"me"`, `"aud":[]`}, {`"aud":"me"`, `"aud":[null]`}, {`"aud":"me"`, `"aud":7`}, {`"aud":"me",`, ``}, {`"aud":"me"`, `"aud":"ME"`},
		{`"aud":"me"`, `"aud":"you","aud":"me"`}, {`"aud":"me"`, `"aud":["` + strings.Repeat(`a","`, 64) + `me"]`},
		{`"jti":"a",`, ``}, {`"jti":"a"`, `"jti":""`}, {`"jti":"a"`, `"jti":1`},
		{`{"developer":"d","build":"b"}`, `{}`}, {`{"developer":"d","build":"b"}`, `{"developer":"d"}`}, {`{"developer":"d","build":"b"}`, `null`}, {`"ear_verifier_id"`, `"ear.verifier-id"`},
		{`{"snp":{`, `{"snp":{"ear_status":"none",`}, // twice
		{`"ear_status":"affirming",`, ``}, {`"affirming"`, `"good"`}, {`"affirming"`, `2`}, {`"ear_status"`, `"ear.status"`},
		{`"hardware":2`, `"hardware":96`}, {`"hardware":2`, `"hardware":32`}, {`"hardware":2`, `"hardware":-128`}, // better than its worst claim
		{`"hardware":2`, `"hardware":200`}, {`"hardware":2`, `"hardware":2.0`}, {`"hardware":2`, `"hardware":"2"`}, {`"hardware":2`, `"hardware":null`}, {`"hardware":2`, `"Hardware":2`}, {`{"hardware":2}`, `[2]`}, {`{"hardware":2}`, `null`},
		{`"submods":{"snp":`, `"submods":{},"x":{"snp":`}, {`"submods":{"snp":`, `"x":{"snp":`}, {`"submods":{"snp":{"ear_status"`, `"submods":{"tdx":7,"snp":{"ear_status"`},
		{`"aud":"me"`, `"aud":"me","ear_status":"better"`},
		{`"aud":"me"`, `"aud":"me","cnf":{}`}, {`"aud":"me"`, `"aud":"me","cnf":{"jkt":"x"}`}, {`"aud":"me"`, `"aud":"me","cnf":7`}, {`"aud":"me"`, `"aud":"me","cnf":{"spki#S256":"AAAA"}`},
		{`"aud":"me"`, `"aud":"me","eat_nonce":"AAAA"`}, {`"aud":"me"`, `"aud":"me","eat_nonce":7`}, {`"aud":"me"`, `"aud":"me","eat_nonce":["AAAAAAAAAAA="]`},
		{`"aud":"me"`, `"aud":"me","deep":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)},
		{`"snp":{"ear_status":"affirming"`, `"snp":{"ear_verifier_claims":7,"ear_status":"affirming"`}, {`"snp":{"ear_status":"affirming"`, `"snp":{"ear_appraisal_policy_ids":[],"ear_status":"affirming"`},
		{`"snp":{"ear_status":"affirming"`, `"snp":{"ear_verifier_claims":{"donjon_verdict":7},"ear_status":"affirming"`},
		{`}}}}`, `}}}} ` + `{}`}, {`}}}}`, `}}}`}, {`{"eat_profile"`, `[{"eat_profile"`},
	} {
		p := strings.Replace(goodPayload(), c[0], c[1], 1)
		if p == goodPayload() {
			t.Fatalf("%q is not in the payload", c[0])
		}
		if verify(goodHeader, p) == nil {
			t.Errorf("%s instead of %s verifies", c[1], c[0])
		}
	}
	// A token that says worse than its submodules is only careful.
	if err := verify(goodHeader, strings.Replace(goodPayload(), `"aud":"me"`, `"aud":"me","ear_status":"contraindicated"`, 1)); err != nil {
		t.Error(err)
	}
	if err := verify(goodHeader, strings.Replace(goodPayload(), `{"snp":{`, `{"sub":{"ear_status":"warning"},"snp":{`, 1)); err != nil {
		t.Error(err)
	}
	if verify(goodHeader, strings.Replace(strings.Replace(goodPayload(), `{"snp":{`, `{"sub":{"ear_status":"warning"},"snp":{`, 1), `"aud":"me"`, `"aud":"me","ear_status":"affirming"`, 1)) == nil {
		t.Error("the whole says better than a submodule")
	}
	token := forge(t, k, goodHeader, goodPayload())
	for name, s := range map[string]string{
		"padding": token + "=", "four parts": token + ".", "a line end": token[:20] + "\n" + token[20:], "no signature": token[:strings.LastIndex(token, ".")+1],
		"json serialization": `{"payload":""}`, "empty": "", "too long": strings.Repeat("a", MaxToken+1), "DER signature": token[:strings.LastIndex(token, ".")] + ".MEUCIQ",
	} {
		if _, err := Verify(s, &k.PublicKey, now, "me"); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	zero := token[:strings.LastIndex(token, ".")+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
	for _, c := range []struct {
		token, aud string
		key        *ecdsa.PublicKey
		at         time.Time
	}{
		{token, "", &k.PublicKey, now}, {token, "me", nil, now}, {token, "me", &testKey(elliptic.P521(), 2).PublicKey, now}, {token, "me", &k.PublicKey, time.Time{}},
		{token, "me", &k.PublicKey, now.Add(60 * time.Second)}, {token, "me", &k.PublicKey, now.Add(-61 * time.Second)}, {zero, "me", &k.PublicKey, now},
	} {
		if _, err := Verify(c.token, c.key, c.at, c.aud); err == nil {
			t.Errorf("audience %q, time %v verify", c.aud, c.at)
		}
	}
}

func TestOlderProfiles(t *testing.T) {
	k := testKey(elliptic.P256(), 78)
	veraison := fmt.Sprintf(`{"eat_profile":"tag:github.com,2023:veraison/ear","iat":%d,"ear.verifier-id":{"developer":"https://veraison-project.org","build":"vts 0.0.1"},"eat_nonce":"anything","submods":{"PSA_IOT":{"ear.status":"contraindicated","ear.trustworthiness-vector":{"instance-identity":2,"executables":96},"ear.appraisal-policy-id":"https://example/policy"}}}`, now.Unix())
	r, err := Verify(forge(t, k, `{"alg":"ES256","typ":"JWT"}`, veraison), &k.PublicKey, now, "")
	if err != nil {
		t.Fatal(err)
	}
	if a := r.Submods["PSA_IOT"]; !r.OldNaming || r.Status != Contraindicated || a.Vector.Executables != 96 || a.Policies[0] != "https://example/policy" || string(r.Nonce) != "anything" || !r.Expires.Equal(now.Add(legacyLife)) {
		t.Errorf("found %+v", r)
	}
	trustee := fmt.Sprintf(`{"eat_profile":"tag:github.com,2024:confidential-containers/Trustee","iat":%d,"exp":%d,"iss":"as","ear.verifier-id":{"developer":"https://confidentialcontainers.org","build":"x"},"submods":{"cpu0":{"ear.status":"affirming","ear.trustworthiness-vector":{"hardware":2},"ear.veraison.annotated-evidence":{"snp":{}}}}}`, now.Unix(), now.Unix()+300)
	if r, err := Verify(forge(t, k, `{"alg":"ES256","typ":"JWT","jwk":{"kty":"EC"}}`, trustee), &k.PublicKey, now, ""); err != nil || r.Status != Affirming || r.Key != nil {
		t.Errorf("found %+v, %v", r, err)
	}
	for name, c := range map[string][2]string{
		"an hour later":       {fmt.Sprintf(`"iat":%d`, now.Unix()), fmt.Sprintf(`"iat":%d`, now.Unix()-3600)},
		"an audience":         {`"submods"`, `"aud":"me","submods"`},
		"underscored status":  {`"ear.status"`, `"ear_status"`},
		"underscored id":      {`"ear.verifier-id"`, `"ear_verifier_id"`},
		"better than it says": {`"contraindicated"`, `"affirming"`},
	} {
		p := strings.Replace(veraison, c[0], c[1], 1)
		if _, err := Verify(forge(t, k, `{"alg":"ES256","typ":"JWT"}`, p), &k.PublicKey, now, ""); err == nil || p == veraison {
			t.Errorf("%s verifies", name)
		}
	}
	if _, err := Verify(forge(t, k, `{"alg":"ES256","typ":"JWT"}`, goodPayload()), &k.PublicKey, now, "me"); err == nil {
		t.Error("the new profile verifies with an old typ")
	}
}

func TestVector(t *testing.T) {
	pass := func(codes ...verdict.Code) (out []verdict.Check) {
		for _, c := range codes {
			out = append(out, verdict.Pass(c, "x"))
		}
		return out
	}
	fail := func(c verdict.Code) verdict.Check { return verdict.Fail(c, "x", "y") }
	skip := func(c verdict.Code) verdict.Check { return verdict.Skip(c, "x", "y") }
	platform := pass(verdict.Form, verdict.TrustedRoot, verdict.Chain, verdict.Signature, verdict.Debug)
	for _, c := range []struct {
		name   string
		change func(*verdict.Verdict)
		want   Vector
		status Tier
	}{
		{"platform alone", func(v *verdict.Verdict) {}, Vector{InstanceIdentity: 2, Configuration: 2, Hardware: 2, RuntimeOpaque: 2}, Affirming},
		{"no check", func(v *verdict.Verdict) { v.Checks = nil }, Vector{}, Contraindicated},
		{"boot", func(v *verdict.Verdict) { v.Checks = append(v.Checks, pass(verdict.RuntimePinned)...) }, Vector{2, 2, 3, 0, 2, 2, 0, 0}, Affirming},
		{"boot and workload", func(v *verdict.Verdict) {
			v.Checks = append(v.Checks, pass(verdict.RuntimePinned, verdict.Workload)...)
		}, Vector{2, 2, 2, 0, 2, 2, 0, 0}, Affirming},
		{"workload alone", func(v *verdict.Verdict) { v.Checks = append(v.Checks, pass(verdict.Workload)...) }, Vector{2, 2, 0, 0, 2, 2, 0, 0}, Affirming},
		{"workload unknown", func(v *verdict.Verdict) {
			v.Checks = append(v.Checks, pass(verdict.RuntimePinned)[0], skip(verdict.Workload))
		}, Vector{2, 2, 3, 0, 2, 2, 0, 0}, None},
		{"wrong workload", func(v *verdict.Verdict) {
			v.Checks = append(v.Checks, pass(verdict.RuntimePinned)[0], fail(verdict.Workload))
		}, Vector{2, 2, 33, 0, 2, 2, 0, 0}, Contraindicated},
		{"no revocation list", func(v *verdict.Verdict) { v.Checks = append(v.Checks, skip(verdict.RootCRL)) }, Vector{0, 2, 0, 0, 2, 0, 0, 0}, None},
		{"no revocation list, waived", func(v *verdict.Verdict) {
			k := skip(verdict.RootCRL)
			k.Waived = "because"
			v.Checks = append(v.Checks, k)
		}, Vector{0, 2, 0, 0, 2, 0, 0, 0}, Affirming},
		{"revoked", func(v *verdict.Verdict) { v.Checks = append(v.Checks, fail(verdict.IntermediateCRL)) }, Vector{96, 2, 0, 0, 2, 0, 0, 0}, Contraindicated},
		{"bad signature", func(v *verdict.Verdict) { v.Checks[3] = fail(verdict.Signature) }, Vector{2, 2, 0, 0, 99, 0, 0, 0}, Contraindicated},
		{"old TCB", func(v *verdict.Verdict) { v.Checks = append(v.Checks, fail(verdict.TCBFloor)) }, Vector{2, 2, 0, 0, 32, 2, 0, 0}, Contraindicated},
		{"old TCB that the policy accepts", func(v *verdict.Verdict) { v.TCBStatus = "OutOfDate" }, Vector{2, 2, 0, 0, 32, 2, 0, 0}, Warning},
		{"software hardening", func(v *verdict.Verdict) { v.TCBStatus = "SWHardeningNeeded" }, Vector{2, 2, 0, 0, 2, 2, 0, 0}, Affirming},
		{"debug", func(v *verdict.Verdict) { v.Checks[4] = fail(verdict.Debug) }, Vector{2, 96, 0, 0, 2, 96, 0, 0}, Contraindicated},
		{"simulated, and allowed", func(v *verdict.Verdict) { v.Simulated = true }, Vector{2, 2, 0, 0, 2, 96, 0, 0}, Contraindicated},
		{"nitro", func(v *verdict.Verdict) { v.Claims.TEE = claims.Nitro }, Vector{2, 2, 0, 0, 2, 32, 0, 0}, Warning},
		{"tpm", func(v *verdict.Verdict) { v.Claims.TEE = claims.TPM }, Vector{2, 2, 0, 0, 2, 0, 0, 0}, Affirming},
		{"no claims", func(v *verdict.Verdict) { v.Claims = nil }, Vector{2, 2, 0, 0, 2, 0, 0, 0}, Affirming},
		{"a failed check without a rule", func(v *verdict.Verdict) { v.Checks = append(v.Checks, fail(verdict.Nonce)) }, Vector{2, 2, 0, 0, 2, 2, 0, 0}, Contraindicated},
	} {
		v := &verdict.Verdict{Checks: append([]verdict.Check{}, platform...), Claims: &claims.Claims{TEE: claims.SNP}}
		c.change(v)
		v.Conclude()
		got := VectorOf(v)
		if s := statusOf(v, got); got != c.want || s != c.status {
			t.Errorf("%s: found %+v %s, wanted %+v %s", c.name, got, s, c.want, c.status)
		}
	}
	if got := VectorOf(&verdict.Verdict{Outcome: "better", Checks: platform}); got != (Vector{}) {
		t.Errorf("an outcome that does not exist: found %+v", got)
	}
}

func TestTiers(t *testing.T) {
	for value, want := range map[int8]Tier{
		-128: Contraindicated, -97: Contraindicated, -96: Warning, -33: Warning, -32: Affirming, -2: Affirming, -1: None, 0: None, 1: None,
		2: Affirming, 31: Affirming, 32: Warning, 95: Warning, 96: Contraindicated, 127: Contraindicated,
	} {
		if got := tierOf(value); got != want {
			t.Errorf("%d: found %s, wanted %s", value, got, want)
		}
	}
}

// docs/ear.md has the mapping; it must be this one.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/ear.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[dimension]string{identity: "instance-identity", configuration: "configuration", executables: "executables", hardware: "hardware"}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([a-z-]+) \\| ([0-9]+) \\|$").FindAllStringSubmatch(string(b), -1) {
		if rows[m[1]] != "" {
			t.Errorf("docs/ear.md has %s twice", m[1])
		}
		rows[m[1]] = m[2] + " " + m[3]
	}
	seen := map[verdict.Code]bool{}
	for _, r := range rules {
		if seen[r.code] {
			t.Errorf("two rules for %s", r.code)
		}
		seen[r.code] = true
		if want := fmt.Sprintf("%s %d", names[r.about], r.failed); rows[string(r.code)] != want {
			t.Errorf("docs/ear.md says of %s %q, wanted %q", r.code, rows[string(r.code)], want)
		}
		if _, ok := verdict.Lookup(r.code); !ok {
			t.Errorf("a rule for %s, which is no code", r.code)
		}
	}
	if len(rows) != len(rules) {
		t.Errorf("docs/ear.md has %d rules, wanted %d", len(rows), len(rules))
	}
}

func FuzzVerify(f *testing.F) {
	k := testKey(elliptic.P256(), 79)
	f.Add(goodHeader, goodPayload())
	token, err := Encode(good(), k, options())
	if err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(token, ".")
	for i := range parts {
		b, _ := base64.RawURLEncoding.DecodeString(parts[i])
		parts[i] = string(b)
	}
	f.Add(parts[0], parts[1])
	f.Add(`{"alg":"ES256","typ":"JWT"}`, `{"eat_profile":"tag:github.com,2023:veraison/ear","iat":1795521600,"ear.verifier-id":{"developer":"a","build":"b"},"submods":{"x":{"ear.status":"none"}}}`)
	f.Fuzz(func(t *testing.T, head, payload string) {
		// The parts behind the signature, which a fuzzer would never get past.
		h, err := readHeader([]byte(head))
		if err != nil {
			return
		}
		r, err := readClaims([]byte(payload))
		if err != nil || r.check(h.Type, now, "me") != nil {
			return
		}
		if len(r.Submods) == 0 || r.Verifier.Build == "" || r.Expires.IsZero() || !json.Valid([]byte(payload)) {
			t.Errorf("accepted %s: %+v", payload, r)
		}
		for _, s := range r.Submods {
			if lower(r.Status, s.Status) != r.Status || s.Vector != nil && lower(s.Status, worst(Affirming, *s.Vector)) != s.Status {
				t.Errorf("%s says better than it knows", payload)
			}
		}
	})
}
