package synthetic

import (
	"slices"
	"testing"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// judge verifies and then asks the default policy, with simulated roots allowed, as a
// user of the vectors would.
func judge(v *snp.Verifier, x Vector) (format.Result, []verdict.Check) {
	res := v.Verify(x.Evidence, &format.Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots})
	checks := slices.Clone(res.Checks)
	if res.Claims != nil {
		p := policy.Default()
		p.AllowSimulated = true
		checks = append(checks, p.Appraise(res.Claims, policy.Demand{At: x.At, PlatformOnly: true})...)
	}
	return res, checks
}

func TestSNPVectors(t *testing.T) {
	var v snp.Verifier
	negative, seen := 0, map[string]bool{}
	for _, x := range SNPVectors() {
		if seen[x.Name] {
			t.Errorf("%s: the name stands twice", x.Name)
		}
		seen[x.Name] = true
		res, checks := judge(&v, x)
		outcome := verdict.Conclude(checks)
		if x.Code == "" {
			if outcome != verdict.Admitted || res.Claims == nil || !res.Claims.Root.Simulated {
				t.Errorf("%s: found %s, wanted admitted: %+v", x.Name, outcome, checks)
			}
			continue
		}
		negative++
		info, ok := verdict.Lookup(x.Code)
		want := verdict.CannotTell
		switch {
		case !ok:
			t.Errorf("%s: no such code, %s", x.Name, x.Code)
		case x.Status == verdict.Failed && info.Kind == verdict.Genuineness:
			want = verdict.NotGenuine
		case x.Status == verdict.Failed:
			want = verdict.Refused
		}
		if outcome != want {
			t.Errorf("%s: found %s, wanted %s: %+v", x.Name, outcome, want, checks)
		}
		decided := false
		for _, c := range checks {
			decided = decided || c.Code == x.Code && c.Status == x.Status && c.Found != "" && c.Source != ""
		}
		if !decided {
			t.Errorf("%s: no check %s %s with what was found and its source: %+v", x.Name, x.Code, x.Status, checks)
		}
	}
	if negative < 60 {
		t.Errorf("found %d negative vectors, wanted 60 or more", negative)
	}
	t.Logf("%d negative vectors of %d", negative, len(seen))
}

func TestEncodeSNPReport(t *testing.T) {
	a := &AMD{Product: snp.Turin}
	for version := uint32(2); version <= 5; version++ {
		want := a.Report(version)
		want.FamilyID[1], want.ImageID[2], want.IDKeyDigest[3], want.AuthorKeyDigest[4] = 1, 2, 3, 4
		want.CurrentTCB, want.CommittedTCB, want.LaunchTCB = 1, 2, 3
		got, err := snp.ParseReport(EncodeSNPReport(want))
		if err != nil || got != want {
			t.Errorf("version %d: found %+v, %v", version, got, err)
		}
	}
}

func TestTable(t *testing.T) {
	a, err := NewAMD(AMDOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := a.Report(5)
	k, err := a.Endorse(a.VCEK(r))
	if err != nil {
		t.Fatal(err)
	}
	set, err := snp.CertTableCollateral(a.Table(k, false))
	if err != nil || len(set.Certificates) != 3 || !set.Certificates[0].Equal(k.Certificate) {
		t.Fatalf("found %+v, %v", set, err)
	}
}
