package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

const tpmHead = "version = 1\nfreshness = \"none\"\n"

// pcrOf is a register's value, all of one byte.
func pcrOf(b byte, size int) claims.Hex {
	out := make(claims.Hex, size)
	for i := range out {
		out[i] = b
	}
	return out
}

func quotedPCR(b byte, size int) string { return `"` + pcrOf(b, size).String() + `"` }

func tpmStatus(checks []verdict.Check, c verdict.Code) verdict.Status {
	for _, k := range checks {
		if k.Code == c {
			return k.Status
		}
	}
	return ""
}

// worst is the first check with that code that did not pass, or else any.
func worst(checks []verdict.Check, c verdict.Code) verdict.Check {
	var out verdict.Check
	for _, k := range checks {
		if k.Code == c && (out.Code == "" || out.Status == verdict.Passed) {
			out = k
		}
	}
	return out
}

func tpmPolicy(t *testing.T, s string) *Policy {
	t.Helper()
	p, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tpmClaims(tee string) *claims.Claims {
	return &claims.Claims{TEE: tee, Nonce: claims.Hex{}, TPM: &claims.TPMClaims{
		Bank: "sha256", AKSHA256: pcrOf(0xaa, 32),
		PCRs: map[int]claims.Hex{0: pcrOf(1, 32), 4: pcrOf(4, 32), 7: pcrOf(7, 32), 8: pcrOf(0, 32), 9: pcrOf(9, 32), 11: pcrOf(0, 32)},
	}}
}

func TestTPMSection(t *testing.T) {
	v := func(b byte) string { return quotedPCR(b, 32) }
	all := `"0"=[` + v(1) + `], "4"=[` + v(4) + `], "9"=[` + v(9) + `]`
	for _, c := range []struct {
		name, section string
		code          verdict.Code
		status        verdict.Status
	}{
		{"nothing named", "", verdict.RuntimePinned, verdict.NotMade},
		{"firmware, loader and kernel", "pcrs={" + all + "}", verdict.RuntimePinned, verdict.Passed},
		{"one of several values", `pcrs={"0"=[` + v(1) + `], "4"=[` + v(3) + `,` + v(4) + `], "9"=[` + v(9) + `]}`, verdict.RuntimePinned, verdict.Passed},
		{"no firmware", `pcrs={"4"=[` + v(4) + `], "9"=[` + v(9) + `]}`, verdict.RuntimePinned, verdict.NotMade},
		{"a loader alone", `pcrs={"0"=[` + v(1) + `], "4"=[` + v(4) + `]}`, verdict.RuntimePinned, verdict.NotMade},
		{"a kernel alone", `pcrs={"0"=[` + v(1) + `], "9"=[` + v(9) + `]}`, verdict.RuntimePinned, verdict.NotMade},
		{"Secure Boot alone", `pcrs={"7"=[` + v(7) + `]}`, verdict.RuntimePinned, verdict.NotMade},
		{"zeros named", `pcrs={"0"=[` + v(1) + `], "4"=[` + v(4) + `], "11"=[` + v(0) + `]}`, verdict.RuntimePinned, verdict.NotMade},
		{"another loader", `pcrs={"0"=[` + v(1) + `], "4"=[` + v(5) + `], "9"=[` + v(9) + `]}`, verdict.PCRs, verdict.Failed},
		{"an empty list", `pcrs={"4"=[]}`, verdict.PCRs, verdict.Failed},
		{"a register not quoted", `pcrs={"5"=[` + v(5) + `]}`, verdict.PCRs, verdict.Failed},
		{"another bank", "bank=\"sha384\"", verdict.PCRs, verdict.Failed},
		{"key named", "attestation_keys=[" + v(0xaa) + "]", verdict.AKEndorsed, verdict.Passed},
		{"another key named", "attestation_keys=[" + v(0xab) + "]", verdict.Platforms, verdict.Failed},
		{"no key named", "attestation_keys=[]", verdict.Platforms, verdict.Failed},
	} {
		p := tpmPolicy(t, tpmHead+"[tpm]\n"+c.section)
		got := p.Appraise(tpmClaims(claims.TPM), Demand{})
		if k := worst(got, c.code); k.Status != c.status {
			t.Errorf("%s: wanted %s %s, found %+v", c.name, c.code, c.status, got)
		}
		if want := map[bool]verdict.Outcome{true: verdict.Refused, false: verdict.CannotTell}[c.status == verdict.Failed]; verdict.Conclude(got) != want {
			t.Errorf("%s: %s, wanted %s", c.name, verdict.Conclude(got), want) // host data is never there
		}
		if tpmStatus(got, verdict.WorkloadBinding) != verdict.NotMade {
			t.Errorf("%s: workload-binding %s", c.name, tpmStatus(got, verdict.WorkloadBinding))
		}
	}
}

// A composite needs both sections, and firmware is the TEE's to pin.
func TestTPMBesideTEE(t *testing.T) {
	section := `[tpm]` + "\n" + `pcrs={"4"=[` + quotedPCR(4, 32) + `], "9"=[` + quotedPCR(9, 32) + `]}` + "\n"
	c := tpmClaims(claims.SNP)
	c.SNP = &claims.SNPClaims{}
	c.TPM.Endorsed = "report"
	got := tpmPolicy(t, tpmHead+"[snp]\n").Appraise(c, Demand{})
	if k := worst(got, verdict.TEEAdmitted); k.Status != verdict.Failed {
		t.Errorf("no section [tpm]: %+v", got)
	}
	got = tpmPolicy(t, tpmHead+section).Appraise(c, Demand{})
	if k := worst(got, verdict.TEEAdmitted); k.Status != verdict.Failed {
		t.Errorf("no section [snp]: %+v", got)
	}
	got = tpmPolicy(t, tpmHead+section+"[snp]\n").Appraise(c, Demand{})
	pinned := 0
	for _, k := range got {
		if k.Code == verdict.RuntimePinned && strings.HasPrefix(k.Found, "by PCR 4 and 9") && k.Status == verdict.Passed {
			pinned++
		}
	}
	if pinned != 1 {
		t.Errorf("the quote pins the guest: %+v", got)
	}
	// The report endorses the key: a list that names it says nothing more.
	got = tpmPolicy(t, tpmHead+"[snp]\n[tpm]\nattestation_keys=["+quotedPCR(0xaa, 32)+"]\n").Appraise(c, Demand{})
	if tpmStatus(got, verdict.Platforms) == "" || tpmStatus(got, verdict.AKEndorsed) != "" {
		t.Errorf("found %+v", got)
	}
}

func nitroClaims(at time.Time, debug bool) *claims.Claims {
	c := &claims.Claims{TEE: claims.Nitro, Nonce: claims.Hex{}, Nitro: &claims.NitroClaims{ModuleID: "i-1-enc2", Timestamp: at, Debug: debug, PCRs: map[int]claims.Hex{}}}
	for i := range 16 {
		c.Nitro.PCRs[i] = pcrOf(0, 48)
		if i < 3 && !debug {
			c.Nitro.PCRs[i] = pcrOf(byte(i+1), 48)
		}
	}
	return c
}

func TestNitroSection(t *testing.T) {
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	v := func(b byte) string { return quotedPCR(b, 48) }
	for _, c := range []struct {
		name, section string
		made          time.Time
		debug         bool
		code          verdict.Code
		status        verdict.Status
	}{
		{"nothing named", "", at, false, verdict.RuntimePinned, verdict.NotMade},
		{"image", `pcrs={"0"=[` + v(1) + `]}`, at, false, verdict.RuntimePinned, verdict.Passed},
		{"kernel and application", `pcrs={"1"=[` + v(2) + `],"2"=[` + v(3) + `]}`, at, false, verdict.RuntimePinned, verdict.Passed},
		{"application alone", `pcrs={"2"=[` + v(3) + `]}`, at, false, verdict.RuntimePinned, verdict.NotMade},
		{"signer alone", `pcrs={"8"=[` + v(0) + `]}`, at, false, verdict.RuntimePinned, verdict.NotMade},
		{"another image", `pcrs={"0"=[` + v(9) + `]}`, at, false, verdict.PCRs, verdict.Failed},
		{"a register that is not there", `pcrs={"16"=[` + v(0) + `]}`, at, false, verdict.PCRs, verdict.Failed},
		{"debug", "", at, true, verdict.Debug, verdict.Failed},
		{"debug allowed", "allow_debug=true", at, true, verdict.Debug, verdict.Passed},
		{"debug allowed, zeros named", "allow_debug=true\npcrs={\"0\"=[" + v(0) + "]}", at, true, verdict.RuntimePinned, verdict.NotMade},
		{"young", "max_age=\"1h\"", at.Add(-time.Hour), false, verdict.Age, verdict.Passed},
		{"old", "max_age=\"1h\"", at.Add(-time.Hour - time.Second), false, verdict.Age, verdict.Failed},
		{"clock ahead", "max_age=\"1h\"", at.Add(4 * time.Minute), false, verdict.Age, verdict.Passed},
		{"from the future", "max_age=\"1h\"", at.Add(6 * time.Minute), false, verdict.Age, verdict.Failed},
		{"any age", "", at.AddDate(-9, 0, 0), false, verdict.Age, ""},
		{"module", `module_ids=["i-1-enc2"]`, at, false, verdict.Platforms, verdict.Passed},
		{"another module", `module_ids=["i-1-enc3"]`, at, false, verdict.Platforms, verdict.Failed},
		{"no module", `module_ids=[]`, at, false, verdict.Platforms, verdict.Failed},
	} {
		got := tpmPolicy(t, tpmHead+"[nitro]\n"+c.section).Appraise(nitroClaims(c.made, c.debug), Demand{At: at})
		if k := worst(got, c.code); k.Status != c.status {
			t.Errorf("%s: wanted %s %s, found %+v", c.name, c.code, c.status, got)
		}
		if want := map[bool]verdict.Outcome{true: verdict.Refused, false: verdict.CannotTell}[c.status == verdict.Failed]; verdict.Conclude(got) != want {
			t.Errorf("%s: %s, wanted %s", c.name, verdict.Conclude(got), want)
		}
	}
	// With what else such evidence cannot have waived by name, it is admitted.
	p := tpmPolicy(t, tpmHead+"[nitro]\npcrs={\"0\"=["+v(1)+"]}\n[[waive]]\ncheck=\"workload-binding\"\nreason=\"the image is the workload\"\n")
	got := p.Appraise(nitroClaims(at, false), Demand{At: at})
	p.ApplyWaivers(got)
	if verdict.Conclude(got) != verdict.Admitted {
		t.Errorf("found %+v", got)
	}
}

func TestTPMAndNitroForm(t *testing.T) {
	for _, s := range []string{
		"[tpm]\nbank=\"sha1\"", "[tpm]\npcrs={\"24\"=[]}", "[tpm]\npcrs={\"04\"=[]}", "[tpm]\npcrs={\"-1\"=[]}", "[tpm]\npcrs={\"x\"=[]}",
		"[tpm]\npcrs={\"4\"=[\"aa\"]}", "[tpm]\npcrs={\"4\"=[" + quotedPCR(1, 48) + "]}", "[tpm]\npcrs={\"4\"=" + quotedPCR(1, 32) + "}",
		"[tpm]\nbank=\"sha384\"\npcrs={\"4\"=[" + quotedPCR(1, 32) + "]}", "[tpm]\nattestation_keys=[\"aa\"]", "[tpm]\nunknown=1",
		"[nitro]\npcrs={\"32\"=[]}", "[nitro]\npcrs={\"0\"=[" + quotedPCR(1, 32) + "]}", "[nitro]\nmodule_ids=[\"\"]", "[nitro]\nmax_age=\"-1h\"", "[nitro]\ndebug=true",
	} {
		if _, err := Parse([]byte(tpmHead + s)); err == nil {
			t.Errorf("%q: parsed", s)
		}
	}
	for name, p := range map[string]string{"tpm": "[tpm]\npcrs={\"11\"=[" + quotedPCR(1, 32) + "],\"4\"=[]}", "nitro": "[nitro]\nallow_debug=true\nmax_age=\"5m\"\nmodule_ids=[\"a\"]"} {
		lines := strings.Join(tpmPolicy(t, tpmHead+p).sections()[name].describe(), "\n")
		for _, want := range map[string][]string{"tpm": {"PCR 4 is nothing: the list is empty\nPCR 11 is 0101"}, "nitro": {"debug mode is allowed", "5m0s", "1 listed", "no register"}}[name] {
			if !strings.Contains(lines, want) {
				t.Errorf("%s: found %q, wanted %q", name, lines, want)
			}
		}
	}
}
