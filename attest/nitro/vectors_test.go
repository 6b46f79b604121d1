package nitro

import (
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func TestVectors(t *testing.T) {
	p := policy.Default()
	p.AllowSimulated = true
	vectors := synthetic.NitroVectors()
	v := new(Verifier)
	for _, c := range vectors {
		r := v.Verify(c.Evidence, &format.Options{At: c.At, Collateral: c.Collateral, SimulatedRoots: c.Roots})
		if c.Code == "" {
			for _, k := range r.Checks {
				if k.Status != c.Status {
					t.Errorf("%s: %+v", c.Name, k)
				}
			}
			continue
		}
		if r.Claims != nil {
			r.Add(p.Appraise(r.Claims, policy.Demand{At: c.At})...)
		}
		found := false
		for _, k := range r.Checks {
			found = found || k.Code == c.Code && k.Status == c.Status
		}
		if !found {
			t.Errorf("%s: wanted %s %s, found %+v", c.Name, c.Code, c.Status, r.Checks)
		}
		info, _ := verdict.Lookup(c.Code)
		want := map[verdict.Status]verdict.Outcome{verdict.NotMade: verdict.CannotTell, verdict.Failed: verdict.Refused}[c.Status]
		if c.Status == verdict.Failed && info.Kind == verdict.Genuineness {
			want = verdict.NotGenuine
		}
		if got := verdict.Conclude(r.Checks); want != "" && got != want {
			t.Errorf("%s: %s, wanted %s", c.Name, got, want)
		}
	}
	t.Logf("%d vectors", len(vectors))
}

// Under a named root claims say that it is simulated; a name alone is no pin.
func TestSimulatedRoot(t *testing.T) {
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	n, err := synthetic.NewNitro(at, nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := n.Document().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, named := range []bool{true, false} {
		o := &format.Options{At: at}
		if named {
			o.SimulatedRoots = []pki.Hash{n.Root()}
		}
		r := new(Verifier).Verify(doc, o)
		if (status(r, verdict.TrustedRoot) == verdict.Passed) != named || !r.Claims.Root.Simulated {
			t.Errorf("named %v: %+v, %+v", named, r.Checks, r.Claims.Root)
		}
	}
}
