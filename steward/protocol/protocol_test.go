package protocol

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"testing"
)

func TestSealIsBoundToOneEnrolment(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := Binding{Challenge: []byte("challenge"), SPKI: []byte("spki"), Steward: []byte("steward")}
	sealed, err := Seal(key.PublicKey().Bytes(), b, Secrets{"db": []byte("s3cret")})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("s3cret")) {
		t.Error("the secret stands in the sealed message")
	}
	got, err := Open(key, b, sealed)
	if err != nil || string(got["db"]) != "s3cret" {
		t.Fatalf("found %v, %v", got, err)
	}
	other, _ := ecdh.X25519().GenerateKey(rand.Reader)
	if _, err := Open(other, b, sealed); err == nil {
		t.Error("another key opens it")
	}
	for name, c := range map[string]Binding{
		"challenge": {[]byte("x"), b.SPKI, b.Steward}, "key": {b.Challenge, []byte("x"), b.Steward}, "steward": {b.Challenge, b.SPKI, []byte("x")},
	} {
		if _, err := Open(key, c, sealed); err == nil {
			t.Errorf("it opens under another %s", name)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := Open(key, b, bad); err == nil {
			t.Fatalf("byte %d flipped: it opens", i)
		}
	}
	for name, k := range map[string][]byte{"short": {1}, "zero": make([]byte, 32)} {
		if _, err := Seal(k, b, Secrets{}); err == nil {
			t.Errorf("sealed to a %s key", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Open(key, Binding{}, b); err == nil {
			t.Errorf("opened %x: %v", b, s)
		}
	})
}
