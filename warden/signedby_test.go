//go:build linux

package warden

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

// THREATS T13: a peer's statements count where each signature holds. One that
// does not takes the rest with it.
func TestT13SignedBy(t *testing.T) {
	line := func(seed byte, name string) []byte {
		e, err := signature.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)), workload.Digest{1}, name, 2)
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good, other := line(1, "ask"), line(2, "ask")
	mine, err := signature.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(good, []byte(`"sig":"`)) + len(`"sig":"`)
	forged := bytes.Clone(good)
	forged[at] = 'A' + (forged[at]-'A'+1)%26 // another letter of base64
	if _, err := signature.Parse(forged); err != nil {
		t.Fatalf("it is refused for its form: %v", err)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want int
	}{
		{"one", attached([][]byte{good}), 1},
		{"two", attached([][]byte{good, other}), 2},
		{"forged", attached([][]byte{forged}), 0},
		{"forged, beside a good one", attached([][]byte{good, forged}), 0},
		{"no form", attached([][]byte{good, []byte("x")}), 0},
		{"none", nil, 0},
		{"too long", bytes.Repeat(append(good, '\n'), maxAttached/len(good)+1), 0},
	} {
		got := signedBy(c.in)
		if len(got) != c.want {
			t.Errorf("%s: found %d statements, wanted %d", c.name, len(got), c.want)
		}
		for _, s := range got {
			if digest := (workload.Digest{1}); !bytes.Equal(s.Workload, digest[:]) || s.Name != "ask" || s.Version != 2 {
				t.Errorf("%s: found %+v", c.name, s)
			}
		}
		if id := mine.Signer.ID(); c.want > 0 && !bytes.Equal(got[0].Key, policy.Digest(id[:])) {
			t.Errorf("%s: found the key %s", c.name, got[0].Key)
		}
	}
}
