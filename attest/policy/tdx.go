package policy

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// TDX is the section [tdx].
type TDX struct {
	Intel

	// Measurements are the programs that are admitted, each by MRTD (the firmware) and
	// RTMR0 to RTMR2 (its configuration, the kernel, its command line and files)
	// together. Absent: none is named, and the check runtime-pinned is not made.
	Measurements []TDXMeasurement `toml:"measurements"`
	// AllowDebug admits TDs whose owner can read their memory (the attributes' TUD
	// byte).
	AllowDebug bool `toml:"allow_debug"`
	// AllowSEPTVE admits TDs to which the host can show page faults on private memory
	// (SEPT_VE_DISABLE = 0).
	AllowSEPTVE bool `toml:"allow_sept_ve"`
	// ServiceTDs are the service TDs (MRSERVICETD, 48 bytes) that may be bound, and by
	// which a TD may be migrated. Absent: none.
	ServiceTDs []Digest `toml:"service_tds"`
	// AttributesAllowed are the TD attribute bits that may be set, beside those with a
	// rule of their own. Absent: LASS, SEPT_VE_DISABLE, PKS and KL.
	AttributesAllowed *uint64 `toml:"attributes_allowed"`
	// XFAMAllowed are the processor features that the TD may use. Absent: those that
	// the TDX module knows, 0x6dbe7.
	XFAMAllowed *uint64 `toml:"xfam_allowed"`
	// MinModuleVersion and MinModuleSVN are the least version (TEE_TCB_SVN[1]; 1 is TDX
	// 1.5) and security version (TEE_TCB_SVN[0]) of the TDX module. 0: any.
	MinModuleVersion uint8 `toml:"min_module_version"`
	MinModuleSVN     uint8 `toml:"min_module_svn"`
	// MRSEAMs are the TDX modules by their measurement. Absent: any that Intel signed.
	MRSEAMs []Digest `toml:"mrseams"`
	// MROwners and MROwnerConfigs are the accepted values of MROWNER and
	// MROWNERCONFIG, 48 bytes each, which whoever starts the TD sets. Absent: any.
	MROwners       []Digest `toml:"mrowners"`
	MROwnerConfigs []Digest `toml:"mrownerconfigs"`
}

// TDXMeasurement names one program. All but RTMR3 must be given.
type TDXMeasurement struct {
	// Name is for people.
	Name  string `toml:"name"`
	MRTD  Digest `toml:"mrtd"`
	RTMR0 Digest `toml:"rtmr0"`
	RTMR1 Digest `toml:"rtmr1"`
	RTMR2 Digest `toml:"rtmr2"`
	// RTMR3 is extended by what runs in the TD. Absent: any.
	RTMR3 Digest `toml:"rtmr3"`
}

// Bits of TD attributes and XFAM. Source: Intel TDX Module ABI specification,
// ATTRIBUTES and XFAM.
const (
	tdxTUD         = uint64(0xff)
	tdxLASS        = uint64(1) << 27
	tdxSEPTVE      = uint64(1) << 28 // SEPT_VE_DISABLE
	tdxMigratable  = uint64(1) << 29
	tdxPKS         = uint64(1) << 30
	tdxKL          = uint64(1) << 31
	tdxDefaultAttr = tdxLASS | tdxSEPTVE | tdxPKS | tdxKL
	tdxDefaultXFAM = uint64(0x6dbe7)
)

func (s *TDX) check() error {
	if err := s.checkIntel(); err != nil {
		return err
	}
	for i, m := range s.Measurements {
		for name, d := range map[string]Digest{"mrtd": m.MRTD, "rtmr0": m.RTMR0, "rtmr1": m.RTMR1, "rtmr2": m.RTMR2} {
			if len(d) != 48 {
				return fmt.Errorf("measurements, number %d: %s has %d bytes, wanted 48: MRTD and RTMR0 to RTMR2 pin a program together only", i+1, name, len(d))
			}
		}
		if m.RTMR3 != nil && len(m.RTMR3) != 48 {
			return fmt.Errorf("measurements, number %d: rtmr3 has %d bytes, wanted 48", i+1, len(m.RTMR3))
		}
	}
	for name, list := range map[string][]Digest{"service_tds": s.ServiceTDs, "mrseams": s.MRSEAMs, "mrowners": s.MROwners, "mrownerconfigs": s.MROwnerConfigs} {
		if err := sizes(name, list, 48); err != nil {
			return err
		}
	}
	for _, d := range s.ServiceTDs {
		if claims.Zero(d) {
			return fmt.Errorf("service_tds: zero is no service TD")
		}
	}
	return nil
}

