package policy

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// SGX is the section [sgx].
type SGX struct {
	Intel

	// Enclaves are the programs that are admitted by their measurement (MRENCLAVE, 32
	// bytes). Absent with Signers: none is named, and runtime-pinned is not made.
	Enclaves []Digest `toml:"enclaves"`
	// Signers admit every program of a signer's product from a version on.
	Signers []SGXSigner `toml:"signers"`
	// AllowDebug admits enclaves whose memory the host can read.
	AllowDebug bool `toml:"allow_debug"`
	// XFRMAllowed are the processor features that the enclave may use. Absent: x87,
	// SSE, AVX, MPX, AVX-512, PKRU and AMX, 0x602ff.
	XFRMAllowed *uint64 `toml:"xfrm_allowed"`
	// MiscSelectAllowed are the bits of MISCSELECT that may be set. Absent: EXINFO, 1.
	MiscSelectAllowed *uint32 `toml:"misc_select_allowed"`
	// ConfigIDs are the accepted CONFIGIDs, 64 bytes each. Absent: any; what workload
	// runs is said by workloads.
	ConfigIDs []Digest `toml:"config_ids"`
	// MinConfigSVN is the least CONFIGSVN. 0: any.
	MinConfigSVN uint16 `toml:"min_config_svn"`
}

// SGXSigner names a product of a signer's; all three must be given.
type SGXSigner struct {
	// MRSIGNER is the SHA-256 of the signer's modulus.
	MRSIGNER Digest `toml:"mrsigner"`
	// ProdID is the product (ISVPRODID).
	ProdID *uint16 `toml:"prod_id"`
	// MinSVN is the least security version (ISVSVN).
	MinSVN *uint16 `toml:"min_svn"`
}

// Bits of ATTRIBUTES. Source: Intel SDM volume 3D, section 36.7.1.
const (
	sgxInit        = uint64(1)
	sgxDebug       = uint64(1) << 1
	sgxMode64      = uint64(1) << 2
	sgxProvision   = uint64(1) << 4
	sgxEInitToken  = uint64(1) << 5
	sgxCET         = uint64(1) << 6
	sgxKSS         = uint64(1) << 7
	sgxAEXNotify   = uint64(1) << 10
	sgxKnown       = sgxInit | sgxDebug | sgxMode64 | sgxProvision | sgxEInitToken | sgxCET | sgxKSS | sgxAEXNotify
	sgxDefaultXFRM = uint64(0x602ff)
	sgxDefaultMisc = uint32(1)
)

func (s *SGX) check() error {
	if err := s.checkIntel(); err != nil {
		return err
	}
	if err := sizes("enclaves", s.Enclaves, 32); err != nil {
		return err
	}
	for i, x := range s.Signers {
		if len(x.MRSIGNER) != 32 || x.ProdID == nil || x.MinSVN == nil {
			return fmt.Errorf("signers, number %d: wanted mrsigner (32 bytes), prod_id and min_svn: a signer alone admits old versions and other programs of his", i+1)
		}
	}
	return sizes("config_ids", s.ConfigIDs, 64)
}

func (s *SGX) appraise(c *claims.Claims, d Demand, _ *Policy) []verdict.Check {
	e := c.SGX
	if e == nil || len(e.Attributes) != 16 {
		return []verdict.Check{verdict.Fail(verdict.Attributes, "claims without an enclave", "an enclave")}
	}
	out := s.platform(c.Intel, claims.SGX)
	out = append(out, s.runtime(e, d))
	out = append(out, s.attributes(e)...)
	if s.ConfigIDs != nil {
		out = append(out, listed(verdict.Attributes, "CONFIGID ", s.ConfigIDs, e.ConfigID, "sgx.config_ids"))
	}
	if s.MinConfigSVN > 0 {
		k := verdict.Pass(verdict.Attributes, fmt.Sprintf("CONFIGSVN %d", e.ConfigSVN))
		if e.ConfigSVN < s.MinConfigSVN {
			k = verdict.Fail(verdict.Attributes, fmt.Sprintf("CONFIGSVN %d", e.ConfigSVN), fmt.Sprintf("at least %d", s.MinConfigSVN))
		}
		out = append(out, k.From("policy: sgx.min_config_svn"))
	}
	return out
}

