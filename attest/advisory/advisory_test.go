package advisory

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func of(t *testing.T, c *claims.Claims, id string) verdict.Advisory {
	t.Helper()
	var out []verdict.Advisory
	for _, a := range Assess(c, time.Time{}) {
		if a.ID == id {
			out = append(out, a)
		}
	}
	if len(out) != 1 {
		t.Fatalf("%s: found %d statements, wanted one", id, len(out))
	}
	return out[0]
}

func TestEveryRowHasVectors(t *testing.T) {
	vectors := append(snpVectors(), intelVectors(t)...)
	for _, v := range vectors {
		if a := of(t, v.claims, v.id); a.State != v.state || a.Why == "" || a.Source == "" {
			t.Errorf("%s: found %s (%s), wanted %s", v.id, a.State, a.Why, v.state)
		}
	}
	has := func(id, state string) bool {
		return slices.ContainsFunc(vectors, func(v vector) bool { return v.id == id && v.state == state })
	}
	for _, r := range All() {
		intel := strings.HasPrefix(r.ID, "INTEL-")
		if intel { // what Intel lists is exposed, whatever the row knows
			if a := of(t, intelClaims(r.TEE[0], "00606a000000", "c0=255 c6=255 p=255 t2=255 m1=255", r.ID), r.ID); a.State != Exposed || a.Source != intelList {
				t.Errorf("%s is listed: found %s by %s", r.ID, a.State, a.Source)
			}
			if a := of(t, intelClaims(r.TEE[0], "ffffffffffff", ""), r.ID); a.State != CannotTell {
				t.Errorf("%s is not listed on a platform without data: found %s", r.ID, a.State)
			}
			if len(r.Fix) == 0 {
				continue
			}
		}
		if !has(r.ID, CannotTell) && r.ID != "AMD-SB-1004" && r.ID != "AMD-SB-1033" && r.ID != "AMD-SB-3021" { // bits that every report has
			t.Errorf("%s: no vector that cannot tell", r.ID)
		}
		if r.Unseen == "" && !has(r.ID, Exposed) {
			t.Errorf("%s: no vector that is exposed", r.ID)
		}
		for _, f := range r.Fix {
			if len(f.All) == 0 || r.Confidence == Memory {
				continue
			}
			if !slices.ContainsFunc(vectors, func(v vector) bool {
				state, _ := judgeAll(f.All, v.claims)
				return v.id == r.ID && v.state == Fixed && f.misfit(v.claims) == "" && strings.HasPrefix(cpuOf(v.claims.SNP), f.CPU) && state == Fixed
			}) {
				t.Errorf("%s: no vector that %+v fixes", r.ID, f)
			}
		}
	}
}

func TestRowsAreWellFormed(t *testing.T) {
	cve := regexp.MustCompile(`^CVE-(19|20)\d{2}-\d{4,7}$`)
	tees := []string{claims.SNP, claims.TDX, claims.SGX, "pef"}
	seen := map[string]bool{}
	for _, r := range All() {
		low := strings.ToLower(r.ID)
		if seen[low] {
			t.Errorf("%s stands there twice", r.ID)
		}
		seen[low] = true
		if r.What == "" || r.Source == "" || !strings.HasPrefix(r.Source, "https://") {
			t.Errorf("%s: what %q, source %q", r.ID, r.What, r.Source)
		}
		if !slices.Contains(Classes(), r.Class) || !slices.Contains([]Confidence{Vendor, Derived, Memory}, r.Confidence) {
			t.Errorf("%s: class %q, confidence %q", r.ID, r.Class, r.Confidence)
		}
		if b, err := json.Marshal(r); err != nil || strings.ContainsAny(string(b), "|<>") || strings.Contains(string(b), `\n`) {
			t.Errorf("%s: %s breaks a page", r.ID, b)
		}
		if len(r.TEE) == 0 || slices.ContainsFunc(r.TEE, func(s string) bool { return !slices.Contains(tees, s) }) {
			t.Errorf("%s: TEE %q", r.ID, r.TEE)
		}
		for _, c := range r.CVEs {
			if !cve.MatchString(c) {
				t.Errorf("%s: CVE %q", r.ID, c)
			}
		}
		if r.Published != "" && !regexp.MustCompile(`^20\d\d(-\d\d(-\d\d)?)?$`).MatchString(r.Published) {
			t.Errorf("%s: published %q", r.ID, r.Published)
		}
		if r.Unseen != "" && len(r.Fix) > 0 || r.NoFix != "" && len(r.Fix) > 0 || r.Unseen != "" && r.NoFix != "" {
			t.Errorf("%s: two of fix, no fix and unseen", r.ID)
		}
		for _, f := range r.Fix {
			for _, k := range f.All {
				if _, err := value(k.Value); err != nil || k.Component.words() == string(k.Component) || k.String() == "" {
					t.Errorf("%s: condition %v: %v", r.ID, k, err)
				}
				bit := k.Component == Mitigation || k.Component == PlatformInfo || k.Component == GuestPolicy
				if v, _ := value(k.Value); bit && v > 63 || bit == (k.Op == AtLeast) || !slices.Contains([]Op{AtLeast, Set, Clear}, k.Op) {
					t.Errorf("%s: condition %v", r.ID, k)
				}
			}
		}
		if r.Class == Physical && len(r.Fix) == 0 && r.Unseen != PhysicalWords {
			t.Errorf("%s: a physical attack without the words %q", r.ID, PhysicalWords)
		}
	}
}

