package snp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// ProductOf tells the product from a processor's family and model, as reports of
// version 3 and later give them: the combined values of CPUID Fn0000_0001_EAX
// (family 0x19 or 0x1a). "": unknown. Source: AMD 56860, ATTESTATION_REPORT,
// CPUID_FAM_ID and CPUID_MOD_ID; AMD 57230, which files Bergamo and Siena (models
// 0xa0 to 0xaf) under Genoa.
func ProductOf(family, model byte) string {
	switch {
	case family == 0x19 && model <= 0x0f:
		return Milan
	case family == 0x19 && (model>>4 == 0x1 || model>>4 == 0xa):
		return Genoa
	case family == 0x1a && model <= 0x11:
		return Turin
	}
	return ""
}

// Product tells the report's product; "" for version 2, which does not say, and for
// a processor that is not known.
func (r Report) Product() string {
	if r.Version < 3 {
		return ""
	}
	return ProductOf(r.CPUFamily, r.CPUModel)
}

// ProductLine is the certificate's product without its stepping: Milan for
// Milan-B0. The stepping is not compared: for parts of one product it may differ from
// what CPUID says.
func (e Endorsement) ProductLine() string {
	line, _, _ := strings.Cut(e.Product, "-")
	return line
}

func known(product string) bool { return product == Milan || product == Genoa || product == Turin }

func lower(s string) string { return strings.ToLower(s) }

// SigningKey is the kind of key that signed the report (KEY_INFO bits 2 to 4).
type SigningKey byte

// The kinds of key (AMD 56860, ATTESTATION_REPORT, SIGNING_KEY).
const (
	VCEK SigningKey = 0
	VLEK SigningKey = 1
	None SigningKey = 7
)

func (k SigningKey) String() string {
	switch k {
	case VCEK:
		return "vcek"
	case VLEK:
		return "vlek"
	case None:
		return "none"
	}
	return fmt.Sprintf("reserved value %d", byte(k))
}

// SigningKey is the kind of key that signed the report.
func (r Report) SigningKey() SigningKey { return SigningKey(r.KeyInfo >> 2 & 7) }

// ChipHidden says that the report's chip id is zero: the host hides it.
func (r Report) ChipHidden() bool { return r.ChipID == [64]byte{} }

// VCEKURL is where AMD's key server has the VCEK for a report, "" where that cannot
// be told: no product, a hidden chip id, a report that a VCEK did not sign. Source:
// AMD 57230, section "VCEK".
func (r Report) VCEKURL() string {
	p := r.Product()
	if p == "" || r.ChipHidden() || r.SigningKey() != VCEK {
		return ""
	}
	id, t := r.ChipID[:], r.ReportedTCB.split(p)
	fmc := ""
	if t.FMC != nil {
		id = bytes.Clone(id[:8])
		fmc = fmt.Sprintf("fmcSPL=%02d&", *t.FMC)
	}
	return fmt.Sprintf("https://kdsintf.amd.com/vcek/v1/%s/%s?%sblSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d",
		p, hex.EncodeToString(id), fmc, t.BootLoader, t.TEE, t.SNP, t.Microcode)
}

// CRLURL is where AMD's key server has the product's revocation list, "" for an
// unknown product. The lists of VCEKs and VLEKs are one: the root signs it, and it
// names intermediates.
func CRLURL(product string, k SigningKey) string {
	if !known(product) {
		return ""
	}
	kind := "vcek"
	if k == VLEK {
		kind = "vlek"
	}
	return "https://kdsintf.amd.com/" + kind + "/v1/" + product + "/crl"
}
