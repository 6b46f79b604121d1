package policy

import (
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// THREATS T23: host data with anything behind a digest of 32 bytes names no workload.
// A policy that names workloads refuses it, whatever its first 32 bytes are; under
// one that names none the check is not made, and never passed.
func TestT23LongHostData(t *testing.T) {
	for _, c := range []struct {
		name, toml string
		long, keep bool
		binding    verdict.Status
		workload   verdict.Status
	}{
		{"a digest, wanted", "workloads = [" + hexes(32, 5) + "]\n", false, false, verdict.Passed, verdict.Passed},
		{"a digest, another wanted", "workloads = [" + hexes(32, 6) + "]\n", false, false, verdict.Passed, verdict.Failed},
		{"a digest, none named", "", false, false, verdict.Passed, verdict.NotMade},
		{"longer, its start wanted", "workloads = [" + hexes(32, 5) + "]\n", true, false, verdict.Failed, "absent"},
		{"longer, nothing admitted", "workloads = []\n", true, false, verdict.Failed, "absent"},
		{"longer, none named", "", true, false, verdict.NotMade, "absent"},
		{"longer, of a Keep, none named", "", true, true, verdict.Failed, "absent"},
	} {
		p, err := Parse([]byte("version = 1\nfreshness = \"none\"\n" + c.toml + "[sgx]\nenclaves = [" + hexes(32, 1) + "]\n"))
		if err != nil {
			t.Fatal(c.name, err)
		}
		e := goodEnclave()
		e.HostData = append(h(32, 5), make([]byte, 32)...)
		if c.long {
			e.HostData[40] = 1
		}
		if c.keep {
			e.Keep = &claims.Keep{Purpose: "file"}
		}
		got := p.Appraise(e, Demand{})
		if b, w := status(got, verdict.WorkloadBinding), status(got, verdict.Workload); b != c.binding || w != c.workload {
			t.Errorf("%s: workload-binding %s, workload %s, wanted %s, %s", c.name, b, w, c.binding, c.workload)
		}
		// Not even where the platform alone is judged does it pass.
		if c.long {
			for _, k := range p.Appraise(e, Demand{PlatformOnly: true}) {
				if k.Code == verdict.WorkloadBinding && (k.Status != c.binding || k.Informal != (c.binding == verdict.NotMade)) {
					t.Errorf("%s, platform only: %+v", c.name, k)
				}
			}
		}
	}
}
