package advisory

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/snp"
)

// TestRealReports: what published hardware reports say. The claims are read here and
// not by a verifier: signatures are snp's business.
func TestRealReports(t *testing.T) {
	for _, c := range []struct {
		file, product string
		want          map[string]string
	}{
		{"milan-v2.report.bin", milan, map[string]string{
			"MilanLaunch": Exposed, "AMD-SB-3019": Exposed, "AMD-SB-3023": Exposed, "AMD-SB-3015": Exposed, "AMD-SB-3020": CannotTell, "AMD-SB-1033": Exposed}},
		{"milan-v3-vlek.report.bin", milan, map[string]string{ // firmware current, TCB not committed
			"MilanLaunch": Exposed, "AMD-SB-3019": Exposed, "AMD-SB-3015": Fixed, "AMD-SB-3016": Exposed, "AMD-SB-3034": CannotTell, "AMD-SB-3027": CannotTell}},
		{"turin-v5.report.bin", turin, map[string]string{
			"AMD-SB-3020": Fixed, "AMD-SB-3023": Fixed, "AMD-SB-3027": Fixed, "AMD-SB-3034": CannotTell, "AMD-SB-1033": Exposed, "TEE.fail": CannotTell}},
	} {
		r, err := snp.ParseReport(published.Read(t, "snp/"+c.file))
		if err != nil {
			t.Fatal(err)
		}
		s := &claims.SNPClaims{
			ReportVersion: r.Version, Product: c.product, Family: r.CPUFamily, Model: r.CPUModel, Stepping: r.CPUStepping, GuestPolicy: r.Policy, PlatformInfo: r.PlatformInfo,
			CurrentVersion: fmt.Sprintf("%d.%d.%d", r.CurrentMajor, r.CurrentMinor, r.CurrentBuild), CommittedVersion: fmt.Sprintf("%d.%d.%d", r.CommittedMajor, r.CommittedMinor, r.CommittedBuild),
		}
		for to, tcb := range map[*claims.SNPTCB]snp.TCB{&s.Reported: r.ReportedTCB, &s.Committed: r.CommittedTCB, &s.Current: r.CurrentTCB, &s.Launch: r.LaunchTCB} {
			b := binary.LittleEndian.AppendUint64(nil, uint64(tcb))
			*to = claims.SNPTCB{BootLoader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
			if c.product == turin {
				*to = claims.SNPTCB{FMC: &b[0], BootLoader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
			}
		}
		if r.Version >= 5 {
			s.LaunchMitigations, s.CurrentMitigations = &r.LaunchMitigate, &r.CurrentMitigate
		}
		for id, want := range c.want {
			if a := of(t, &claims.Claims{TEE: claims.SNP, SNP: s}, id); a.State != want {
				t.Errorf("%s, %s: found %s (%s), wanted %s", c.file, id, a.State, a.Why, want)
			}
		}
	}
}
