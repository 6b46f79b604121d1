package dcap

import (
	"testing"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// judge verifies a vector and lets the default policy, which allows simulated
// roots, look at the claims.
func judge(v *Verifier, x *synthetic.Vector) []verdict.Check {
	r := v.Verify(x.Evidence, &format.Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots})
	if r.Claims == nil {
		return r.Checks
	}
	p := policy.Default()
	p.AllowSimulated = true
	return append(r.Checks, p.Appraise(r.Claims, policy.Demand{At: x.At, PlatformOnly: true})...)
}

func TestVectors(t *testing.T) {
	negative, names := 0, map[string]bool{}
	shared := &Verifier{}
	for _, x := range synthetic.DCAPVectors() {
		if names[x.Name] {
			t.Errorf("%s: two vectors of that name", x.Name)
		}
		names[x.Name] = true
		if x.Code != "" {
			negative++
		}
		fresh := judge(&Verifier{}, &x)
		judge(shared, &x)
		again := judge(shared, &x) // from memory
		for _, checks := range [][]verdict.Check{fresh, again} {
			found := false
			for _, k := range checks {
				switch {
				case k.Code == x.Code && k.Status == x.Status:
					found = true
				case x.Code == "" && k.Status != verdict.Passed && !k.Informal:
					t.Errorf("%s: %s %s: found %s, wanted %s", x.Name, k.Code, k.Status, k.Found, k.Wanted)
				case x.Status == verdict.NotMade && k.Status == verdict.Failed:
					t.Errorf("%s: %s failed: %s", x.Name, k.Code, k.Found)
				}
				if k.Status != verdict.Passed && (k.Found == "" || k.Status == verdict.Failed && k.Wanted == "") {
					t.Errorf("%s: %s %s says neither found nor wanted: %+v", x.Name, k.Code, k.Status, k)
				}
			}
			if x.Code != "" && !found {
				t.Errorf("%s: wanted %s %s, found %+v", x.Name, x.Code, x.Status, checks)
			}
			// What the vector is about decides: nothing else of a graver kind.
			want := verdict.Conclude([]verdict.Check{{Code: x.Code, Status: x.Status}})
			if x.Code == "" {
				want = verdict.Admitted
			}
			if got := verdict.Conclude(checks); got != want {
				t.Errorf("%s: found %s, wanted %s", x.Name, got, want)
			}
		}
	}
	if negative < 70 {
		t.Errorf("found %d negative vectors, wanted 70 or more", negative)
	}
	t.Logf("%d vectors, %d of them negative", len(names), negative)
}
