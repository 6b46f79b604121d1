package attest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// genuine is one good vector of each of these TEEs with its claims.
func genuine(t *testing.T, tee string) (x synthetic.Vector, c *claims.Claims) {
	t.Helper()
	var v Verifier
	for _, x := range synthetics() {
		if x.Code != "" {
			continue
		}
		c := v.Verify(x.Evidence, Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots}).Claims
		if c == nil || c.TEE != tee || tee == SNP && (c.SNP.SigningKey != "vcek" || claims.Zero(c.SNP.ChipID)) || tee != Nitro && claims.Zero(c.HostData) {
			continue
		}
		return x, c
	}
	t.Fatalf("no good evidence of %s with host data", tee)
	return
}

// judged is the outcome by a policy text behind its head.
func judged(t *testing.T, x synthetic.Vector, text string) *verdict.Verdict {
	t.Helper()
	p, err := policy.Parse([]byte("version = 1\nfreshness = \"none\"\nallow_simulated = true\n" + text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return new(Verifier).Verify(x.Evidence, Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots, Policy: p})
}

// THREATS T1: genuine silicon, the host's own runtime, and host data that is allowed.
// Without a runtime that the policy pins the status is never 0, and with another
// runtime pinned it is refused.
func TestT01AllowedHostDataOwnRuntime(t *testing.T) {
	other := func(n int) string { return strings.Repeat("5e", n) }
	for _, c := range []struct {
		tee     string
		own     func(*claims.Claims) string // pins what was measured
		foreign string
		less    []string // less than the whole runtime
	}{
		{SNP, func(c *claims.Claims) string { return fmt.Sprintf("launch_digests = [%q]", c.SNP.LaunchDigest) }, fmt.Sprintf("launch_digests = [%q]", other(48)), nil},
		{TDX, func(c *claims.Claims) string {
			return fmt.Sprintf("[[tdx.measurements]]\nmrtd = %q\nrtmr0 = %q\nrtmr1 = %q\nrtmr2 = %q", c.TDX.MRTD, c.TDX.RTMR[0], c.TDX.RTMR[1], c.TDX.RTMR[2])
		}, fmt.Sprintf("[[tdx.measurements]]\nmrtd = %q\nrtmr0 = %[1]q\nrtmr1 = %[1]q\nrtmr2 = %[1]q", other(48)), nil},
		{SGX, func(c *claims.Claims) string { return fmt.Sprintf("enclaves = [%q]", c.SGX.MRENCLAVE) }, fmt.Sprintf("enclaves = [%q]", other(32)), nil},
	} {
		x, cl := genuine(t, c.tee)
		host := fmt.Sprintf("workloads = [%q]\n[%s]\n", claims.Hex(cl.HostData[:32]), c.tee)
		for _, w := range []struct {
			name, text string
			want       verdict.Outcome
		}{
			{"pinned", host + c.own(cl), verdict.Admitted},
			{"not pinned", host, verdict.CannotTell},
			{"another runtime", host + c.foreign, verdict.Refused},
			{"another workload", fmt.Sprintf("workloads = [%q]\n[%s]\n", other(32), c.tee) + c.own(cl), verdict.Refused},
			{"no workload named", "[" + c.tee + "]\n" + c.own(cl), verdict.CannotTell},
		} {
			if out := judged(t, x, w.text); out.Outcome != w.want {
				t.Errorf("%s, %s: %s, wanted %s\n%s", c.tee, w.name, out.Outcome, w.want, out.Text(nil))
			}
		}
		if _, err := policy.Parse([]byte("version = 1\n[" + c.tee + "]\n[[waive]]\ncheck = \"runtime-pinned\"\nreason = \"a test\"\n")); err == nil {
			t.Errorf("%s: that the runtime is pinned can be waived", c.tee)
		}
	}
}

// THREATS T11: a policy that names machines admits no other, and none that hides which
// one it is.
func TestT11NamedMachines(t *testing.T) {
	for _, c := range []struct {
		tee, key string
		id       func(*claims.Claims) claims.Hex
		pin      func(*claims.Claims) string
	}{
		{SNP, "chip_ids", func(c *claims.Claims) claims.Hex { return c.SNP.ChipID }, func(c *claims.Claims) string { return fmt.Sprintf("launch_digests = [%q]", c.SNP.LaunchDigest) }},
		{SGX, "platforms", func(c *claims.Claims) claims.Hex { return c.Intel.PlatformInstanceID }, func(c *claims.Claims) string { return fmt.Sprintf("enclaves = [%q]", c.SGX.MRENCLAVE) }},
		{SGX, "fmspcs", func(c *claims.Claims) claims.Hex { return c.Intel.FMSPC }, func(c *claims.Claims) string { return fmt.Sprintf("enclaves = [%q]", c.SGX.MRENCLAVE) }},
	} {
		x, cl := genuine(t, c.tee)
		id := c.id(cl)
		if len(id) == 0 {
			t.Fatalf("%s: no id for %s", c.tee, c.key)
		}
		other := slices.Clone(id)
		other[0] ^= 1
		head := fmt.Sprintf("workloads = [%q]\n[%s]\n%s\n", claims.Hex(cl.HostData[:32]), c.tee, c.pin(cl))
		for text, want := range map[string]verdict.Outcome{
			head + fmt.Sprintf("%s = [%q]", c.key, id):            verdict.Admitted,
			head + fmt.Sprintf("%s = [%q, %q]", c.key, other, id): verdict.Admitted,
			head + fmt.Sprintf("%s = [%q]", c.key, other):         verdict.Refused,
			head + c.key + " = []":                                verdict.Refused,
		} {
			out := judged(t, x, text)
			if out.Outcome != want {
				t.Errorf("%s: %s, wanted %s\n%s\n%s", c.tee, out.Outcome, want, text, out.Text(nil))
			}
			if want == verdict.Refused && !slices.ContainsFunc(out.Deciding(), func(k verdict.Check) bool { return k.Code == verdict.Platforms }) {
				t.Errorf("%s: refused, but not for its machine: %+v", c.tee, out.Deciding())
			}
		}
	}
	// A chip that hides its id is on no list.
	i := slices.IndexFunc(synthetics(), func(x synthetic.Vector) bool { return x.Name == "snp: good, hidden chip id" })
	if i < 0 {
		t.Fatal("no vector with a hidden chip id")
	}
	_, cl := genuine(t, SNP)
	if out := judged(t, synthetics()[i], fmt.Sprintf("[snp]\nchip_ids = [%q]", cl.SNP.ChipID)); out.Outcome != verdict.Refused {
		t.Errorf("a hidden chip id: %s\n%s", out.Outcome, out.Text(nil))
	}
	if _, err := policy.Parse([]byte(fmt.Sprintf("version = 1\n[snp]\nchip_ids = [%q]\n", strings.Repeat("00", 64)))); err == nil {
		t.Error("a policy may list a hidden chip id")
	}
}
