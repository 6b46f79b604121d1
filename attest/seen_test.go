package attest

import (
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/published"
)

// Whoever writes a report that nobody signed must not teach a verifier, by what he
// staples to it, to refuse everybody else's collateral.
func TestUnsignedEvidenceTeachesNothing(t *testing.T) {
	set := &collateral.Set{}
	if err := set.Add("collateral", published.Read(t, "sgx/quote-v3.collateral.json")); err != nil {
		t.Fatal(err)
	}
	bundle := &collateral.Bundle{}
	at := time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)
	bundle.Add(set, at)
	stapled, err := bundle.Encode()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := envelope.Staple(published.Read(t, "sgx/quote-v3.bin"), stapled)
	if err != nil {
		t.Fatal(err)
	}
	report := published.Read(t, "snp/turin-v5.report.bin")
	unsigned, err := cbor.Marshal(map[string]any{"evidence": []any{"x", report, 4}, "collateral": []any{"y", stapled, 2}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		evidence []byte
		learns   bool
	}{{"a genuine quote", signed, true}, {"a report without its key", unsigned, false}} {
		var v Verifier
		seen := &collateral.HighWater{}
		out := v.Verify(c.evidence, Options{At: at, Seen: seen})
		if (seen.Len() > 0) != c.learns {
			t.Errorf("%s, %s: found %d marks, wanted some: %v", c.name, out.Outcome, seen.Len(), c.learns)
		}
	}
}