func (s *TDX) appraise(c *claims.Claims, d Demand, _ *Policy) []verdict.Check {
	t := c.TDX
	if t == nil || len(t.TDAttributes) != 8 || len(t.XFAM) != 8 || len(t.TEETCBSVN) != 16 {
		return []verdict.Check{verdict.Fail(verdict.Attributes, "claims without a TD", "a TD")}
	}
	out := s.platform(c.Intel, claims.TDX)
	out = append(out, s.runtime(t, d))
	out = append(out, s.attributes(t)...)
	out = append(out, s.module(t)...)
	if s.MROwners != nil {
		out = append(out, listed(verdict.Attributes, "MROWNER ", s.MROwners, t.MROwner, "tdx.mrowners"))
	}
	if s.MROwnerConfigs != nil {
		out = append(out, listed(verdict.Attributes, "MROWNERCONFIG ", s.MROwnerConfigs, t.MROwnerConfig, "tdx.mrownerconfigs"))
	}
	return out
}

func (s *TDX) runtime(t *claims.TDXClaims, d Demand) verdict.Check {
	found := fmt.Sprintf("MRTD %s, RTMR0 %s, RTMR1 %s, RTMR2 %s", t.MRTD, t.RTMR[0], t.RTMR[1], t.RTMR[2])
	if s.Measurements == nil {
		return d.unpinned(found)
	}
	near := ""
	for i, m := range s.Measurements {
		ok := bytes.Equal(m.MRTD, t.MRTD) && bytes.Equal(m.RTMR0, t.RTMR[0]) && bytes.Equal(m.RTMR1, t.RTMR[1]) && bytes.Equal(m.RTMR2, t.RTMR[2])
		if ok && equalOrAny(m.RTMR3, t.RTMR[3]) {
			return verdict.Pass(verdict.RuntimePinned, fmt.Sprintf("measurement %d %q: %s", i+1, m.Name, found)).From("policy: tdx.measurements")
		}
		if bytes.Equal(m.MRTD, t.MRTD) {
			near = fmt.Sprintf("; MRTD is that of measurement %d, the RTMRs are not: another configuration, kernel or command line", i+1)
		}
	}
	return verdict.Fail(verdict.RuntimePinned, found, fmt.Sprintf("one of %d measurements%s", len(s.Measurements), near)).From("policy: tdx.measurements")
}

func (s *TDX) attributes(t *claims.TDXClaims) []verdict.Check {
	a, from := binary.LittleEndian.Uint64(t.TDAttributes), "THREATS T22; TDX ABI, ATTRIBUTES"
	var out []verdict.Check
	switch {
	case a&tdxTUD == 0:
		out = append(out, verdict.Pass(verdict.Debug, "TUD is zero").From(from))
	case s.AllowDebug:
		out = append(out, verdict.Pass(verdict.Debug, fmt.Sprintf("TUD is %#02x; the policy allows it", a&tdxTUD)).From("policy: tdx.allow_debug"))
	default:
		out = append(out, verdict.Fail(verdict.Debug, fmt.Sprintf("TUD is %#02x", a&tdxTUD), "zero").From(from).Advise("nothing in a debug TD is confidential"))
	}
	switch {
	case a&tdxSEPTVE != 0:
		out = append(out, verdict.Pass(verdict.Attributes, "SEPT_VE_DISABLE is 1").From(from))
	case s.AllowSEPTVE:
		out = append(out, verdict.Pass(verdict.Attributes, "SEPT_VE_DISABLE is 0; the policy allows it").From("policy: tdx.allow_sept_ve"))
	default:
		out = append(out, verdict.Fail(verdict.Attributes, "SEPT_VE_DISABLE is 0", "1").From(from).Advise("the host could inject #VE on private pages; start the TD with SEPT_VE_DISABLE"))
	}
	bound := len(t.MRServiceTD) > 0 && !claims.Zero(t.MRServiceTD)
	named := bound && contains(s.ServiceTDs, t.MRServiceTD)
	switch {
	case a&tdxMigratable == 0:
		out = append(out, verdict.Pass(verdict.Migration, "MIGRATABLE is 0").From(from))
	case named:
		out = append(out, verdict.Pass(verdict.Migration, "MIGRATABLE is 1, by service TD "+t.MRServiceTD.String()).From("policy: tdx.service_tds"))
	default:
		out = append(out, verdict.Fail(verdict.Migration, "MIGRATABLE is 1, service TD "+judged(t.MRServiceTD.String()), "0, or a service TD that the policy names").From(from))
	}
	switch {
	case !bound:
		out = append(out, verdict.Pass(verdict.ServiceTD, "none").From(from))
	case named:
		out = append(out, verdict.Pass(verdict.ServiceTD, t.MRServiceTD.String()).From("policy: tdx.service_tds"))
	default:
		out = append(out, verdict.Fail(verdict.ServiceTD, t.MRServiceTD.String(), oneOf(s.ServiceTDs)).From("policy: tdx.service_tds"))
	}
	allowed := value(s.AttributesAllowed, tdxDefaultAttr)
	out = append(out, bitsWithin(verdict.Attributes, "attributes", a&^(tdxTUD|tdxSEPTVE|tdxMigratable), allowed, "tdx.attributes_allowed"))
	return append(out, bitsWithin(verdict.Attributes, "XFAM", binary.LittleEndian.Uint64(t.XFAM), value(s.XFAMAllowed, tdxDefaultXFAM), "tdx.xfam_allowed"))
}

