package policy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// snpClaims is a good Genoa guest's.
func snpClaims() *claims.Claims {
	tcb := claims.SNPTCB{BootLoader: 10, SNP: 25, Microcode: 84}
	launch, current := uint64(3), uint64(7)
	return &claims.Claims{TEE: claims.SNP, ReportData: make([]byte, 64), HostData: bytes.Repeat([]byte{4}, 32), SNP: &claims.SNPClaims{
		ReportVersion: 5, Product: "Genoa", Family: 0x19, Model: 0x11, LaunchDigest: bytes.Repeat([]byte{0xab}, 48), GuestPolicy: 0x3001f, GuestSVN: 4,
		FamilyID: make([]byte, 16), ImageID: make([]byte, 16), IDKeyDigest: bytes.Repeat([]byte{1}, 48), AuthorKeyDigest: make([]byte, 48),
		ChipID: bytes.Repeat([]byte{0xc}, 64), SigningKey: "vcek", PlatformInfo: 0x25, Reported: tcb, Committed: tcb, Current: tcb, Launch: tcb,
		CurrentVersion: "1.58.1", CommittedVersion: "1.58.1", LaunchMitigations: &launch, CurrentMitigations: &current}}
}

func parse(t *testing.T, section string) *Policy {
	t.Helper()
	p, err := Parse([]byte("version = 1\nfreshness = \"none\"\n[snp]\n" + section))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func status(checks []verdict.Check, code verdict.Code) verdict.Status {
	for _, c := range checks {
		if c.Code == code {
			return c.Status
		}
	}
	return "absent"
}

var (
	ab   = strings.Repeat("ab", 48)
	ones = strings.Repeat("01", 48)
	chip = strings.Repeat("0c", 64)
)

func TestT11T21SNPSection(t *testing.T) {
	turin := func(c *claims.Claims) {
		fmc := uint8(1)
		tcb := claims.SNPTCB{FMC: &fmc, BootLoader: 1, TEE: 1, SNP: 4, Microcode: 81}
		c.SNP.Product, c.SNP.Reported, c.SNP.Committed, c.SNP.Current, c.SNP.Launch = "Turin", tcb, tcb, tcb, tcb
		c.SNP.ChipID = append(bytes.Repeat([]byte{0xc}, 8), make([]byte, 56)...)
	}
	for name, x := range map[string]struct {
		section string
		change  func(*claims.Claims)
		code    verdict.Code
		want    verdict.Status
	}{
		"product by default":             {"", nil, verdict.ProductAllowed, verdict.Passed},
		"turin by default":               {"", turin, verdict.ProductAllowed, verdict.Passed},
		"milan by default":               {"", func(c *claims.Claims) { c.SNP.Product = "Milan" }, verdict.ProductAllowed, verdict.Failed},
		"milan by name":                  {`products = ["Milan"]`, func(c *claims.Claims) { c.SNP.Product = "Milan" }, verdict.ProductAllowed, verdict.Passed},
		"genoa where only milan is":      {`products = ["Milan"]`, nil, verdict.ProductAllowed, verdict.Failed},
		"no product is admitted":         {`products = []`, nil, verdict.ProductAllowed, verdict.Failed},
		"unknown processor":              {"", func(c *claims.Claims) { c.SNP.Product = "" }, verdict.ProductAllowed, verdict.Failed},
		"version 2 without a product":    {"", func(c *claims.Claims) { c.SNP.Product, c.SNP.ReportVersion = "", 2 }, verdict.ProductAllowed, verdict.NotMade},
		"nothing pinned":                 {"", nil, verdict.RuntimePinned, verdict.NotMade},
		"launch digest":                  {`launch_digests = ["` + ab + `"]`, nil, verdict.RuntimePinned, verdict.Passed},
		"launch digest with a prefix":    {`launch_digests = ["sha384:` + ab + `"]`, nil, verdict.RuntimePinned, verdict.Passed},
		"another launch digest":          {`launch_digests = ["` + ones + `"]`, nil, verdict.RuntimePinned, verdict.Failed},
		"no launch digest":               {`launch_digests = []`, nil, verdict.RuntimePinned, verdict.Failed},
		"launch digest, old svn":         {`launch_digests = ["` + ab + "\"]\nmin_guest_svn = 5", nil, verdict.RuntimePinned, verdict.Failed},
		"signer and svn":                 {`id_keys = ["` + ones + "\"]\nmin_guest_svn = 4", nil, verdict.RuntimePinned, verdict.Passed},
		"signer and newer svn":           {`id_keys = ["` + ones + "\"]\nmin_guest_svn = 5", nil, verdict.RuntimePinned, verdict.Failed},
		"another signer":                 {`id_keys = ["` + ab + "\"]\nmin_guest_svn = 4", nil, verdict.RuntimePinned, verdict.Failed},
		"another signer, id block":       {`id_keys = ["` + ab + "\"]\nmin_guest_svn = 4", nil, verdict.IDBlock, verdict.Failed},
		"no author key":                  {`author_keys = ["` + ab + "\"]\nmin_guest_svn = 4", nil, verdict.IDBlock, verdict.Failed},
		"signer right, digest wrong":     {`id_keys = ["` + ones + "\"]\nlaunch_digests = [\"" + ones + `"]`, nil, verdict.RuntimePinned, verdict.Failed},
		"signer wrong, digest right":     {`id_keys = ["` + ab + "\"]\nlaunch_digests = [\"" + ab + `"]`, nil, verdict.IDBlock, verdict.Failed},
		"family id":                      {`family_ids = ["` + strings.Repeat("00", 16) + `"]`, nil, verdict.IDBlock, verdict.Passed},
		"another image id":               {`image_ids = ["` + strings.Repeat("01", 16) + `"]`, nil, verdict.IDBlock, verdict.Failed},
		"an svn alone pins nothing":      {`min_guest_svn = 4`, nil, verdict.RuntimePinned, verdict.NotMade},
		"debug":                          {"", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 19 }, verdict.Debug, verdict.Failed},
		"debug allowed":                  {"allow_debug = true", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 19 }, verdict.Debug, verdict.Passed},
		"migration":                      {"", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 18 }, verdict.Migration, verdict.Failed},
		"migration allowed":              {"allow_migration = true", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 18 }, verdict.Migration, verdict.Passed},
		"bit 26":                         {"", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 26 }, verdict.GuestPolicy, verdict.Failed},
		"bit 63":                         {"", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 63 }, verdict.GuestPolicy, verdict.Failed},
		"cxl":                            {"", func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 21 }, verdict.GuestPolicy, verdict.Failed},
		"cxl allowed":                    {`guest_policy_allowed = ["smt", "cxl"]`, func(c *claims.Claims) { c.SNP.GuestPolicy |= 1 << 21 }, verdict.GuestPolicy, verdict.Passed},
		"no smt":                         {`guest_policy_allowed = []`, nil, verdict.GuestPolicy, verdict.Failed},
		"required":                       {`guest_policy_required = ["ciphertext_hiding_dram"]`, nil, verdict.GuestPolicy, verdict.Failed},
		"required and there":             {`guest_policy_required = ["smt"]`, nil, verdict.GuestPolicy, verdict.Passed},
		"abi":                            {`min_abi = "0.31"`, nil, verdict.GuestPolicy, verdict.Passed},
		"old abi":                        {`min_abi = "1.51"`, nil, verdict.GuestPolicy, verdict.Failed},
		"vmpl 1":                         {"", func(c *claims.Claims) { c.SNP.VMPL = 1 }, verdict.VMPL, verdict.Failed},
		"vmpl 1 by name":                 {"vmpl = [1]", func(c *claims.Claims) { c.SNP.VMPL = 1 }, verdict.VMPL, verdict.Passed},
		"vmpl 0 where 1 is wanted":       {"vmpl = [1]", nil, verdict.VMPL, verdict.Failed},
		"no vmpl":                        {"vmpl = []", nil, verdict.VMPL, verdict.Failed},
		"vlek":                           {"", vlek, verdict.Platforms, verdict.Passed},
		"vlek refused":                   {`signing_keys = ["vcek"]`, vlek, verdict.Platforms, verdict.Failed},
		"vlek of the provider":           {`csps = ["a cloud"]`, vlek, verdict.Platforms, verdict.Passed},
		"vlek of another":                {`csps = ["another"]`, vlek, verdict.Platforms, verdict.Failed},
		"vlek without a certificate":     {`csps = ["a cloud"]`, func(c *claims.Claims) { vlek(c); c.SNP.CSP = "" }, verdict.Platforms, verdict.NotMade},
		"unsigned":                       {"", func(c *claims.Claims) { c.SNP.SigningKey = "none" }, verdict.Platforms, verdict.Failed},
		"chip":                           {`chip_ids = ["` + chip + `"]`, nil, verdict.Platforms, verdict.Passed},
		"another chip":                   {`chip_ids = ["` + strings.Repeat("0d", 64) + `"]`, nil, verdict.Platforms, verdict.Failed},
		"hidden chip":                    {`chip_ids = ["` + chip + `"]`, func(c *claims.Claims) { clear(c.SNP.ChipID) }, verdict.Platforms, verdict.Failed},
		"turin's chip":                   {`chip_ids = ["` + chip[:16] + `"]`, turin, verdict.Platforms, verdict.Passed},
		"a chip by its first bytes":      {`chip_ids = ["` + chip[:16] + `"]`, nil, verdict.Platforms, verdict.Failed},
		"floor":                          {"", nil, verdict.TCBFloor, verdict.Passed},
		"floor, reported":                {"", func(c *claims.Claims) { c.SNP.Reported.SNP = 22 }, verdict.TCBFloor, verdict.Failed},
		"floor, committed":               {"", func(c *claims.Claims) { c.SNP.Committed.SNP = 22 }, verdict.TCBFloor, verdict.Failed},
		"floor, current":                 {"", func(c *claims.Claims) { c.SNP.Current.SNP = 22 }, verdict.TCBFloor, verdict.Failed},
		"floor, launch":                  {"", func(c *claims.Claims) { c.SNP.Launch.SNP = 22 }, verdict.TCBFloor, verdict.Failed},
		"floor, milan":                   {"", func(c *claims.Claims) { c.SNP.Product, c.SNP.Launch.SNP = "Milan", 23 }, verdict.TCBFloor, verdict.Failed},
		"floor of ours":                  {"[snp.floors.Genoa]\nmicrocode = 85", nil, verdict.TCBFloor, verdict.Failed},
		"floor of another product":       {"[snp.floors.Milan]\nmicrocode = 85", nil, verdict.TCBFloor, verdict.Passed},
		"floor of ours keeps the other":  {"[snp.floors.Genoa]\nmicrocode = 84", func(c *claims.Claims) { c.SNP.Reported.SNP = 22 }, verdict.TCBFloor, verdict.Failed},
		"floor lowered":                  {"[snp.floors.Genoa]\nsnp = 22", func(c *claims.Claims) { c.SNP.Reported.SNP = 22 }, verdict.TCBFloor, verdict.Passed},
		"fmc floor":                      {"[snp.floors.Turin]\nfmc = 2", turin, verdict.TCBFloor, verdict.Failed},
		"fmc floor met":                  {"[snp.floors.Turin]\nfmc = 1", turin, verdict.TCBFloor, verdict.Passed},
		"order":                          {"", func(c *claims.Claims) { c.SNP.Current.Microcode = 90 }, verdict.TCBOrder, verdict.Passed},
		"order, committed over current":  {"", func(c *claims.Claims) { c.SNP.Committed.Microcode = 90 }, verdict.TCBOrder, verdict.Failed},
		"order, reported over committed": {"", func(c *claims.Claims) { c.SNP.Reported.BootLoader, c.SNP.Current.BootLoader = 11, 11 }, verdict.TCBOrder, verdict.Failed},
		"order, firmware":                {"", func(c *claims.Claims) { c.SNP.CommittedVersion = "1.58.2" }, verdict.TCBOrder, verdict.Failed},
		"firmware":                       {`min_firmware = "1.55.38"`, nil, verdict.Firmware, verdict.Passed},
		"old firmware committed":         {`min_firmware = "1.58.1"`, func(c *claims.Claims) { c.SNP.CommittedVersion = "1.55.0" }, verdict.Firmware, verdict.Failed},
		"no firmware demanded":           {"", nil, verdict.Firmware, "absent"},
		"alias check":                    {`platform_info_required = ["alias_check_complete"]`, nil, verdict.PlatformInfo, verdict.Passed},
		"no tio":                         {`platform_info_required = ["tio"]`, nil, verdict.PlatformInfo, verdict.Failed},
		"smt denied":                     {`platform_info_denied = ["smt"]`, nil, verdict.PlatformInfo, verdict.Failed},
		"mitigations":                    {"mitigations_required = [0, 1]", nil, verdict.Mitigations, verdict.Passed},
		"not at launch":                  {"mitigations_required = [2]", nil, verdict.Mitigations, verdict.Failed},
		"no vector":                      {"mitigations_required = [0]", func(c *claims.Claims) { c.SNP.LaunchMitigations, c.SNP.CurrentMitigations = nil, nil }, verdict.Mitigations, verdict.NotMade},
	} {
		t.Run(name, func(t *testing.T) {
			c := snpClaims()
			if x.change != nil {
				x.change(c)
			}
			checks := parse(t, x.section).Appraise(c, Demand{})
			if got := status(checks, x.code); got != x.want {
				t.Errorf("%s: found %s, wanted %s: %+v", x.code, got, x.want, checks)
			}
		})
	}
}

