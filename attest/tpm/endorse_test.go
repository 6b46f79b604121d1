package tpm_test

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/tpm"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Any RSA key can sign whatever registers a policy wants to see. It is never enough
// by itself; it is where the policy names that very key, and waives by name what the
// bare key cannot show.
func TestT24AnyKeyQuotes(t *testing.T) {
	k, err := synthetic.NewTPMKey(tpm.AlgRSASSA, tpm.AlgSHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := synthetic.TPMQuote{Key: k, Nonce: []byte("a nonce of 16 by"), Bank: tpm.AlgSHA256, PCRs: synthetic.Registers(tpm.AlgSHA256, synthetic.BootEvents()...)}
	bare, err := q.JSON()
	if err != nil {
		t.Fatal(err)
	}
	q.Public = k.Public()
	shown, err := q.JSON()
	if err != nil {
		t.Fatal(err)
	}
	claims := verify(new(tpm.Verifier), bare, nil).Claims.TPM
	wanted := "version = 1\n[tpm]\n"
	pcrs := fmt.Sprintf("pcrs = {\"0\" = [%q], \"4\" = [%q], \"9\" = [%q]}\n", claims.PCRs[0], claims.PCRs[4], claims.PCRs[9])
	named := fmt.Sprintf("attestation_keys = [%q]\n", claims.AKSHA256)
	other := fmt.Sprintf("attestation_keys = [%q]\n", hex.EncodeToString(make([]byte, 32)))
	waive := func(check string) string { return "[[waive]]\ncheck = \"" + check + "\"\nreason = \"a test\"\n" }
	workload := waive("workload-binding")
	for _, c := range []struct {
		name, policy string
		evidence     []byte
		nonce        string
		want         verdict.Outcome
	}{
		{"registers alone", wanted + pcrs + workload, bare, "a nonce of 16 by", verdict.CannotTell},
		{"registers and waivers", wanted + pcrs + workload + waive("ak-restricted"), bare, "a nonce of 16 by", verdict.CannotTell},
		{"public area of its own making", wanted + pcrs + workload, shown, "a nonce of 16 by", verdict.CannotTell},
		{"another key named", wanted + pcrs + other + workload, shown, "a nonce of 16 by", verdict.Refused},
		{"key named, bare", wanted + pcrs + named + workload, bare, "a nonce of 16 by", verdict.CannotTell},
		{"key named, bare, waived", wanted + pcrs + named + workload + waive("ak-restricted"), bare, "a nonce of 16 by", verdict.Admitted},
		{"key named, public area shown", wanted + pcrs + named + workload, shown, "a nonce of 16 by", verdict.Admitted},
		{"no registers named", wanted + named + workload, shown, "a nonce of 16 by", verdict.CannotTell},
		{"another nonce", wanted + pcrs + named + workload, shown, "another nonce 16", verdict.NotGenuine},
	} {
		p, err := policy.Parse([]byte(c.policy))
		if err != nil {
			t.Fatal(err)
		}
		out := new(attest.Verifier).Verify(c.evidence, attest.Options{Policy: p, Nonce: []byte(c.nonce)})
		if out.Outcome != c.want {
			t.Errorf("%s: %s, wanted %s\n%s", c.name, out.Outcome, c.want, out.Text(nil))
		}
	}
	// That the key is endorsed can never be waived.
	if _, err := policy.Parse([]byte(wanted + waive("ak-endorsed"))); err == nil {
		t.Error("ak-endorsed can be waived")
	}
}

// An RSA modulus that is no product of primes is a key that verifies nothing, and
// stops nobody.
func TestOddKeys(t *testing.T) {
	k, err := synthetic.NewTPMKey(tpm.AlgRSASSA, tpm.AlgSHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []byte{0, 1, 0xfe} {
		public := k.Public()
		public[len(public)-1] = last
		p, err := tpm.ParsePublic(public)
		if err != nil {
			t.Fatal(err)
		}
		for _, scheme := range []tpm.Algorithm{tpm.AlgRSASSA, tpm.AlgRSAPSS} {
			s := tpm.Signature{Scheme: scheme, Hash: tpm.AlgSHA256, RSA: make([]byte, 256)}
			if s.Verify([]byte("x"), p.Key) == nil {
				t.Errorf("a modulus that ends in %#x verifies", last)
			}
		}
	}
}
