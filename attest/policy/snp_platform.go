package policy

import (
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// platforms compares whose machine it is: kind of key, provider, chip.
func (s *SNP) platforms(r *claims.SNPClaims) verdict.Check {
	const source = "policy: [snp] signing_keys, csps, chip_ids"
	list := or(s.SigningKeys, snpSigningKeys())
	switch {
	case !has(list, r.SigningKey):
		return verdict.Fail(verdict.Platforms, "signed by: "+r.SigningKey, wantOne(list)).From(source)
	case r.SigningKey == "vlek" && s.CSPs != nil && r.CSP == "":
		return verdict.Skip(verdict.Platforms, "the VLEK's certificate, which names the provider, is not at hand", "give the VLEK").From(source)
	case r.SigningKey == "vlek" && s.CSPs != nil && !has(s.CSPs, r.CSP):
		return verdict.Fail(verdict.Platforms, "a VLEK of "+r.CSP, wantOne(s.CSPs)).From(source)
	case s.ChipIDs != nil && claims.Zero(r.ChipID):
		return verdict.Fail(verdict.Platforms, "a hidden chip id", oneOf(s.ChipIDs)).From(source).Advise("the host hides it (MASK_CHIP_ID), or a VLEK signed")
	case s.ChipIDs != nil && !s.chip(r.ChipID):
		return verdict.Fail(verdict.Platforms, "chip "+r.ChipID.String(), oneOf(s.ChipIDs)).From(source)
	}
	found := "chip " + r.ChipID.String()
	if r.SigningKey == "vlek" {
		found = "a VLEK of " + r.CSP
	}
	return verdict.Pass(verdict.Platforms, found).From(source)
}

// chip compares with the list; eight bytes stand for a chip id that is zero behind
// them, as Turin's are.
func (s *SNP) chip(id claims.Hex) bool {
	for _, d := range s.ChipIDs {
		n := len(d)
		if len(id) == 64 && !claims.Zero(d) && string(id[:n]) == string(d) && claims.Zero(id[n:]) {
			return true
		}
	}
	return false
}

// floor is the policy's level for a component, or the default.
func (s *SNP) floor(product, component string) (level uint8, source string) {
	f := s.Floors[product]
	var given *uint8
	switch component {
	case "fmc":
		given = f.FMC
	case "boot_loader":
		given = f.BootLoader
	case "tee":
		given = f.TEE
	case "snp":
		given = f.SNP
	case "microcode":
		given = f.Microcode
	}
	if given != nil {
		return *given, "policy: [snp.floors." + product + "]"
	}
	for _, d := range snpFloors {
		if d.product == product && d.component == component {
			return d.level, d.source
		}
	}
	return 0, ""
}

// component is one level of a TCB.
type component struct {
	name  string
	level uint8
}

func components(t claims.SNPTCB) []component {
	var out []component
	if t.FMC != nil {
		out = append(out, component{"fmc", *t.FMC})
	}
	return append(out, component{"boot_loader", t.BootLoader}, component{"tee", t.TEE}, component{"snp", t.SNP}, component{"microcode", t.Microcode})
}

type namedTCB struct {
	name string
	tcb  claims.SNPTCB
}

// floors holds every TCB against the floors: the reported one alone is the host's
// choice, and a guest launched under old firmware stays what it was (THREATS T21).
func (s *SNP) floors(r *claims.SNPClaims) verdict.Check {
	var found, wanted []string
	sources := map[string]bool{}
	source := "policy: [snp] floors"
	for _, t := range []namedTCB{{"reported", r.Reported}, {"committed", r.Committed}, {"current", r.Current}, {"launch", r.Launch}} {
		for _, c := range components(t.tcb) {
			level, from := s.floor(r.Product, c.name)
			if c.level >= level {
				continue
			}
			found = append(found, fmt.Sprintf("%s %s %d", t.name, c.name, c.level))
			want := fmt.Sprintf("%s at least %d", c.name, level)
			if !has(wanted, want) {
				wanted = append(wanted, want)
			}
			if !sources[from] {
				sources[from] = true
				source += "; " + from
			}
		}
	}
	switch {
	case len(found) > 0:
		return verdict.Fail(verdict.TCBFloor, strings.Join(found, ", "), strings.Join(wanted, ", ")).From(source).
			Advise("the platform's firmware must be updated and committed, and the guest launched anew")
	case r.Product == "":
		return verdict.Skip(verdict.TCBFloor, "the product is not known, and with it its floors", "").From(source)
	}
	return verdict.Pass(verdict.TCBFloor, tcb(r.Reported)).From(source)
}

func tcb(t claims.SNPTCB) string {
	var out []string
	for _, c := range components(t) {
		out = append(out, fmt.Sprintf("%s %d", c.name, c.level))
	}
	return strings.Join(out, ", ")
}

// tcbOrder: firmware lets the host report less than it has, never more (AMD 56860,
// SNP_COMMIT, SNP_SET_CONFIG).
func tcbOrder(r *claims.SNPClaims) verdict.Check {
	const source = "AMD 56860, SNP_COMMIT and SNP_SET_CONFIG"
	var bad []string
	pairs := []struct{ less, more namedTCB }{
		{namedTCB{"committed", r.Committed}, namedTCB{"current", r.Current}},
		{namedTCB{"reported", r.Reported}, namedTCB{"committed", r.Committed}},
	}
	for _, p := range pairs {
		more := components(p.more.tcb)
		for i, c := range components(p.less.tcb) {
			if i < len(more) && c.level > more[i].level {
				bad = append(bad, fmt.Sprintf("%s %s %d over %s %d", p.less.name, c.name, c.level, p.more.name, more[i].level))
			}
		}
	}
	var current, committed Version
	if current.UnmarshalText([]byte(r.CurrentVersion)) != nil || committed.UnmarshalText([]byte(r.CommittedVersion)) != nil {
		bad = append(bad, "firmware versions that cannot be read")
	} else if current.less(committed) {
		bad = append(bad, fmt.Sprintf("committed firmware %s over current %s", committed, current))
	}
	if len(bad) > 0 {
		return verdict.Fail(verdict.TCBOrder, strings.Join(bad, ", "), "reported at most committed, committed at most current").From(source)
	}
	return verdict.Pass(verdict.TCBOrder, "reported at most committed, committed at most current").From(source)
}

func (s *SNP) firmware(r *claims.SNPClaims) verdict.Check {
	if s.MinFirmware == nil {
		return verdict.Check{}
	}
	const source = "policy: [snp] min_firmware; AMD 56860, CURRENT_MAJOR and following"
	for _, v := range []struct{ name, text string }{{"current", r.CurrentVersion}, {"committed", r.CommittedVersion}} {
		var have Version
		if err := have.UnmarshalText([]byte(v.text)); err != nil || have.less(s.MinFirmware) {
			return verdict.Fail(verdict.Firmware, v.name+" "+v.text, "at least "+s.MinFirmware.String()).From(source)
		}
	}
	return verdict.Pass(verdict.Firmware, r.CommittedVersion).From(source)
}

func (s *SNP) platformInfo(r *claims.SNPClaims) verdict.Check {
	if s.PlatformInfoRequired == nil && s.PlatformInfoDenied == nil {
		return verdict.Check{}
	}
	const source = "policy: [snp] platform_info_required, platform_info_denied; AMD 56860, PLATFORM_INFO"
	found := fmt.Sprintf("%#x", r.PlatformInfo)
	for _, b := range platformInfoBits {
		switch set := r.PlatformInfo>>b.n&1 == 1; {
		case !set && has(s.PlatformInfoRequired, b.name):
			return verdict.Fail(verdict.PlatformInfo, found+" without "+b.name, b.name).From(source)
		case set && has(s.PlatformInfoDenied, b.name):
			return verdict.Fail(verdict.PlatformInfo, found+" with "+b.name, "no "+b.name).From(source)
		}
	}
	return verdict.Pass(verdict.PlatformInfo, found).From(source)
}

func (s *SNP) mitigations(r *claims.SNPClaims) verdict.Check {
	if s.MitigationsRequired == nil {
		return verdict.Check{}
	}
	const source = "policy: [snp] mitigations_required; AMD 56860, LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR"
	if r.LaunchMitigations == nil || r.CurrentMitigations == nil {
		return verdict.Skip(verdict.Mitigations, fmt.Sprintf("a report of version %d has no mitigation vectors", r.ReportVersion), "update the firmware: version 5 has them").From(source)
	}
	found := fmt.Sprintf("launch %#x, current %#x", *r.LaunchMitigations, *r.CurrentMitigations)
	for _, n := range s.MitigationsRequired {
		if both := *r.LaunchMitigations & *r.CurrentMitigations; both>>uint(n)&1 == 0 {
			return verdict.Fail(verdict.Mitigations, found, fmt.Sprintf("bit %d in both", n)).From(source)
		}
	}
	return verdict.Pass(verdict.Mitigations, found).From(source)
}

func (s *SNP) describe() []string {
	list := or(s.Products, snpProducts())
	out := []string{"the processor must be " + wantOne(list)}
	if has(list, "Milan") {
		out = append(out, "Milan is admitted, though its reports can be forged (arXiv 2605.12990)")
	}
	switch signer := s.IDKeys != nil || s.AuthorKeys != nil; {
	case s.LaunchDigests != nil:
		out = append(out, "the launch digest must be "+oneOf(s.LaunchDigests))
	case !signer:
		out = append(out, "no program is named: evidence is never admitted until launch_digests, or a signer with min_guest_svn, says which")
	}
	for _, x := range []struct {
		what string
		list []Digest
	}{{"ID key", s.IDKeys}, {"author key", s.AuthorKeys}, {"family ID", s.FamilyIDs}, {"image ID", s.ImageIDs}, {"chip", s.ChipIDs}} {
		if x.list != nil {
			out = append(out, "the "+x.what+" must be "+oneOf(x.list))
		}
	}
	if s.MinGuestSVN != nil {
		out = append(out, fmt.Sprintf("the guest SVN must be at least %d", *s.MinGuestSVN))
	}
	out = append(out, yes(s.AllowDebug, "debugging by the host is ADMITTED: nothing is secret from it", "debugging by the host is refused"),
		yes(s.AllowMigration, "a migration agent is admitted", "a migration agent is refused"),
		"the guest policy may have "+wantAll(or(s.GuestPolicyAllowed, snpGuestPolicy()))+", and no bit without a name")
	if len(s.GuestPolicyRequired) > 0 {
		out = append(out, "the guest policy must have "+wantAll(s.GuestPolicyRequired))
	}
	if s.MinABI != nil {
		out = append(out, "the guest policy must demand firmware ABI "+s.MinABI.String()+" at least")
	}
	vmpl := "0"
	if s.VMPL != nil {
		vmpl = ints(s.VMPL)
	}
	out = append(out, "the report must be from VMPL "+vmpl, "it must be signed by "+wantOne(or(s.SigningKeys, snpSigningKeys())))
	if s.CSPs != nil {
		out = append(out, "a VLEK must be of "+wantOne(s.CSPs))
	}
	for _, product := range list {
		for _, c := range []string{"fmc", "boot_loader", "tee", "snp", "microcode"} {
			if level, from := s.floor(product, c); from != "" {
				out = append(out, fmt.Sprintf("on %s the level of %s must be at least %d in every TCB (%s)", product, c, level, from))
			}
		}
	}
	if s.MinFirmware != nil {
		out = append(out, "the firmware must be at least "+s.MinFirmware.String())
	}
	if len(s.PlatformInfoRequired) > 0 {
		out = append(out, "the platform must have "+wantAll(s.PlatformInfoRequired))
	}
	if len(s.PlatformInfoDenied) > 0 {
		out = append(out, "the platform must not have "+wantAll(s.PlatformInfoDenied))
	}
	if len(s.MitigationsRequired) > 0 {
		out = append(out, "the mitigation vectors must have bits "+ints(s.MitigationsRequired))
	}
	return out
}