func vlek(c *claims.Claims) {
	c.SNP.SigningKey, c.SNP.CSP = "vlek", "a cloud"
	clear(c.SNP.ChipID)
}

func TestSNPSectionWhole(t *testing.T) {
	p := parse(t, `launch_digests = ["`+ab+`"]`)
	p.Workloads = []Digest{bytes.Repeat([]byte{4}, 32)}
	if got := verdict.Conclude(p.Appraise(snpClaims(), Demand{})); got != verdict.Admitted {
		t.Errorf("found %s, wanted admitted", got)
	}
	if got := verdict.Conclude(Default().Appraise(snpClaims(), Demand{PlatformOnly: true})); got != verdict.Admitted {
		t.Errorf("the platform alone: found %s, wanted admitted", got)
	}
	if got := verdict.Conclude(Default().Appraise(snpClaims(), Demand{NoPolicy: true})); got != verdict.CannotTell {
		t.Errorf("no policy: found %s, wanted cannot_tell", got)
	}
	if got := verdict.Conclude(p.Appraise(&claims.Claims{TEE: claims.SNP}, Demand{})); got != verdict.Refused {
		t.Errorf("no report: found %s, wanted refused", got)
	}
}

func TestSNPSectionWrong(t *testing.T) {
	for name, section := range map[string]string{
		"unknown product": `products = ["Rome"]`, "spelling": `products = ["milan"]`, "unknown key": `product = ["Milan"]`,
		"short digest": `launch_digests = ["abcd"]`, "zero digest": `launch_digests = ["` + strings.Repeat("00", 48) + `"]`,
		"zero chip": `chip_ids = ["` + strings.Repeat("00", 64) + `"]`, "short chip": `chip_ids = ["0c0c"]`,
		"signer without svn": `id_keys = ["` + ab + `"]`, "author without svn": `author_keys = ["` + ab + `"]`,
		"vmpl 4": "vmpl = [4]", "vmpl -1": "vmpl = [-1]", "bit 64": "mitigations_required = [64]",
		"unknown bit": `guest_policy_allowed = ["debug"]`, "unknown property": `platform_info_required = ["alias"]`,
		"required and denied":      "platform_info_required = [\"smt\"]\nplatform_info_denied = [\"smt\"]",
		"required and not allowed": "guest_policy_required = [\"cxl\"]\nguest_policy_allowed = []",
		"fmc of genoa":             "[snp.floors.Genoa]\nfmc = 1", "floor of 256": "[snp.floors.Genoa]\nsnp = 256",
		"floor of what": "[snp.floors.Genoa]\nucode = 1", "floor of whom": "[snp.floors.Rome]\nsnp = 1",
		"version": `min_firmware = "1.55.22.1"`, "version with a sign": `min_abi = "+1.51"`, "version of 256": `min_abi = "256"`, "version of nothing": `min_abi = ""`,
		"kind": `signing_keys = ["none"]`, "negative svn": "min_guest_svn = -1",
	} {
		if p, err := Parse([]byte("version = 1\n[snp]\n" + section)); err == nil {
			t.Errorf("%s: accepted: %+v", name, p.SNP)
		}
	}
}

func TestSNPDescribe(t *testing.T) {
	all := `products = ["Milan", "Genoa"]
id_keys = ["` + ab + `"]
min_guest_svn = 3
allow_debug = true
guest_policy_required = ["smt"]
min_abi = "1.51"
csps = ["a cloud"]
min_firmware = "1.55"
platform_info_required = ["ecc"]
platform_info_denied = ["tsme"]
mitigations_required = [1]
[snp.floors.Genoa]
microcode = 84
`
	text := strings.Join(parse(t, all).SNP.describe(), "\n")
	for _, want := range []string{"Milan or Genoa", "2605.12990", "guest SVN must be at least 3", "ADMITTED", "must have smt", "1.51", "a cloud", "1.55",
		"must have ecc", "must not have tsme", "bits 1", "microcode must be at least 84", "snp must be at least 23", "snp must be at least 24", "VMPL 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q:\n%s", want, text)
		}
	}
	if text := strings.Join((&SNP{}).describe(), "\n"); !strings.Contains(text, "no program is named") {
		t.Errorf("nothing says that no program is named:\n%s", text)
	}
}
