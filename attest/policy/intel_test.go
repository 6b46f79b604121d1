package policy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func h(n int, fill byte) claims.Hex { return bytes.Repeat([]byte{fill}, n) }

func le64(v uint64) claims.Hex { return binary.LittleEndian.AppendUint64(nil, v) }

func goodTD() *claims.Claims {
	return &claims.Claims{TEE: claims.TDX, TDX: &claims.TDXClaims{
		QuoteVersion: 5, BodyType: 3, TEETCBSVN: append(claims.Hex{7, 1}, h(14, 0)...), TEETCBSVN2: append(claims.Hex{7, 1}, h(14, 0)...),
		MRSEAM: h(48, 9), MRSignerSEAM: h(48, 0), SEAMAttributes: h(8, 0), TDAttributes: le64(1 << 28), XFAM: le64(0x602e7),
		MRTD: h(48, 1), MRConfigID: h(48, 0), MROwner: h(48, 3), MROwnerConfig: h(48, 4), MRServiceTD: h(48, 0),
		RTMR: [4]claims.Hex{h(48, 10), h(48, 11), h(48, 12), h(48, 13)},
	}, Intel: goodIntel()}
}

func goodEnclave() *claims.Claims {
	return &claims.Claims{TEE: claims.SGX, SGX: &claims.SGXClaims{
		QuoteVersion: 3, Attributes: append(le64(0x5), le64(0x602e7)...), MRENCLAVE: h(32, 1), MRSIGNER: h(32, 2), ISVProdID: 7, ISVSVN: 3,
		ConfigID: h(64, 5), ConfigSVN: 2, FamilyID: h(16, 0), ExtProdID: h(16, 0),
	}, Intel: goodIntel()}
}

func goodIntel() *claims.IntelPlatform {
	no := false
	return &claims.IntelPlatform{FMSPC: h(6, 0x60), PCEID: h(2, 0), PlatformInstanceID: h(16, 0x70), DynamicPlatform: &no, SMTEnabled: &no,
		PlatformStatus: "UpToDate", QEStatus: "UpToDate", Status: "UpToDate", Evaluation: 18, QEEvaluation: 17}
}

func hexes(n int, fill byte) string { return `"` + strings.Repeat(fmt.Sprintf("%02x", fill), n) + `"` }

func tdMeasured(extra string) string {
	return "version = 1\n[tdx]\n" + extra + "\n[[tdx.measurements]]\nmrtd = " + hexes(48, 1) + "\nrtmr0 = " + hexes(48, 10) + "\nrtmr1 = " + hexes(48, 11) + "\nrtmr2 = " + hexes(48, 12) + "\n"
}

func enclave(extra string) string {
	return "version = 1\n[sgx]\nenclaves = [" + hexes(32, 1) + "]\n" + extra + "\n"
}

