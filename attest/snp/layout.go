package snp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/layout"
)

// PolicyBits and PlatformInfoBits name the bits of a report's POLICY (bits 0 to 15
// are the ABI's minor and major number, 17 is always 1) and PLATFORM_INFO, by
// position (AMD 56860, guest policy and ATTESTATION_REPORT).
func PolicyBits() map[uint]string {
	return map[uint]string{16: "SMT", 17: "reserved, 1", 18: "MIGRATE_MA", 19: "DEBUG", 20: "SINGLE_SOCKET", 21: "CXL_ALLOW",
		22: "MEM_AES_256_XTS", 23: "RAPL_DIS", 24: "CIPHERTEXT_HIDING_DRAM", 25: "PAGE_SWAP_DISABLE"}
}

// PlatformInfoBits names the bits of PLATFORM_INFO; see PolicyBits.
func PlatformInfoBits() map[uint]string {
	return map[uint]string{0: "SMT_EN", 1: "TSME_EN", 2: "ECC_EN", 3: "RAPL_DIS", 4: "CIPHERTEXT_HIDING_DRAM_EN",
		5: "ALIAS_CHECK_COMPLETE", 6: "IOMMU_WRITE_SAFE", 7: "TIO_EN"}
}

// field is one row of the report's layout.
type field struct {
	offset, size int
	name         string
	kind         fieldKind
}

type fieldKind byte

const (
	asHex fieldKind = iota
	asNumber
	asPolicy
	asPlatformInfo
	asKeyInfo
	asTCB
	asReserved
	asAlgorithm
	asMitigation
	asCPUID
	asInteger // little endian, of the signature
)

// reportFields are the report's fields in order, without gaps (AMD 56860,
// ATTESTATION_REPORT).
var reportFields = [...]field{
	{0x000, 4, "VERSION", asNumber}, {0x004, 4, "GUEST_SVN", asNumber}, {0x008, 8, "POLICY", asPolicy},
	{0x010, 16, "FAMILY_ID", asHex}, {0x020, 16, "IMAGE_ID", asHex}, {0x030, 4, "VMPL", asNumber},
	{0x034, 4, "SIGNATURE_ALGO", asAlgorithm}, {0x038, 8, "CURRENT_TCB", asTCB}, {0x040, 8, "PLATFORM_INFO", asPlatformInfo},
	{0x048, 4, "KEY_INFO", asKeyInfo}, {0x04c, 4, "RESERVED", asReserved}, {0x050, 64, "REPORT_DATA", asHex},
	{0x090, 48, "MEASUREMENT", asHex}, {0x0c0, 32, "HOST_DATA", asHex}, {0x0e0, 48, "ID_KEY_DIGEST", asHex},
	{0x110, 48, "AUTHOR_KEY_DIGEST", asHex}, {0x140, 32, "REPORT_ID", asHex}, {0x160, 32, "REPORT_ID_MA", asHex},
	{0x180, 8, "REPORTED_TCB", asTCB}, {0x188, 1, "CPUID_FAM_ID", asCPUID}, {0x189, 1, "CPUID_MOD_ID", asCPUID},
	{0x18a, 1, "CPUID_STEP", asCPUID}, {0x18b, 21, "RESERVED", asReserved}, {0x1a0, 64, "CHIP_ID", asHex},
	{0x1e0, 8, "COMMITTED_TCB", asTCB}, {0x1e8, 1, "CURRENT_BUILD", asNumber}, {0x1e9, 1, "CURRENT_MINOR", asNumber},
	{0x1ea, 1, "CURRENT_MAJOR", asNumber}, {0x1eb, 1, "RESERVED", asReserved}, {0x1ec, 1, "COMMITTED_BUILD", asNumber},
	{0x1ed, 1, "COMMITTED_MINOR", asNumber}, {0x1ee, 1, "COMMITTED_MAJOR", asNumber}, {0x1ef, 1, "RESERVED", asReserved},
	{0x1f0, 8, "LAUNCH_TCB", asTCB}, {0x1f8, 8, "LAUNCH_MIT_VECTOR", asMitigation}, {0x200, 8, "CURRENT_MIT_VECTOR", asMitigation},
	{0x208, 152, "RESERVED", asReserved}, {0x2a0, 72, "SIGNATURE.R", asInteger}, {0x2e8, 72, "SIGNATURE.S", asInteger},
	{0x330, 368, "RESERVED", asReserved},
}

