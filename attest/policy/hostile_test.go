package policy

import (
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Keys in other letters would be taken for these, and of two the last.
func TestKeysInOtherLetters(t *testing.T) {
	for _, c := range []struct{ text, key string }{
		{"version = 1\nVersion = 1\n[snp]\n", "Version"},
		{"version = 1\n[SNP]\n", "SNP"},
		{"version = 1\n[snp]\nallow_debug = false\nAllow_Debug = true\n", "snp.Allow_Debug"},
		{"version = 1\n[snp]\nallow_debug = false\n[SNP]\nallow_debug = true\n", "SNP"},
		{"version = 1\n[snp.floors.Genoa]\nsnp = 24\nSNP = 1\n", "snp.floors.Genoa.SNP"},
		{"version = 1\n[snp.Floors.Genoa]\nsnp = 24\n", "snp.Floors"},
		{"version = 1\n[[waive]]\ncheck = \"nonce\"\nreason = \"a\"\nReason = \"b\"\n[snp]\n", "waive.Reason"},
		{"version = 1\n[sgx]\n[[sgx.signers]]\nMRSIGNER = \"00\"\n", "sgx.signers.MRSIGNER"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), "\""+c.key+"\"") {
			t.Errorf("%q: found %v, wanted the key %s refused", c.text, err, c.key)
		}
	}
	if _, err := Parse([]byte("version = 1\n[snp.floors.Genoa]\nsnp = 24\n[tpm.pcrs]\n\"4\" = []\n")); err != nil {
		t.Error(err)
	}
}

func one(checks []verdict.Check, code verdict.Code) verdict.Check {
	for _, c := range checks {
		if c.Code == code {
			return c
		}
	}
	return verdict.Check{}
}

// An empty nonce is in all evidence that has none: it is no nonce.
func TestEmptyNonceIsNone(t *testing.T) {
	p := Default()
	for name, c := range map[string]*claims.Claims{
		"a Nitro document without nonce": {TEE: claims.Nitro, Nitro: &claims.NitroClaims{}, Nonce: claims.Hex{}},
		"claims without nonce":           {TEE: claims.SNP, SNP: &claims.SNPClaims{}, Keep: &claims.Keep{}},
	} {
		if got := one(p.Appraise(c, Demand{Nonce: []byte{}}), verdict.Nonce); got.Status != verdict.NotMade || got.Informal || got.Waived != "" {
			t.Errorf("%s: found %+v, wanted not made", name, got)
		}
	}
}

// A purpose that is asked for is not in evidence without claims.
func TestPurposeWithoutClaims(t *testing.T) {
	c := &claims.Claims{TEE: claims.SNP, SNP: &claims.SNPClaims{}}
	if got := one(Default().Appraise(c, Demand{Purposes: []string{"session"}, ClaimsWanted: true}), verdict.Purpose); got.Status != verdict.Failed {
		t.Errorf("found %+v, wanted failed", got)
	}
	if got := one(Default().Appraise(c, Demand{Purposes: []string{"file"}}), verdict.Purpose); got.Code != "" {
		t.Errorf("found %+v, wanted no check where no purpose is asked for", got)
	}
}

// A list of workloads is not met by evidence that names none, and waiving the binding
// for a TEE that has no host data does not waive the list.
func TestWorkloadsAndNoHostData(t *testing.T) {
	p, err := Parse([]byte("version = 1\nfreshness = \"none\"\nworkloads = [\"" + strings.Repeat("ab", 32) + "\"]\n[snp]\n[nitro]\n[[waive]]\ncheck = \"workload-binding\"\nreason = \"Nitro has none\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		in   *claims.Claims
		want verdict.Status
	}{
		{"host data of zeros", &claims.Claims{TEE: claims.SNP, SNP: &claims.SNPClaims{}, HostData: make(claims.Hex, 32)}, verdict.Failed},
		{"no host data", &claims.Claims{TEE: claims.Nitro, Nitro: &claims.NitroClaims{}}, verdict.NotMade},
	} {
		checks := p.Appraise(c.in, Demand{})
		p.ApplyWaivers(checks)
		if got := one(checks, verdict.Workload); got.Status != c.want || got.Waived != "" || got.Informal {
			t.Errorf("%s: found %+v, wanted %s", c.name, got, c.want)
		}
	}
}