// TestT01T22IntelSections judges claims by policies and looks for the one check
// that is not passed; "" where all pass.
func TestT01T22IntelSections(t *testing.T) {
	td := func(f func(*claims.Claims)) *claims.Claims { c := goodTD(); f(c); return c }
	sgx := func(f func(*claims.Claims)) *claims.Claims { c := goodEnclave(); f(c); return c }
	same := func(*claims.Claims) {}
	for _, c := range []struct {
		name, toml string
		claims     *claims.Claims
		code       verdict.Code
		status     verdict.Status
	}{
		{"td", tdMeasured(""), td(same), "", ""},
		{"td unpinned", "version = 1\n[tdx]\n", td(same), verdict.RuntimePinned, verdict.NotMade},
		{"td no measurements", "version = 1\n[tdx]\nmeasurements = []\n", td(same), verdict.RuntimePinned, verdict.Failed},
		{"td other mrtd", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.MRTD[0]++ }), verdict.RuntimePinned, verdict.Failed},
		{"td other rtmr0", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.RTMR[0][47]++ }), verdict.RuntimePinned, verdict.Failed},
		{"td other rtmr1", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.RTMR[1][0]++ }), verdict.RuntimePinned, verdict.Failed},
		{"td other rtmr2", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.RTMR[2][0]++ }), verdict.RuntimePinned, verdict.Failed},
		{"td rtmr3 free", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.RTMR[3][0]++ }), "", ""},
		{"td rtmr3 pinned", tdMeasured("") + "rtmr3 = " + hexes(48, 13), td(func(c *claims.Claims) { c.TDX.RTMR[3][0]++ }), verdict.RuntimePinned, verdict.Failed},
		{"td debug", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.TDAttributes[0] = 1 }), verdict.Debug, verdict.Failed},
		{"td any tud bit", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.TDAttributes[0] = 0x80 }), verdict.Debug, verdict.Failed},
		{"td debug allowed", tdMeasured("allow_debug = true"), td(func(c *claims.Claims) { c.TDX.TDAttributes[0] = 1 }), "", ""},
		{"td sept ve", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.TDAttributes = le64(0) }), verdict.Attributes, verdict.Failed},
		{"td migratable", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.TDAttributes = le64(1<<28 | 1<<29) }), verdict.Migration, verdict.Failed},
		{"td migratable tdx 1.0", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.TDAttributes = le64(1<<28 | 1<<29); c.TDX.MRServiceTD = nil }), verdict.Migration, verdict.Failed},
		{"td migratable named", tdMeasured("service_tds = [" + hexes(48, 8) + "]"), td(func(c *claims.Claims) { c.TDX.TDAttributes = le64(1<<28 | 1<<29); c.TDX.MRServiceTD = h(48, 8) }), "", ""},
		{"td service td", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.MRServiceTD = h(48, 8) }), verdict.ServiceTD, verdict.Failed},
		{"td mrsignerseam", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.MRSignerSEAM[5] = 1 }), verdict.SEAMModule, verdict.Failed},
		{"td seamattributes", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.SEAMAttributes[0] = 1 }), verdict.SEAMModule, verdict.Failed},
		{"td unknown attribute", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.TDAttributes = le64(1<<28 | 1<<20) }), verdict.Attributes, verdict.Failed},
		{"td attribute allowed", tdMeasured("attributes_allowed = 0x100000"), td(func(c *claims.Claims) { c.TDX.TDAttributes = le64(1<<28 | 1<<20) }), "", ""},
		{"td xfam", tdMeasured(""), td(func(c *claims.Claims) { c.TDX.XFAM = le64(1<<10 | 3) }), verdict.Attributes, verdict.Failed},
		{"td module svn", tdMeasured("min_module_svn = 8"), td(same), verdict.SEAMModule, verdict.Failed},
		{"td module svn now", tdMeasured("min_module_svn = 7"), td(func(c *claims.Claims) { c.TDX.TEETCBSVN2[0] = 6 }), verdict.SEAMModule, verdict.Failed},
		{"td module version", tdMeasured("min_module_version = 2"), td(same), verdict.SEAMModule, verdict.Failed},
		{"td mrseam", tdMeasured("mrseams = [" + hexes(48, 1) + "]"), td(same), verdict.SEAMModule, verdict.Failed},
		{"td owner", tdMeasured("mrowners = [" + hexes(48, 1) + "]"), td(same), verdict.Attributes, verdict.Failed},
		{"td owner config", tdMeasured("mrownerconfigs = []"), td(same), verdict.Attributes, verdict.Failed},
		{"enclave", enclave(""), sgx(same), "", ""},
		{"enclave unpinned", "version = 1\n[sgx]\n", sgx(same), verdict.RuntimePinned, verdict.NotMade},
		{"enclave empty", "version = 1\n[sgx]\nenclaves = []\n", sgx(same), verdict.RuntimePinned, verdict.Failed},
		{"enclave other", enclave(""), sgx(func(c *claims.Claims) { c.SGX.MRENCLAVE[0]++ }), verdict.RuntimePinned, verdict.Failed},
		{"signer", "version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2) + "\nprod_id = 7\nmin_svn = 3\n", sgx(same), "", ""},
		{"signer old", "version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2) + "\nprod_id = 7\nmin_svn = 4\n", sgx(same), verdict.RuntimePinned, verdict.Failed},
		{"signer product", "version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2) + "\nprod_id = 8\nmin_svn = 3\n", sgx(same), verdict.RuntimePinned, verdict.Failed},
		{"enclave debug", enclave(""), sgx(func(c *claims.Claims) { c.SGX.Attributes[0] |= 2 }), verdict.Debug, verdict.Failed},
		{"enclave debug allowed", enclave("allow_debug = true"), sgx(func(c *claims.Claims) { c.SGX.Attributes[0] |= 2 }), "", ""},
		{"enclave provision", enclave("allow_debug = true"), sgx(func(c *claims.Claims) { c.SGX.Attributes[0] |= 0x10 }), verdict.Attributes, verdict.Failed},
		{"enclave einittoken", enclave(""), sgx(func(c *claims.Claims) { c.SGX.Attributes[0] |= 0x20 }), verdict.Attributes, verdict.Failed},
		{"enclave not init", enclave(""), sgx(func(c *claims.Claims) { c.SGX.Attributes[0] &^= 1 }), verdict.Attributes, verdict.Failed},
		{"enclave 32 bit", enclave(""), sgx(func(c *claims.Claims) { c.SGX.Attributes[0] &^= 4 }), verdict.Attributes, verdict.Failed},
		{"enclave unknown bit", enclave(""), sgx(func(c *claims.Claims) { c.SGX.Attributes[3] = 1 }), verdict.Attributes, verdict.Failed},
		{"enclave xfrm", enclave("xfrm_allowed = 3"), sgx(same), verdict.Attributes, verdict.Failed},
		{"enclave misc", enclave(""), sgx(func(c *claims.Claims) { c.SGX.MiscSelect = 4 }), verdict.Attributes, verdict.Failed},
		{"enclave config id", enclave("config_ids = [" + hexes(64, 6) + "]"), sgx(same), verdict.Attributes, verdict.Failed},
		{"enclave config svn", enclave("min_config_svn = 3"), sgx(same), verdict.Attributes, verdict.Failed},
		{"status", enclave(""), sgx(func(c *claims.Claims) { c.Intel.Status = "OutOfDate" }), verdict.TCBStatus, verdict.Failed},
		{"status accepted", enclave(`statuses = ["OutOfDate"]`), sgx(func(c *claims.Claims) { c.Intel.Status = "OutOfDate" }), "", ""},
		{"status list excludes UpToDate", enclave(`statuses = ["OutOfDate"]`), sgx(same), verdict.TCBStatus, verdict.Failed},
		{"status empty list", enclave(`statuses = []`), sgx(same), verdict.TCBStatus, verdict.Failed},
		{"status unknown", enclave(""), sgx(func(c *claims.Claims) { c.Intel.Status = "Splendid" }), verdict.TCBStatus, verdict.Failed},
		{"status revoked", enclave(""), sgx(func(c *claims.Claims) { c.Intel.Status = "Revoked" }), verdict.TCBStatus, verdict.Failed},
		{"status unsupported", enclave(""), sgx(func(c *claims.Claims) { c.Intel.Status = "NotSupported" }), verdict.TCBStatus, verdict.Failed},
		{"status absent", enclave(""), sgx(func(c *claims.Claims) { c.Intel.Status = "" }), verdict.TCBStatus, verdict.NotMade},
		{"no platform", enclave(""), sgx(func(c *claims.Claims) { c.Intel = nil }), verdict.TCBStatus, verdict.NotMade},
		{"advisory", enclave(""), sgx(func(c *claims.Claims) { c.Intel.AdvisoryIDs = []string{"INTEL-SA-00615"} }), verdict.Advisories, verdict.Failed},
		{"advisory accepted", enclave(`advisories = ["INTEL-SA-00615"]`), sgx(func(c *claims.Claims) { c.Intel.AdvisoryIDs = []string{"INTEL-SA-00615"} }), "", ""},
		{"advisory one of two", enclave(`advisories = ["INTEL-SA-00615"]`), sgx(func(c *claims.Claims) { c.Intel.AdvisoryIDs = []string{"INTEL-SA-00614", "INTEL-SA-00615"} }), verdict.Advisories, verdict.Failed},
		{"evaluation number", enclave("min_evaluation_number = 17"), sgx(same), "", ""},
		{"evaluation number of the QE", enclave("min_evaluation_number = 18"), sgx(same), verdict.EvaluationNumber, verdict.Failed},
		{"evaluation number unknown", enclave("min_evaluation_number = 17"), sgx(func(c *claims.Claims) { c.Intel.QEStatus = "" }), verdict.EvaluationNumber, verdict.NotMade},
		{"fmspc", enclave("fmspcs = [" + hexes(6, 0x61) + "]"), sgx(same), verdict.Platforms, verdict.Failed},
		{"fmspc good", enclave("fmspcs = [" + hexes(6, 0x60) + "]"), sgx(same), "", ""},
		{"platform", enclave("platforms = []"), sgx(same), verdict.Platforms, verdict.Failed},
		{"platform without id", enclave("platforms = [" + hexes(16, 0) + "]"), sgx(func(c *claims.Claims) { c.Intel.PlatformInstanceID = nil }), verdict.Platforms, verdict.Failed},
		{"dynamic", enclave("forbid_dynamic_platform = true"), sgx(func(c *claims.Claims) { *c.Intel.DynamicPlatform = true }), verdict.Platforms, verdict.Failed},
		{"smt", enclave("forbid_smt = true"), sgx(func(c *claims.Claims) { *c.Intel.SMTEnabled = true }), verdict.Platforms, verdict.Failed},
		{"smt unknown", enclave("forbid_smt = true"), sgx(func(c *claims.Claims) { c.Intel.SMTEnabled = nil }), verdict.Platforms, verdict.NotMade},
	} {
		p, err := Parse([]byte(c.toml))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		s := p.sections()[c.claims.TEE]
		var bad []verdict.Check
		for _, k := range s.appraise(c.claims, Demand{}, p) {
			if info, ok := verdict.Lookup(k.Code); !ok || info.Kind != verdict.Admission {
				t.Errorf("%s: the code %q is of no use here", c.name, k.Code)
			}
			if k.Status != verdict.Passed {
				bad = append(bad, k)
			}
		}
		switch {
		case c.code == "" && len(bad) > 0:
			t.Errorf("%s: found %v, wanted every check to pass", c.name, bad)
		case c.code != "" && (len(bad) != 1 || bad[0].Code != c.code || bad[0].Status != c.status):
			t.Errorf("%s: found %v, wanted %s %s alone", c.name, bad, c.code, c.status)
		}
		if len(s.describe()) < 3 {
			t.Errorf("%s: %v", c.name, s.describe())
		}
	}
}

func TestIntelSectionsRefuse(t *testing.T) {
	for name, c := range map[string]struct{ toml, want string }{
		"typo in a status":       {enclave(`statuses = ["UptoDate"]`), "statuses"},
		"revoked":                {enclave(`statuses = ["Revoked"]`), "statuses"},
		"not supported":          {enclave(`statuses = ["NotSupported"]`), "statuses"},
		"unknown key":            {enclave("allow_debugging = true"), "allow_debugging"},
		"signer alone":           {"version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2), "signers"},
		"signer without svn":     {"version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2) + "\nprod_id = 1", "signers"},
		"short enclave":          {"version = 1\n[sgx]\nenclaves = [" + hexes(31, 2) + "]", "enclaves"},
		"mrtd alone":             {"version = 1\n[[tdx.measurements]]\nmrtd = " + hexes(48, 2), "measurements"},
		"without rtmr2":          {"version = 1\n[[tdx.measurements]]\nmrtd = " + hexes(48, 2) + "\nrtmr0 = " + hexes(48, 2) + "\nrtmr1 = " + hexes(48, 2), "rtmr2"},
		"zero service td":        {tdMeasured("service_tds = [" + hexes(48, 0) + "]"), "service_tds"},
		"short fmspc":            {enclave("fmspcs = [" + hexes(5, 0) + "]"), "fmspcs"},
		"short platform":         {enclave("platforms = [" + hexes(6, 0) + "]"), "platforms"},
		"negative product":       {"version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2) + "\nprod_id = -1\nmin_svn = 0", ""},
		"product past 16 bits":   {"version = 1\n[[sgx.signers]]\nmrsigner = " + hexes(32, 2) + "\nprod_id = 65536\nmin_svn = 0", ""},
		"empty advisory":         {enclave(`advisories = [""]`), "advisories"},
		"config id of 32 bytes":  {enclave("config_ids = [" + hexes(32, 0) + "]"), "config_ids"},
		"negative misc mask":     {enclave("misc_select_allowed = -1"), ""},
		"service td of 32 bytes": {tdMeasured("service_tds = [" + hexes(32, 1) + "]"), "service_tds"},
	} {
		if _, err := Parse([]byte(c.toml)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, wanted an error about %q", name, err, c.want)
		}
	}
}
