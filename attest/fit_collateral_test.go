package attest

import (
	"errors"
	"testing"

	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// A quote without Intel's word about quoting enclave and platform is nothing that a
// policy is written from: whoever owns a machine of Intel's could have made it.
func TestFitNeedsIntelsWord(t *testing.T) {
	for _, c := range []struct {
		evidence   string
		collateral []string
		at         string
		open       verdict.Code
	}{
		{"tdx/quote-v4.bin", nil, "2025-06-20T12:00:00Z", verdict.QEIdentity},
		{"steward/icelake-xeon.csr.der", nil, "2023-02-01T12:00:00Z", verdict.QEIdentity},
		{"sgx/quote-v3.bin", nil, "2025-06-20T12:00:00Z", verdict.QEIdentity},
		{"tdx/quote-v4-live.bin", []string{"tdx/live.tcbinfo.json", "tdx/live.pck-platform-crl.der", "tdx/live.root-ca-crl.der", "sgx/quote-v3.collateral.json#certs"}, "2026-03-30T20:00:00Z", verdict.QEIdentity},
		{"tdx/quote-v4-live.bin", []string{"tdx/live.qeidentity.json", "tdx/live.pck-platform-crl.der", "tdx/live.root-ca-crl.der", "sgx/quote-v3.collateral.json#certs"}, "2026-03-30T20:00:00Z", verdict.TCBStatus},
	} {
		var v Verifier
		text, err := Fit(&v, published.Read(t, c.evidence), Options{At: day(c.at), Collateral: gather(t, c.collateral...)}, policy.Draft{})
		var refused *verdict.Error
		if text != nil || !errors.As(err, &refused) || refused.Verdict.Outcome != verdict.CannotTell {
			t.Errorf("%s: found %v and %q, wanted no policy", c.evidence, err, text)
			continue
		}
		found := false
		for _, k := range refused.Verdict.Deciding() {
			found = found || k.Code == c.open
		}
		if !found {
			t.Errorf("%s: found %v, wanted %s among what is missing", c.evidence, err, c.open)
		}
	}
}
