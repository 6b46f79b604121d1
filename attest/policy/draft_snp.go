package policy

import (
	"fmt"
	"strconv"

	"github.com/donjon-tee/donjon/attest/claims"
)

// draftSNP writes the section [snp] for one report.
func draftSNP(w *writer, c *claims.Claims) {
	s := c.SNP
	w.table("snp")
	switch {
	case s.Product == "Milan":
		w.comment("Milan is admitted by name alone: its root seed is reported to be readable by software\n(arXiv 2605.12990), so that whoever has such a machine can forge reports of any TCB.")
	case s.Product == "":
		w.comment("The report does not say which product made it.")
	}
	if s.Product != "" {
		w.key("products", texts(s.Product), "")
	}
	w.key("launch_digests", quotedHexes(s.LaunchDigest), "what was measured at launch")
	for _, x := range []struct {
		key, note string
		value     claims.Hex
	}{{"id_keys", "signed the launch", s.IDKeyDigest}, {"author_keys", "signed the id key", s.AuthorKeyDigest}, {"family_ids", "", s.FamilyID}, {"image_ids", "", s.ImageID}} {
		if !claims.Zero(x.value) {
			w.key(x.key, quotedHexes(x.value), x.note)
		}
	}
	if s.GuestSVN > 0 {
		w.key("min_guest_svn", strconv.Itoa(int(s.GuestSVN)), "")
	}
	if s.VMPL != 0 {
		w.comment("The report was asked for at privilege level %d: software at a higher level (lower\nnumber) stands between it and the hardware, and is trusted with this.", s.VMPL)
		w.key("vmpl", fmt.Sprintf("[%d]", s.VMPL), "")
	}
	w.key("signing_keys", texts(s.SigningKey), "")
	if s.CSP != "" {
		w.key("csps", texts(s.CSP), "the cloud provider of the VLEK")
	}
	if claims.Zero(s.ChipID) {
		w.comment("The host hides the chip id (it is zero): no list of chips can admit this machine alone.")
	} else {
		w.key("chip_ids", quotedHexes(s.ChipID), "this machine alone; without the key: any")
	}
	var bits []string
	for _, b := range guestPolicyBits {
		if s.GuestPolicy&(1<<b.n) != 0 {
			bits = append(bits, b.name)
		}
	}
	w.key("guest_policy_allowed", texts(bits...), "what this guest's policy allows the host")
	w.key("min_abi", text(fmt.Sprintf("%d.%d", s.GuestPolicy>>8&0xff, s.GuestPolicy&0xff)), "")
	w.key("min_firmware", text(s.CommittedVersion), "of the SEV firmware, committed")
	if s.PlatformInfo&(1<<5) != 0 {
		w.key("platform_info_required", texts("alias_check_complete"), "BadRAM, AMD-SB-3015")
	}
	if s.Product == "" {
		return
	}
	w.table("snp.floors." + bare(s.Product))
	w.comment("The lowest of the reported, committed, current and launch TCB.")
	all := []claims.SNPTCB{s.Reported, s.Committed, s.Current, s.Launch}
	for i, first := range components(s.Reported) {
		least := first.level
		for _, t := range all {
			if x := components(t); i < len(x) {
				least = min(least, x[i].level)
			}
		}
		note := ""
		for _, d := range snpFloors {
			if d.product == s.Product && d.component == first.name && least < d.level {
				note = fmt.Sprintf("LOWERED: the default is %d (%s)", d.level, d.source)
			}
		}
		w.key(first.name, strconv.Itoa(int(least)), note)
	}
}