// Layout describes a report field by field, wrong values included: what does not
// parse can be shown. The error is for a wrong length alone.
func Layout(report []byte) ([]layout.Field, error) {
	if len(report) != ReportSize {
		return nil, fmt.Errorf("snp: report: found %d bytes, wanted %d", len(report), ReportSize)
	}
	version := binary.LittleEndian.Uint32(report)
	product := ""
	if version >= 3 {
		product = ProductOf(report[0x188], report[0x189])
	}
	out := make([]layout.Field, 0, len(reportFields))
	for _, f := range reportFields {
		b := report[f.offset:][:f.size]
		l := layout.Field{Offset: f.offset, Size: f.size, Name: f.name, Value: hex.EncodeToString(b)}
		n := little(b)
		switch f.kind {
		case asHex:
			l.Note = hexNote(f.name, b)
		case asNumber:
			l.Value = fmt.Sprint(n)
			if f.name == "VERSION" && (n < 2 || n > 5) {
				l.Note = "unknown, wanted 2 to 5"
			}
		case asAlgorithm:
			l.Value, l.Note = fmt.Sprint(n), map[bool]string{true: "ECDSA P-384 with SHA-384", false: "unknown, wanted 1"}[n == 1]
		case asPolicy:
			l.Value = fmt.Sprintf("%#x", n)
			l.Note = fmt.Sprintf("ABI %d.%d, %s", n>>8&0xff, n&0xff, bits(n&^0xffff, PolicyBits()))
		case asPlatformInfo:
			l.Value, l.Note = fmt.Sprintf("%#x", n), bits(n, PlatformInfoBits())
		case asKeyInfo:
			l.Value = fmt.Sprintf("%#x", n)
			l.Note = "SIGNING_KEY " + SigningKey(n>>2&7).String() + ", " + bits(n&^0x1c, map[uint]string{0: "AUTHOR_KEY_EN", 1: "MASK_CHIP_KEY"})
		case asTCB:
			l.Value, l.Note = fmt.Sprintf("%016x", n), tcbNote(TCB(n), product)
		case asMitigation:
			l.Value = fmt.Sprintf("%#x", n)
			if version < 5 {
				l.Note = "reserved before version 5"
			}
		case asCPUID:
			l.Value = fmt.Sprintf("%#x", n)
			if f.name == "CPUID_FAM_ID" {
				l.Note = map[bool]string{true: product, false: "an unknown product"}[product != ""]
			}
			if version < 3 {
				l.Note = "reserved before version 3"
			}
		case asReserved:
			l.Note = "zero"
			if !claims.Zero(b) {
				l.Note = "reserved: must be zero"
			}
		case asInteger:
			l.Note = fmt.Sprintf("little endian: %x", littleEndian(b))
		}
		out = append(out, l)
	}
	return out, nil
}

func little(b []byte) uint64 {
	var n uint64
	for i := range min(len(b), 8) {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}

func hexNote(name string, b []byte) string {
	ff := len(b) > 0
	for _, x := range b {
		ff = ff && x == 0xff
	}
	switch {
	case name == "CHIP_ID" && claims.Zero(b):
		return "hidden by the host"
	case name == "REPORT_ID_MA" && ff:
		return "no migration agent"
	case name == "ID_KEY_DIGEST" && claims.Zero(b), name == "AUTHOR_KEY_DIGEST" && claims.Zero(b):
		return "none"
	case name == "MEASUREMENT":
		return "the launch digest"
	}
	return ""
}

// bits prints the names of the bits that are set, and the numbers of those that have
// none.
func bits(n uint64, names map[uint]string) string {
	var out []string
	for i := uint(0); i < 64; i++ {
		if n>>i&1 == 0 {
			continue
		}
		name, ok := names[i]
		if !ok {
			name = fmt.Sprintf("unknown bit %d", i)
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		return "no bit set"
	}
	return strings.Join(out, ", ")
}

func tcbNote(t TCB, product string) string {
	s := t.split(product)
	text := tcbText(s)
	if product == "" {
		text += " (in Milan's and Genoa's order)"
	}
	if t.reserved(product) != 0 {
		text += ", reserved bytes that are not zero"
	}
	return text
}

func tcbText(s claims.SNPTCB) string {
	fmc := ""
	if s.FMC != nil {
		fmc = fmt.Sprintf("FMC %d, ", *s.FMC)
	}
	return fmc + fmt.Sprintf("BOOT_LOADER %d, TEE %d, SNP %d, MICROCODE %d", s.BootLoader, s.TEE, s.SNP, s.Microcode)
}

// TableLayout describes a GHCB certificate table: its entries, then their
// certificates.
func TableLayout(table []byte) ([]layout.Field, error) {
	rows, err := ParseCertTable(table)
	if err != nil {
		return nil, err
	}
	var out, data []layout.Field
	for i, r := range rows {
		off := int(binary.LittleEndian.Uint32(table[i*tableEntry+16:]))
		name, known := r.GUID.Name()
		note := "at offset " + fmt.Sprint(off) + fmt.Sprintf(", %d bytes", len(r.Data))
		prefix := fmt.Sprintf("ENTRY[%d]", i)
		out = append(out, layout.Field{Offset: i * tableEntry, Size: 16, Name: prefix + ".GUID", Value: hex.EncodeToString(table[i*tableEntry:][:16]), Note: name},
			layout.Field{Offset: i*tableEntry + 16, Size: 4, Name: prefix + ".OFFSET", Value: fmt.Sprint(off)},
			layout.Field{Offset: i*tableEntry + 20, Size: 4, Name: prefix + ".LENGTH", Value: fmt.Sprint(len(r.Data))})
		if !known {
			name = "data"
		}
		data = append(data, layout.Field{Offset: off, Size: len(r.Data), Name: prefix + "." + name, Value: hex.EncodeToString(r.Data), Note: note})
	}
	end := layout.Field{Offset: len(rows) * tableEntry, Size: tableEntry, Name: "END", Value: hex.EncodeToString(make([]byte, tableEntry)), Note: "ends the table"}
	return append(append(out, end), data...), nil
}
