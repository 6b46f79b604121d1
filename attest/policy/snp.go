package policy

import (
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// SNP is the section [snp]. Absent lists have the default that stands with them.
type SNP struct {
	// Products lists the accepted processors: Milan, Genoa (Bergamo and Siena too),
	// Turin. Default: Genoa and Turin. Milan is admitted only by name: its root seed
	// can be read by software, so its reports can be forged (arXiv 2605.12990).
	Products []string `toml:"products"`

	// LaunchDigests lists the accepted launch digests (MEASUREMENT, 48 bytes).
	LaunchDigests []Digest `toml:"launch_digests"`
	// IDKeys and AuthorKeys list the accepted signers of the launch, by the digest of
	// their key (48 bytes). Without launch_digests they need min_guest_svn: a signer
	// vouches for every version it ever signed.
	IDKeys     []Digest `toml:"id_keys"`
	AuthorKeys []Digest `toml:"author_keys"`
	// MinGuestSVN is the least security version number of the signed launch.
	MinGuestSVN *uint32 `toml:"min_guest_svn"`
	// FamilyIDs and ImageIDs list the accepted identifiers of the signed launch (16
	// bytes). Default: any.
	FamilyIDs []Digest `toml:"family_ids"`
	ImageIDs  []Digest `toml:"image_ids"`

	// AllowDebug admits guests whose memory the host may read.
	AllowDebug bool `toml:"allow_debug"`
	// AllowMigration admits guests with a migration agent.
	AllowMigration bool `toml:"allow_migration"`
	// GuestPolicyAllowed lists the bits that the guest policy may have: smt,
	// single_socket, cxl, mem_aes_256_xts, rapl_dis, ciphertext_hiding_dram,
	// page_swap_disable. Default: all but cxl. Bits without a name are always refused.
	GuestPolicyAllowed []string `toml:"guest_policy_allowed"`
	// GuestPolicyRequired lists the bits that the guest policy must have.
	GuestPolicyRequired []string `toml:"guest_policy_required"`
	// MinABI is the least firmware ABI that the guest policy demands, such as "1.51".
	MinABI Version `toml:"min_abi"`
	// VMPL lists the privilege levels, 0 to 3, at which the report may have been
	// asked for. Default: 0.
	VMPL []int `toml:"vmpl"`

	// SigningKeys lists the accepted kinds of endorsement key: vcek (of one chip),
	// vlek (of a cloud provider). Default: both.
	SigningKeys []string `toml:"signing_keys"`
	// CSPs lists the accepted providers of a VLEK, as its certificate spells them.
	// Default: any that AMD certifies.
	CSPs []string `toml:"csps"`
	// ChipIDs lists the accepted chips (64 bytes; 8 on Turin). A hidden chip id, all
	// zero, is on no list. Default: any.
	ChipIDs []Digest `toml:"chip_ids"`

	// Floors are the least security levels, by product and component. Each holds for
	// the reported, committed, current and launch TCB alike. What is not named has the
	// default: snp 24 on Milan, 23 on Genoa (AMD-SB-3019).
	Floors map[string]SNPFloor `toml:"floors"`
	// MinFirmware is the least version of the SEV firmware, such as "1.55.22", for
	// the current and the committed one.
	MinFirmware Version `toml:"min_firmware"`
	// PlatformInfoRequired and PlatformInfoDenied list properties that the platform
	// must and must not have: smt, tsme, ecc, rapl_disabled, ciphertext_hiding_dram,
	// alias_check_complete, iommu_write_safe, tio. Default: none.
	PlatformInfoRequired []string `toml:"platform_info_required"`
	PlatformInfoDenied   []string `toml:"platform_info_denied"`
	// MitigationsRequired lists bits, 0 to 63, that the mitigation vectors must have,
	// at launch and now. Reports before version 5 have none: the check is not made.
	MitigationsRequired []int `toml:"mitigations_required"`
}

// SNPFloor is the least level of each component; absent: the product's default.
type SNPFloor struct {
	FMC        *uint8 `toml:"fmc"` // Turin alone has one
	BootLoader *uint8 `toml:"boot_loader"`
	TEE        *uint8 `toml:"tee"`
	SNP        *uint8 `toml:"snp"`
	Microcode  *uint8 `toml:"microcode"`
}

// bit is a named bit of a 64-bit field.
type bit struct {
	name string
	n    uint
}

// guestPolicyBits are the bits of POLICY that a policy may name (AMD 56860, guest
// policy). Bits 18 and 19, migration agent and debugging, have settings of their own;
// 0 to 15 are the ABI, 17 is always 1.
var guestPolicyBits = []bit{{"smt", 16}, {"single_socket", 20}, {"cxl", 21}, {"mem_aes_256_xts", 22}, {"rapl_dis", 23},
	{"ciphertext_hiding_dram", 24}, {"page_swap_disable", 25}}

// platformInfoBits are the bits of PLATFORM_INFO (AMD 56860, ATTESTATION_REPORT).
var platformInfoBits = []bit{{"smt", 0}, {"tsme", 1}, {"ecc", 2}, {"rapl_disabled", 3}, {"ciphertext_hiding_dram", 4},
	{"alias_check_complete", 5}, {"iommu_write_safe", 6}, {"tio", 7}}

const (
	policyMigration = 1 << 18
	policyDebug     = 1 << 19
)

// snpFloors are the default floors, with the advisory each is from. Only levels that
// the vendor has published are here: that AMD fixed something in a level that no source
// names is no floor.
var snpFloors = []struct {
	product, component string
	level              uint8
	source             string
}{
	{"Milan", "snp", 24, "AMD-SB-3019 (CVE-2024-56161, EntrySign)"},
	{"Genoa", "snp", 23, "AMD-SB-3019 (CVE-2024-56161, EntrySign)"},
}

// The defaults of the lists. They are functions, for a list could be changed.
func snpProducts() []string    { return []string{"Genoa", "Turin"} }
func snpSigningKeys() []string { return []string{"vcek", "vlek"} }
func snpGuestPolicy() []string {
	return []string{"smt", "single_socket", "mem_aes_256_xts", "rapl_dis", "ciphertext_hiding_dram", "page_swap_disable"}
}

func (s *SNP) check() error {
	for _, err := range []error{
		among("products", s.Products, []string{"Milan", "Genoa", "Turin"}),
		among("signing_keys", s.SigningKeys, snpSigningKeys()),
		among("guest_policy_allowed", s.GuestPolicyAllowed, names(guestPolicyBits)),
		among("guest_policy_required", s.GuestPolicyRequired, names(guestPolicyBits)),
		among("platform_info_required", s.PlatformInfoRequired, names(platformInfoBits)),
		among("platform_info_denied", s.PlatformInfoDenied, names(platformInfoBits)),
		sized("launch_digests", s.LaunchDigests, 48), sized("id_keys", s.IDKeys, 48), sized("author_keys", s.AuthorKeys, 48),
		sized("family_ids", s.FamilyIDs, 16), sized("image_ids", s.ImageIDs, 16), sized("chip_ids", s.ChipIDs, 64, 8),
		within("vmpl", s.VMPL, 3), within("mitigations_required", s.MitigationsRequired, 63),
	} {
		if err != nil {
			return err
		}
	}
	for _, n := range s.PlatformInfoRequired {
		if has(s.PlatformInfoDenied, n) {
			return fmt.Errorf("platform_info_denied: %s is required too", n)
		}
	}
	for _, n := range s.GuestPolicyRequired {
		if s.GuestPolicyAllowed != nil && !has(s.GuestPolicyAllowed, n) {
			return fmt.Errorf("guest_policy_required: %s is not allowed", n)
		}
	}
	for product, f := range s.Floors {
		if err := among("floors", []string{product}, []string{"Milan", "Genoa", "Turin"}); err != nil {
			return err
		}
		if f.FMC != nil && product != "Turin" {
			return fmt.Errorf("floors: %s has no fmc", product)
		}
	}
	if s.LaunchDigests == nil && (s.IDKeys != nil || s.AuthorKeys != nil) && s.MinGuestSVN == nil {
		return fmt.Errorf("id_keys or author_keys without min_guest_svn: a signer vouches for its oldest version too; min_guest_svn = 0 says that this is wanted")
	}
	return nil
}

func (s *SNP) appraise(c *claims.Claims, d Demand, _ *Policy) []verdict.Check {
	r := c.SNP
	if r == nil {
		return []verdict.Check{verdict.Fail(verdict.TEEAdmitted, "claims without a report", "an SNP report")}
	}
	out := []verdict.Check{s.product(r)}
	out = append(out, s.runtime(r, d)...)
	out = append(out, s.guestPolicy(r)...)
	out = append(out, s.vmpl(r), s.platforms(r), s.floors(r), tcbOrder(r), s.firmware(r), s.platformInfo(r), s.mitigations(r))
	return out
}

func (s *SNP) product(r *claims.SNPClaims) verdict.Check {
	list := or(s.Products, snpProducts())
	const source = "policy: [snp] products"
	switch {
	case has(list, r.Product):
		return verdict.Pass(verdict.ProductAllowed, r.Product).From(source)
	case r.Product == "" && r.ReportVersion < 3:
		return verdict.Skip(verdict.ProductAllowed, "a report of version 2 does not name its product, and no endorsement key is at hand that does", "give the VCEK").From(source)
	case r.Product == "":
		return verdict.Fail(verdict.ProductAllowed, fmt.Sprintf("an unknown processor, family %#x model %#x", r.Family, r.Model), wantOne(list)).From(source)
	}
	k := verdict.Fail(verdict.ProductAllowed, r.Product, wantOne(list)).From(source)
	if r.Product == "Milan" {
		k.Source = source + "; arXiv 2605.12990"
		k.Hint = `reports of Milan can be forged at any TCB (arXiv 2605.12990): products = ["Milan"] admits it nevertheless, best with chip_ids of machines that you hold`
	}
	return k
}

// runtime is what was measured at launch, and who signed it.
func (s *SNP) runtime(r *claims.SNPClaims, d Demand) []verdict.Check {
	var out []verdict.Check
	signer := s.IDKeys != nil || s.AuthorKeys != nil
	if signer || s.FamilyIDs != nil || s.ImageIDs != nil {
		out = append(out, s.idBlock(r))
	}
	found := r.LaunchDigest.String()
	const source = "policy: [snp] launch_digests, id_keys, author_keys, min_guest_svn; AMD 56860, MEASUREMENT"
	if s.MinGuestSVN != nil && r.GuestSVN < *s.MinGuestSVN {
		return append(out, verdict.Fail(verdict.RuntimePinned, fmt.Sprintf("guest SVN %d", r.GuestSVN), fmt.Sprintf("at least %d", *s.MinGuestSVN)).From(source))
	}
	switch {
	case s.LaunchDigests != nil && contains(s.LaunchDigests, r.LaunchDigest):
		return append(out, verdict.Pass(verdict.RuntimePinned, found).From(source))
	case s.LaunchDigests != nil:
		return append(out, verdict.Fail(verdict.RuntimePinned, found, oneOf(s.LaunchDigests)).From(source).
			Advise("this is not the program that the policy names: host data and report data are its word alone; after an upgrade of donjon-keep a policy must name the new one: donjon steward workload allow, donjon policy init"))
	case signer && s.MinGuestSVN != nil && out[0].Status == verdict.Passed:
		return append(out, verdict.Pass(verdict.RuntimePinned, fmt.Sprintf("%s, signed at guest SVN %d", found, r.GuestSVN)).From(source))
	case signer && s.MinGuestSVN != nil:
		return append(out, verdict.Fail(verdict.RuntimePinned, found+", by another signer", "a launch that the policy's signer vouches for").From(source))
	}
	return append(out, d.unpinned(found).From(source))
}

func (s *SNP) idBlock(r *claims.SNPClaims) verdict.Check {
	const source = "policy: [snp] id_keys, author_keys, family_ids, image_ids; AMD 56860, ID_BLOCK"
	for _, x := range []struct {
		what    string
		list    []Digest
		found   claims.Hex
		nonzero bool
	}{
		{"ID key ", s.IDKeys, r.IDKeyDigest, true}, {"author key ", s.AuthorKeys, r.AuthorKeyDigest, true},
		{"family ID ", s.FamilyIDs, r.FamilyID, false}, {"image ID ", s.ImageIDs, r.ImageID, false},
	} {
		switch {
		case x.list == nil:
		case x.nonzero && claims.Zero(x.found):
			return verdict.Fail(verdict.IDBlock, "no "+strings.TrimSpace(x.what), oneOf(x.list)).From(source).
				Advise("the launch was not signed")
		case !contains(x.list, x.found):
			return verdict.Fail(verdict.IDBlock, x.what+x.found.String(), oneOf(x.list)).From(source)
		}
	}
	return verdict.Pass(verdict.IDBlock, "signed as the policy says, ID key "+r.IDKeyDigest.String()).From(source)
}

func (s *SNP) guestPolicy(r *claims.SNPClaims) []verdict.Check {
	const source = "AMD 56860, guest policy"
	debug := verdict.Pass(verdict.Debug, "the host cannot debug the guest")
	if r.GuestPolicy&policyDebug != 0 {
		debug = verdict.Pass(verdict.Debug, "the host can read the guest's memory; the policy allows it")
		if !s.AllowDebug {
			debug = verdict.Fail(verdict.Debug, "debugging is allowed: the host can read the guest's memory", "a production guest").
				Advise("launch without policy bit 19; allow_debug = true admits it, and nothing in it is secret")
		}
	}
	migration := verdict.Pass(verdict.Migration, "no migration agent")
	if r.GuestPolicy&policyMigration != 0 {
		migration = verdict.Pass(verdict.Migration, "a migration agent may be bound; the policy allows it")
		if !s.AllowMigration {
			migration = verdict.Fail(verdict.Migration, "a migration agent may be bound", "no migration").
				Advise("launch without policy bit 18; allow_migration = true admits it")
		}
	}
	return []verdict.Check{debug.From(source + ", bit 19; policy: [snp] allow_debug"), migration.From(source + ", bit 18; policy: [snp] allow_migration"), s.policyBits(r)}
}

func (s *SNP) policyBits(r *claims.SNPClaims) verdict.Check {
	const source = "AMD 56860, guest policy; policy: [snp] guest_policy_allowed, guest_policy_required, min_abi"
	allowed := or(s.GuestPolicyAllowed, snpGuestPolicy())
	free := uint64(0xffff | 1<<17 | policyDebug | policyMigration)
	var bad, lacking []string
	for _, b := range guestPolicyBits {
		free |= 1 << b.n
		set := r.GuestPolicy>>b.n&1 == 1
		if set && !has(allowed, b.name) && !has(s.GuestPolicyRequired, b.name) {
			bad = append(bad, b.name)
		}
		if !set && has(s.GuestPolicyRequired, b.name) {
			lacking = append(lacking, b.name)
		}
	}
	found := fmt.Sprintf("%#x", r.GuestPolicy)
	abi := Version{uint8(r.GuestPolicy >> 8), uint8(r.GuestPolicy)}
	switch {
	case r.GuestPolicy&^free != 0:
		return verdict.Fail(verdict.GuestPolicy, found+" with unknown bits", "bits that this verifier knows").From(source)
	case len(bad) > 0:
		return verdict.Fail(verdict.GuestPolicy, found+" with "+strings.Join(bad, ", "), "at most "+wantAll(allowed)).From(source)
	case len(lacking) > 0:
		return verdict.Fail(verdict.GuestPolicy, found+" without "+strings.Join(lacking, ", "), strings.Join(s.GuestPolicyRequired, ", ")).From(source)
	case abi.less(s.MinABI):
		return verdict.Fail(verdict.GuestPolicy, "ABI "+abi.String(), "at least "+s.MinABI.String()).From(source)
	}
	return verdict.Pass(verdict.GuestPolicy, found).From(source)
}

func (s *SNP) vmpl(r *claims.SNPClaims) verdict.Check {
	const source = "AMD 56860, ATTESTATION_REPORT, VMPL; policy: [snp] vmpl"
	list := s.VMPL
	if list == nil {
		list = []int{0}
	}
	for _, n := range list {
		if int64(n) == int64(r.VMPL) {
			return verdict.Pass(verdict.VMPL, fmt.Sprint(r.VMPL)).From(source)
		}
	}
	return verdict.Fail(verdict.VMPL, fmt.Sprint(r.VMPL), ints(list)).From(source).
		Advise("at VMPL 1 to 3 a paravisor stands above the one who asked: name the level only if you trust what was launched at VMPL 0")
}
