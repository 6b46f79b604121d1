package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/tpm"
)

// keys are one of each kind.
func keys(t testing.TB) map[string]*synthetic.TPMKey {
	t.Helper()
	out := map[string]*synthetic.TPMKey{}
	for name, k := range map[string][2]tpm.Algorithm{"rsassa": {tpm.AlgRSASSA, tpm.AlgSHA256}, "rsapss": {tpm.AlgRSAPSS, tpm.AlgSHA512}, "p256": {tpm.AlgECDSA, tpm.AlgSHA256}, "p384": {tpm.AlgECDSA, tpm.AlgSHA384}} {
		key, err := synthetic.NewTPMKey(k[0], k[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = key
	}
	return out
}

// The reader and go-tpm's read the same, byte for byte, in what the synthetic package
// makes; and the synthetic package makes what go-tpm would.
func TestAgainstGoTPM(t *testing.T) {
	for name, k := range keys(t) {
		t.Run(name, func(t *testing.T) {
			q := synthetic.TPMQuote{Key: k, Nonce: []byte("a nonce"), Bank: tpm.AlgSHA384, PCRs: synthetic.Registers(tpm.AlgSHA384, synthetic.BootEvents()...), Select: []byte{0x11, 0x80, 1}}
			raw := q.Message()
			ours, err := tpm.ParseAttest(raw)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](raw)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tpm2.Marshal(theirs), raw) {
				t.Error("go-tpm writes the quote another way")
			}
			quoted, err := theirs.Attested.Quote()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ours.ExtraData, theirs.ExtraData.Buffer) || !bytes.Equal(ours.QualifiedSigner, theirs.QualifiedSigner.Buffer) ||
				!bytes.Equal(ours.PCRDigest, quoted.PCRDigest.Buffer) || ours.Clock != theirs.ClockInfo.Clock || ours.ResetCount != theirs.ClockInfo.ResetCount ||
				ours.RestartCount != theirs.ClockInfo.RestartCount || ours.Safe != bool(theirs.ClockInfo.Safe) || ours.FirmwareVersion != theirs.FirmwareVersion ||
				!slices.Equal(ours.Selections[0].PCRs, []int{0, 4, 15, 16}) || uint16(ours.Selections[0].Bank) != uint16(quoted.PCRSelect.PCRSelections[0].Hash) {
				t.Errorf("found %+v, go-tpm %+v", ours, theirs)
			}

			sig, err := k.Sign(raw)
			if err != nil {
				t.Fatal(err)
			}
			s, err := tpm.ParseSignature(sig)
			if err != nil {
				t.Fatal(err)
			}
			theirSig, err := tpm2.Unmarshal[tpm2.TPMTSignature](sig)
			if err != nil || !bytes.Equal(tpm2.Marshal(theirSig), sig) || !bytes.Equal(s.Encode(), sig) {
				t.Errorf("the signature is written another way: %v", err)
			}
			if err := s.Verify(raw, k.Private.Public()); err != nil {
				t.Error(err)
			}

			pub, err := tpm.ParsePublic(k.Public())
			if err != nil {
				t.Fatal(err)
			}
			theirPub, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.Public())
			if err != nil || !bytes.Equal(tpm2.Marshal(theirPub), k.Public()) {
				t.Errorf("the public area is written another way: %v", err)
			}
			theirKey, err := tpm2.Pub(*theirPub)
			if err != nil {
				t.Fatal(err)
			}
			switch p := pub.Key.(type) {
			case *rsa.PublicKey:
				if !p.Equal(theirKey) {
					t.Error("another RSA key")
				}
			case *ecdsa.PublicKey:
				if !p.Equal(theirKey) {
					t.Error("another ECDSA key")
				}
			}
			a := theirPub.ObjectAttributes
			if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.SignEncrypt || a.Decrypt || pub.IsAttestationKey() != nil {
				t.Errorf("attributes %+v, %v", a, pub.IsAttestationKey())
			}
			theirName, err := tpm2.ObjectName(theirPub)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := pub.Name(); err != nil || !bytes.Equal(n, theirName.Buffer) {
				t.Errorf("name %x, go-tpm %x, %v", n, theirName.Buffer, err)
			}
		})
	}
}

// What is read here go-tpm reads too: it takes more (other types, other hashes,
// trailing bytes), never less.
func TestMutatedAgainstGoTPM(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, k := range keys(t) {
		q := synthetic.TPMQuote{Key: k, Nonce: []byte("a nonce"), Bank: tpm.AlgSHA256, PCRs: synthetic.Registers(tpm.AlgSHA256, synthetic.BootEvents()...)}
		raw := q.Message()
		sig, err := k.Sign(raw)
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			m, s, p := mutate(rng, raw), mutate(rng, sig), mutate(rng, k.Public())
			if _, err := tpm.ParseAttest(m); err == nil {
				if _, err := tpm2.Unmarshal[tpm2.TPMSAttest](m); err != nil {
					t.Errorf("quote %x: read here, go-tpm says %v", m, err)
				}
			}
			if _, err := tpm.ParseSignature(s); err == nil {
				if _, err := tpm2.Unmarshal[tpm2.TPMTSignature](s); err != nil {
					t.Errorf("signature %x: read here, go-tpm says %v", s, err)
				}
			}
			if _, err := tpm.ParsePublic(p); err == nil {
				if _, err := tpm2.Unmarshal[tpm2.TPMTPublic](p); err != nil {
					t.Errorf("public area %x: read here, go-tpm says %v", p, err)
				}
			}
		}
	}
}

func mutate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(3) {
		switch i := rng.IntN(len(b)); rng.IntN(4) {
		case 0:
			b[i] = byte(rng.IntN(256))
		case 1:
			b[i] ^= 1 << rng.IntN(8)
		case 2:
			b = b[:max(i, 1)]
		case 3:
			b = slices.Insert(b, i, byte(rng.IntN(256)))
		}
	}
	return b
}