func value(p *uint64, absent uint64) uint64 {
	if p == nil {
		return absent
	}
	return *p
}

func (s *TDX) module(t *claims.TDXClaims) []verdict.Check {
	var out []verdict.Check
	found := fmt.Sprintf("MRSIGNERSEAM %s, SEAMATTRIBUTES %s", t.MRSignerSEAM, t.SEAMAttributes)
	if claims.Zero(t.MRSignerSEAM) && claims.Zero(t.SEAMAttributes) {
		out = append(out, verdict.Pass(verdict.SEAMModule, "Intel's, without debugging").From("THREATS T22; TDX ABI, TEE_TCB_INFO"))
	} else {
		out = append(out, verdict.Fail(verdict.SEAMModule, found, "zero in both: Intel's module, without debugging").From("THREATS T22; TDX ABI, TEE_TCB_INFO"))
	}
	if s.MinModuleVersion > 0 || s.MinModuleSVN > 0 {
		// Both of what the TD was launched on and what it runs on now.
		ok, found := true, ""
		for i, svn := range []claims.Hex{t.TEETCBSVN, t.TEETCBSVN2} {
			if i == 1 && len(svn) != 16 {
				continue
			}
			ok = ok && svn[1] >= s.MinModuleVersion && svn[0] >= s.MinModuleSVN
			found += fmt.Sprintf("%s version %d, SVN %d; ", []string{"launched on", "now"}[i], svn[1], svn[0])
		}
		k := verdict.Pass(verdict.SEAMModule, found)
		if !ok {
			k = verdict.Fail(verdict.SEAMModule, found, fmt.Sprintf("version %d, SVN %d or higher", s.MinModuleVersion, s.MinModuleSVN))
		}
		out = append(out, k.From("policy: tdx.min_module_version, tdx.min_module_svn"))
	}
	if s.MRSEAMs != nil {
		out = append(out, listed(verdict.SEAMModule, "MRSEAM ", s.MRSEAMs, t.MRSEAM, "tdx.mrseams"))
	}
	return out
}

func (s *TDX) describe() []string {
	out := s.describeIntel()
	switch {
	case s.Measurements == nil:
		out = append(out, "no program is named: evidence is never admitted, only its platform judged")
	case len(s.Measurements) == 0:
		out = append(out, "no program is admitted: the list is empty")
	default:
		for _, m := range s.Measurements {
			line := fmt.Sprintf("admitted: %q with MRTD %s, RTMR0 %s, RTMR1 %s, RTMR2 %s", m.Name, m.MRTD, m.RTMR0, m.RTMR1, m.RTMR2)
			if m.RTMR3 != nil {
				line += ", RTMR3 " + m.RTMR3.String()
			}
			out = append(out, line)
		}
	}
	if s.AllowDebug {
		out = append(out, "debug TDs are admitted: nothing in them is confidential")
	}
	if s.AllowSEPTVE {
		out = append(out, "TDs without SEPT_VE_DISABLE are admitted")
	}
	if s.ServiceTDs != nil {
		out = append(out, "a TD may be migrated by a service TD that is "+oneOf(s.ServiceTDs))
	} else {
		out = append(out, "no TD may be migrated or have a service TD")
	}
	out = append(out, fmt.Sprintf("attributes may have bits of %#x, XFAM of %#x", value(s.AttributesAllowed, tdxDefaultAttr), value(s.XFAMAllowed, tdxDefaultXFAM)))
	if s.MinModuleVersion > 0 || s.MinModuleSVN > 0 {
		out = append(out, fmt.Sprintf("the TDX module must have version %d and SVN %d or higher", s.MinModuleVersion, s.MinModuleSVN))
	}
	for _, x := range []struct {
		name string
		list []Digest
	}{{"MRSEAM", s.MRSEAMs}, {"MROWNER", s.MROwners}, {"MROWNERCONFIG", s.MROwnerConfigs}} {
		if x.list != nil {
			out = append(out, x.name+" must be "+oneOf(x.list))
		}
	}
	return out
}
