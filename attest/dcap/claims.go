package dcap

import (
	"bytes"

	"github.com/donjon-tee/donjon/attest/claims"
)

// claims says what the quote and its PCK certificate say. Nothing points into the
// quote's bytes or into what the verifier remembers.
func (q *Quote) claims(c *pckChain) *claims.Claims {
	p := c.platform
	out := &claims.Claims{TEE: claims.SGX, Intel: &claims.IntelPlatform{
		FMSPC: bytes.Clone(p.FMSPC), PCEID: bytes.Clone(p.PCEID), PPID: bytes.Clone(p.PPID),
		PlatformInstanceID: bytes.Clone(p.InstanceID), SGXType: p.SGXType,
		DynamicPlatform: copied(p.DynamicPlatform), CachedKeys: copied(p.CachedKeys), SMTEnabled: copied(p.SMTs),
		CompSVN: bytes.Clone(p.CompSVN[:]), PCESVN: p.PCESVN, QESVN: q.QEReport.ISVSVN,
	}}
	if q.TDX {
		out.TEE = claims.TDX
		out.TDX, out.ReportData, out.HostData = q.td()
		return out
	}
	out.SGX, out.ReportData, out.HostData = q.sgx()
	return out
}

func (q *Quote) td() (t *claims.TDXClaims, reportData, hostData claims.Hex) {
	// One copy of the body for all fields: they cannot outlive one another anyway.
	b := *(&reader{b: bytes.Clone(q.Signed[q.at.body:])}).td(q.BodyType == BodyTDX15)
	t = &claims.TDXClaims{
		QuoteVersion: q.Version, BodyType: q.BodyType,
		TEETCBSVN: b.TEETCBSVN, TEETCBSVN2: b.TEETCBSVN2,
		MRSEAM: b.MRSEAM, MRSignerSEAM: b.MRSignerSEAM, SEAMAttributes: b.SEAMAttributes,
		TDAttributes: b.TDAttributes, XFAM: b.XFAM, MRTD: b.MRTD,
		MRConfigID: b.MRConfigID, MROwner: b.MROwner, MROwnerConfig: b.MROwnerConfig, MRServiceTD: b.MRServiceTD,
	}
	for i := range t.RTMR {
		t.RTMR[i] = b.RTMR[i]
	}
	return t, b.ReportData, b.MRConfigID
}

func (q *Quote) sgx() (s *claims.SGXClaims, reportData, hostData claims.Hex) {
	b := *(&reader{b: bytes.Clone(q.Signed[q.at.body:])}).enclave("report body")
	s = &claims.SGXClaims{
		QuoteVersion: q.Version, CPUSVN: b.CPUSVN, MiscSelect: b.MiscSelect, Attributes: b.Attributes,
		MRENCLAVE: b.MRENCLAVE, MRSIGNER: b.MRSIGNER, ISVProdID: b.ISVProdID, ISVSVN: b.ISVSVN,
		ConfigID: b.ConfigID, ConfigSVN: b.ConfigSVN, FamilyID: b.FamilyID, ExtProdID: b.ExtProdID,
	}
	// CONFIGID is given at launch, and exists only with KSS (ATTRIBUTES bit 7).
	if b.Attributes[0]&0x80 != 0 && !claims.Zero(b.ConfigID) {
		// A digest of 32 bytes, then zeros. More is no digest of ours, and shown whole.
		hostData = b.ConfigID
		if claims.Zero(b.ConfigID[32:]) {
			hostData = b.ConfigID[:32]
		}
	}
	return s, b.ReportData, hostData
}

func copied(b *bool) *bool {
	if b == nil {
		return nil
	}
	c := *b
	return &c
}