func (s *SGX) runtime(e *claims.SGXClaims, d Demand) verdict.Check {
	found := fmt.Sprintf("MRENCLAVE %s, MRSIGNER %s, product %d, SVN %d", e.MRENCLAVE, e.MRSIGNER, e.ISVProdID, e.ISVSVN)
	if s.Enclaves == nil && s.Signers == nil {
		return d.unpinned(found)
	}
	if contains(s.Enclaves, e.MRENCLAVE) {
		return verdict.Pass(verdict.RuntimePinned, found).From("policy: sgx.enclaves")
	}
	near := ""
	for i, x := range s.Signers {
		switch {
		case !bytes.Equal(x.MRSIGNER, e.MRSIGNER):
		case x.ProdID == nil || x.MinSVN == nil || *x.ProdID != e.ISVProdID:
			near = fmt.Sprintf("; signer %d fits, the product does not", i+1)
		case e.ISVSVN < *x.MinSVN:
			near = fmt.Sprintf("; signer %d and product fit, the SVN is under %d", i+1, *x.MinSVN)
		default:
			return verdict.Pass(verdict.RuntimePinned, found).From("policy: sgx.signers")
		}
	}
	wanted := fmt.Sprintf("one of %d enclaves or of %d signers' products%s", len(s.Enclaves), len(s.Signers), near)
	return verdict.Fail(verdict.RuntimePinned, found, wanted).From("policy: sgx.enclaves, sgx.signers")
}

func (s *SGX) attributes(e *claims.SGXClaims) []verdict.Check {
	const from = "THREATS T22; SDM 3D, 36.7.1"
	flags, xfrm := binary.LittleEndian.Uint64(e.Attributes), binary.LittleEndian.Uint64(e.Attributes[8:])
	var out []verdict.Check
	switch {
	case flags&sgxDebug == 0:
		out = append(out, verdict.Pass(verdict.Debug, "DEBUG is 0").From(from))
	case s.AllowDebug:
		out = append(out, verdict.Pass(verdict.Debug, "DEBUG is 1; the policy allows it").From("policy: sgx.allow_debug"))
	default:
		out = append(out, verdict.Fail(verdict.Debug, "DEBUG is 1", "0").From(from).Advise("nothing in a debug enclave is confidential"))
	}
	bad := ""
	for _, x := range []struct {
		bit  uint64
		set  bool
		name string
	}{{sgxInit, true, "INIT is 0"}, {sgxMode64, true, "MODE64BIT is 0"}, {sgxProvision, false, "PROVISIONKEY is 1"}, {sgxEInitToken, false, "EINITTOKENKEY is 1"}} {
		if (flags&x.bit != 0) != x.set {
			bad += x.name + ", "
		}
	}
	if x := flags &^ sgxKnown; x != 0 {
		bad += fmt.Sprintf("unknown bits %#x are set, ", x)
	}
	if xfrm&3 != 3 {
		bad += "XFRM lacks x87 or SSE, "
	}
	if bad != "" {
		out = append(out, verdict.Fail(verdict.Attributes, fmt.Sprintf("%sflags %#x", bad, flags), "INIT and MODE64BIT, neither PROVISIONKEY nor EINITTOKENKEY, nothing unknown").From(from))
	} else {
		out = append(out, verdict.Pass(verdict.Attributes, fmt.Sprintf("flags %#x", flags)).From(from))
	}
	misc := sgxDefaultMisc
	if s.MiscSelectAllowed != nil {
		misc = *s.MiscSelectAllowed
	}
	return append(out, within(verdict.Attributes, "XFRM", xfrm, value(s.XFRMAllowed, sgxDefaultXFRM), "sgx.xfrm_allowed"),
		within(verdict.Attributes, "MISCSELECT", uint64(e.MiscSelect), uint64(misc), "sgx.misc_select_allowed"))
}

func (s *SGX) describe() []string {
	out := s.describeIntel()
	switch {
	case s.Enclaves == nil && s.Signers == nil:
		out = append(out, "no program is named: evidence is never admitted, only its platform judged")
	case len(s.Enclaves)+len(s.Signers) == 0:
		out = append(out, "no program is admitted: the lists are empty")
	}
	for _, d := range s.Enclaves {
		out = append(out, "admitted: the enclave "+d.String())
	}
	for _, x := range s.Signers {
		out = append(out, fmt.Sprintf("admitted: product %d of signer %s from SVN %d on", *x.ProdID, x.MRSIGNER, *x.MinSVN))
	}
	if s.AllowDebug {
		out = append(out, "debug enclaves are admitted: nothing in them is confidential")
	}
	misc := sgxDefaultMisc
	if s.MiscSelectAllowed != nil {
		misc = *s.MiscSelectAllowed
	}
	out = append(out, fmt.Sprintf("XFRM may have bits of %#x, MISCSELECT of %#x", value(s.XFRMAllowed, sgxDefaultXFRM), misc))
	if s.ConfigIDs != nil {
		out = append(out, "CONFIGID must be "+oneOf(s.ConfigIDs))
	}
	if s.MinConfigSVN > 0 {
		out = append(out, fmt.Sprintf("CONFIGSVN must be %d or higher", s.MinConfigSVN))
	}
	return out
}
