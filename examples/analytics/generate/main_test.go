package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
)

// The digest is a promise: figures that others measured on this input stay
// comparable.
func TestSameBytesEverywhere(t *testing.T) {
	var b bytes.Buffer
	if err := generate(&b, 100_000, 1); err != nil {
		t.Fatal(err)
	}
	if n := b.Len(); n < 100_000 || n > 100_100 {
		t.Errorf("found %d bytes, wanted 100000 and at most a row more", n)
	}
	const want = "bc89db4141831a5a3158f1417ec1556d7421226c8104c81f25a2a998f2311146"
	if got := fmt.Sprintf("%x", sha256.Sum256(b.Bytes())); got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
}

func TestSeedsDiffer(t *testing.T) {
	var a, b bytes.Buffer
	if err := generate(&a, 1000, 1); err != nil {
		t.Fatal(err)
	}
	if err := generate(&b, 1000, 2); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two seeds gave the same rows")
	}
}
