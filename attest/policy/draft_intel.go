package policy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/donjon-tee/donjon/attest/claims"
)

// draftIntel writes what [sgx] and [tdx] share. Revoked and NotSupported are never
// accepted, so nothing is written for them.
func draftIntel(w *writer, in *claims.IntelPlatform) {
	if in == nil {
		return
	}
	if in.Status != "" && slices.Contains(acceptable(), in.Status) {
		if in.Status != "UpToDate" {
			w.comment("ACCEPTED: Intel does not call this platform UpToDate. It lists these advisories as open\nfor it; know what they mean before you keep this.")
		}
		w.key("statuses", texts(in.Status), "Intel's status for the platform")
		if len(in.AdvisoryIDs) > 0 {
			w.key("advisories", texts(in.AdvisoryIDs...), "")
		}
	}
	if n := in.Evaluation; n > 0 {
		if in.QEEvaluation > 0 {
			n = min(n, in.QEEvaluation)
		}
		w.key("min_evaluation_number", strconv.Itoa(int(n)), "of Intel's TCB evaluation data")
	}
	w.key("fmspcs", quotedHexes(in.FMSPC), "this platform model; without the key: any")
	if len(in.PlatformInstanceID) > 0 {
		w.key("platforms", quotedHexes(in.PlatformInstanceID), "this machine alone; without the key: any")
	}
}

func draftTDX(w *writer, c *claims.Claims) {
	t := c.TDX
	w.table("tdx")
	draftIntel(w, c.Intel)
	if binary.LittleEndian.Uint64(t.TDAttributes)&tdxSEPTVE == 0 {
		w.comment("ACCEPTED: the host can show this TD page faults on its private memory (SEPT_VE_DISABLE is 0).")
		w.key("allow_sept_ve", "true", "")
	}
	if binary.LittleEndian.Uint64(t.TDAttributes)&tdxMigratable != 0 {
		w.comment("ACCEPTED: the service TD that is bound can move this TD to another machine.")
	}
	if !claims.Zero(t.MRServiceTD) {
		w.key("service_tds", quotedHexes(t.MRServiceTD), "the service TD that is bound")
	}
	w.key("mrseams", quotedHexes(t.MRSEAM), "this TDX module; without the key: any that Intel signed")
	w.key("xfam_allowed", fmt.Sprintf("%#x", binary.LittleEndian.Uint64(t.XFAM)), "")
	if !claims.Zero(t.MROwner) {
		w.key("mrowners", quotedHexes(t.MROwner), "")
	}
	if !claims.Zero(t.MROwnerConfig) {
		w.key("mrownerconfigs", quotedHexes(t.MROwnerConfig), "")
	}
	w.b.WriteString("\n[[tdx.measurements]]\n")
	w.key("mrtd", text(t.MRTD.String()), "the firmware")
	for i, r := range t.RTMR[:3] {
		w.key("rtmr"+strconv.Itoa(i), text(r.String()), [...]string{"its configuration", "the kernel", "its command line and files"}[i])
	}
	if !claims.Zero(t.RTMR[3]) {
		w.comment("RTMR3 is extended by what runs in the TD; take the # away to demand it.")
		w.comment("rtmr3 = %q", t.RTMR[3].String())
	}
}

func draftSGX(w *writer, c *claims.Claims) {
	s := c.SGX
	w.table("sgx")
	draftIntel(w, c.Intel)
	w.key("enclaves", quotedHexes(s.MRENCLAVE), "this enclave and no other version of it")
	w.key("xfrm_allowed", fmt.Sprintf("%#x", binary.LittleEndian.Uint64(s.Attributes[8:])), "")
	if s.MiscSelect&^1 != 0 {
		w.key("misc_select_allowed", fmt.Sprintf("%#x", s.MiscSelect), "")
	}
	if s.ConfigSVN > 0 {
		w.key("min_config_svn", strconv.Itoa(int(s.ConfigSVN)), "")
	}
	w.comment("Or every version of its signer's product from this one on:")
	w.comment("signers = [{ mrsigner = %q, prod_id = %d, min_svn = %d }]", s.MRSIGNER.String(), s.ISVProdID, s.ISVSVN)
}
