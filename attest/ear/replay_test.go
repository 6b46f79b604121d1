package ear

import (
	"bytes"
	"crypto/elliptic"
	"strings"
	"testing"
	"time"
)

// THREATS T20: who sees a token and replays it. It names the key that may present it,
// who may accept it and until when, never later than the certificate, and has an id.
func TestT20Replay(t *testing.T) {
	k := testKey(elliptic.P256(), 7)
	o := options()
	token, err := Encode(good(), k, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(token, &k.PublicKey, now, o.Audience)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Key, good().Claims.Key) || r.ID == "" || !r.Expires.Equal(o.NotAfter) {
		t.Errorf("key %x, id %q, expires %s", r.Key, r.ID, r.Expires)
	}
	// With the next token's randomness comes another id.
	o2 := o
	again := &counter{}
	if _, err := again.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	o2.Rand = again
	second, err := Encode(good(), k, o2)
	if err != nil {
		t.Fatal(err)
	}
	if r2, err := Verify(second, &k.PublicKey, now, o.Audience); err != nil || r2.ID == r.ID {
		t.Errorf("two tokens have the id %q: %v", r.ID, err)
	}
	for name, x := range map[string]struct {
		at  time.Time
		aud string
	}{
		"to another audience":              {now, "https://other.example"},
		"to nobody":                        {now, ""},
		"after the certificate's end":      {o.NotAfter, o.Audience},
		"long after":                       {o.NotAfter.Add(time.Hour), o.Audience},
		"before it was made":               {now.Add(-time.Hour), o.Audience},
		"an audience with the name before": {now, o.Audience + "/"},
	} {
		if _, err := Verify(token, &k.PublicKey, x.at, x.aud); err == nil {
			t.Errorf("replayed %s: accepted", name)
		}
	}
	// Evidence that binds no key gives a bearer token only where that is asked for.
	v := good()
	v.Claims.Key = nil
	if token, err := Encode(v, k, o); err == nil {
		t.Errorf("no key: %s", token)
	}
	// A token bound to what is not understood is no bearer token.
	for _, cnf := range []string{`{"jwk":{}}`, `{"x5t#S256":"AAAA"}`, `{}`, `null`} {
		payload := strings.Replace(goodPayload(), `"aud":"me"`, `"aud":"me","cnf":`+cnf, 1)
		if r, err := Verify(forge(t, k, goodHeader, payload), &k.PublicKey, now, "me"); err == nil {
			t.Errorf("cnf %s: accepted as %+v", cnf, r)
		}
	}
}