func TestMemoryIsNeverFixed(t *testing.T) {
	best := []*claims.Claims{
		snpClaims(milan, "19-01-1", 255, 255, mitigations(^uint64(0), ^uint64(0)), info(^uint64(0)), policyBits(^uint64(0))),
		intelClaims(claims.SGX, "00606a000000", "c0=255 c6=255 p=255"),
		intelClaims(claims.TDX, "b0c06f000000", "c0=255 p=255 t2=255 m1=255"),
	}
	for _, c := range best {
		for _, a := range Assess(c, time.Time{}) {
			if r, ok := Lookup(a.ID); !ok || r.Confidence == Memory && a.State == Fixed {
				t.Errorf("%s: %v, found %s", a.ID, ok, a.State)
			}
		}
	}
}

// TestRealTCBInfo asks of each level of Intel's own files: nothing that the level
// lists may be called fixed, not even where the list is taken away.
func TestRealTCBInfo(t *testing.T) {
	seen := 0
	for _, name := range []string{"sgx/icx.tcbinfo.json", "sgx/quote-v3.collateral.json", "tdx/granite.tcbinfo.json", "tdx/live.tcbinfo.json", "tdx/quote-v4.collateral.json", "tdx/quote-v5-unsupported-level.collateral.json"} {
		info := tcbInfo(t, published.Read(t, name))
		for _, l := range info.TCBLevels {
			c := &claims.Claims{TEE: strings.ToLower(info.ID), Intel: &claims.IntelPlatform{Status: l.TCBStatus, PCESVN: l.TCB.PCESVN}}
			if err := c.Intel.FMSPC.UnmarshalText([]byte(info.FMSPC)); err != nil {
				t.Fatal(err)
			}
			for _, s := range l.TCB.SGX {
				c.Intel.CompSVN = append(c.Intel.CompSVN, s.SVN)
			}
			if c.TEE == claims.TDX {
				c.TDX = &claims.TDXClaims{}
				for _, s := range l.TCB.TDX {
					c.TDX.TEETCBSVN = append(c.TDX.TEETCBSVN, s.SVN)
				}
				c.TDX.TEETCBSVN[0], c.TDX.TEETCBSVN[1] = 255, 1 // the best module: the platform alone
			}
			for _, a := range Assess(c, time.Time{}) {
				if slices.Contains(l.AdvisoryIDs, a.ID) {
					seen++
					if a.State == Fixed {
						t.Errorf("%s, level of %s, SVNs %v: Intel lists %s and the table says fixed: %s", name, l.TCBDate, c.Intel.CompSVN, a.ID, a.Why)
					}
				}
			}
			c.Intel.AdvisoryIDs = l.AdvisoryIDs
			for _, a := range Assess(c, time.Time{}) {
				if slices.Contains(l.AdvisoryIDs, a.ID) != (a.Source == intelList) || a.Source == intelList && a.State != Exposed {
					t.Errorf("%s, level of %s: %s is %s by %s", name, l.TCBDate, a.ID, a.State, a.Source)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("found %d listed advisories in the files, wanted more than 100", seen)
	}
}

type level struct {
	TCB struct {
		SGX    []struct{ SVN uint8 } `json:"sgxtcbcomponents"`
		TDX    []struct{ SVN uint8 } `json:"tdxtcbcomponents"`
		PCESVN uint16                `json:"pcesvn"`
	} `json:"tcb"`
	TCBDate     string   `json:"tcbDate"`
	TCBStatus   string   `json:"tcbStatus"`
	AdvisoryIDs []string `json:"advisoryIDs"`
}

type tcbInfoFile struct {
	ID        string  `json:"id"`
	FMSPC     string  `json:"fmspc"`
	TCBLevels []level `json:"tcbLevels"`
}

func tcbInfo(t *testing.T, b []byte) tcbInfoFile {
	t.Helper()
	var outer struct {
		Loose  string          `json:"tcb_info"`
		Signed json.RawMessage `json:"tcbInfo"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		t.Fatal(err)
	}
	if outer.Loose != "" {
		outer.Signed = json.RawMessage(outer.Loose)
		var inner struct {
			Signed json.RawMessage `json:"tcbInfo"`
		}
		if err := json.Unmarshal(outer.Signed, &inner); err == nil && inner.Signed != nil {
			outer.Signed = inner.Signed
		}
	}
	var out tcbInfoFile
	if err := json.Unmarshal(outer.Signed, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.TCBLevels) == 0 {
		t.Fatal("no levels")
	}
	return out
}

func TestOnlyWhatConcernsIt(t *testing.T) {
	for _, c := range []struct {
		claims        *claims.Claims
		with, without string
	}{
		{snpClaims(milan, "19-01-1", 29, 222), "MilanLaunch", "AMD-SB-3039"},
		{snpClaims(turin, "1a-02-1", 4, 81), "AMD-SB-3039", "MilanLaunch"},
		{snpClaims("", "00-00-0", 4, 81), "MilanLaunch", "INTEL-SA-00615"},
		{intelClaims(claims.SGX, "00606a000000", ""), "INTEL-SA-00615", "INTEL-SA-01192"},
		{intelClaims(claims.TDX, "b0c06f000000", ""), "INTEL-SA-01192", "INTEL-SA-00615"},
	} {
		var ids []string
		for _, a := range Assess(c.claims, time.Time{}) {
			ids = append(ids, a.ID)
		}
		if !slices.Contains(ids, c.with) || slices.Contains(ids, c.without) {
			t.Errorf("wanted %s and not %s, found %v", c.with, c.without, ids)
		}
	}
	if n := len(Assess(&claims.Claims{TEE: claims.Nitro, Nitro: &claims.NitroClaims{}}, time.Time{})); n != 0 {
		t.Errorf("nitro: found %d rows", n)
	}
	if Assess(nil, time.Time{}) != nil {
		t.Error("no claims: found rows")
	}
}

// Claims that no verifier fills so are answered all the same, and nothing is fixed.
func TestBareClaims(t *testing.T) {
	for _, c := range []*claims.Claims{
		{}, {TEE: claims.SNP}, {TEE: claims.TDX}, {TEE: claims.SGX}, {TEE: "pef"}, {TEE: claims.SNP, SNP: &claims.SNPClaims{}},
		{TEE: claims.TDX, TDX: &claims.TDXClaims{}}, {TEE: claims.TDX, Intel: &claims.IntelPlatform{Status: "UpToDate"}}, {TEE: claims.SGX, Intel: &claims.IntelPlatform{FMSPC: []byte{0, 0x60, 0x6a, 0, 0, 0}, Status: "UpToDate"}},
	} {
		for _, a := range Assess(c, time.Time{}) {
			// A PLATFORM_INFO and a policy of zero say that nothing shares a core.
			if a.State == Fixed && (c.SNP == nil || a.ID != "AMD-SB-3027") || a.Why == "" {
				t.Errorf("%+v: %s is %s, %q", c, a.ID, a.State, a.Why)
			}
		}
	}
}

func TestIntelListTraps(t *testing.T) {
	// An id of no known form, one of another TEE's rows, and one twice.
	c := intelClaims(claims.TDX, "b0c06f000000", "c0=4 t2=4 m1=11", "INTEL-DOC-10003", "INTEL-SA-00106", "INTEL-SA-00106", "intel-sa-01192")
	got := map[string]int{}
	for _, a := range Assess(c, time.Time{}) {
		if a.Source == intelList {
			got[a.ID]++
			if a.State != Exposed {
				t.Errorf("%s: found %s", a.ID, a.State)
			}
		}
	}
	if len(got) != 3 || got["INTEL-DOC-10003"] != 1 || got["INTEL-SA-00106"] != 1 || got["INTEL-SA-01192"] != 1 {
		t.Errorf("found %v", got)
	}
	// TD-preserving update: the module at the TD's start counts as well.
	c = intelClaims(claims.TDX, "b0c06f000000", "c0=4 t2=4 m1=6")
	c.TDX.TEETCBSVN2 = slices.Clone(c.TDX.TEETCBSVN)
	c.TDX.TEETCBSVN2[0] = 11
	if a := of(t, c, "INTEL-SA-01192"); a.State != Exposed {
		t.Errorf("started under an old module: found %s", a.State)
	}
	c.TDX.TEETCBSVN2[1] = 3
	if a := of(t, c, "INTEL-SA-01192"); a.State != CannotTell {
		t.Errorf("two majors: found %s", a.State)
	}
	c.TDX.TEETCBSVN = nil
	if a := of(t, c, "INTEL-SA-01192"); a.State != CannotTell {
		t.Errorf("no TEE_TCB_SVN: found %s", a.State)
	}
}

func TestPublishedLater(t *testing.T) {
	c := snpClaims(milan, "19-01-1", 29, 222)
	for _, at := range []time.Time{time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)} {
		for _, a := range Assess(c, at) {
			if a.ID == "MilanLaunch" && (a.State != Exposed || strings.Contains(a.Why, "after the time of judging") != (at.Year() == 2024)) {
				t.Errorf("at %v: found %s, %s", at, a.State, a.Why)
			}
		}
	}
}

func TestDemand(t *testing.T) {
	found := []verdict.Advisory{
		{ID: "A", Names: []string{"First"}, CVEs: []string{"CVE-2020-0001", "CVE-2020-0009"}, State: Fixed, Why: "x"},
		{ID: "B", CVEs: []string{"CVE-2020-0002", "CVE-2020-0009"}, State: Exposed, Why: "y"},
		{ID: "C", CVEs: []string{"CVE-2020-0003"}, State: CannotTell, Why: "z"},
		{ID: "D", State: "FIXED"},
	}
	for _, c := range []struct {
		word   string
		status verdict.Status
	}{
		{"a", verdict.Passed}, {" First ", verdict.Passed}, {"cve-2020-0001", verdict.Passed},
		{"B", verdict.Failed}, {"CVE-2020-0009", verdict.Failed}, // one of two is open
		{"C", verdict.NotMade}, {"D", verdict.NotMade}, {"E", verdict.NotMade}, {"", verdict.NotMade}, {"CVE-2020-000", verdict.NotMade},
		{"BadRAM", verdict.NotMade}, // known, and not about this evidence
	} {
		checks := Demand([]string{c.word}, found)
		if len(checks) != 1 || checks[0].Status != c.status || checks[0].Code != verdict.Advisories || checks[0].Found == "" || checks[0].Wanted == "" || checks[0].Source == "" {
			t.Errorf("%q: found %+v, wanted %s", c.word, checks, c.status)
		}
	}
	if Demand(nil, found) != nil {
		t.Error("nothing demanded: found checks")
	}
}

func TestNobodyChangesTheTable(t *testing.T) {
	a := All()
	for i := range a {
		a[i].ID = "x"
		for j := range a[i].CVEs {
			a[i].CVEs[j] = "x"
		}
		for _, f := range a[i].Fix {
			for j := range f.All {
				f.All[j].Value = "0"
			}
		}
	}
	if r, ok := Lookup("EntrySign"); !ok || r.ID != "AMD-SB-3019" || r.CVEs[0] == "x" || r.Fix[0].All[0].Value == "0" {
		t.Errorf("found %+v", r)
	}
	for _, v := range Assess(snpClaims(milan, "19-01-1", 29, 222), time.Time{}) {
		for i := range v.Names {
			v.Names[i] = "x"
		}
	}
	if _, ok := Lookup("x"); ok {
		t.Error("a statement's caller changed the table")
	}
}

func BenchmarkAssess(b *testing.B) {
	c := snpClaims(turin, "1a-02-1", 4, 81)
	b.ReportAllocs()
	for b.Loop() {
		Assess(c, time.Time{})
	}
}
