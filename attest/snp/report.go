// Package snp reads AMD SEV-SNP attestation reports and the certificate tables
// that come along with them. Source: SEV Secure Nested Paging Firmware ABI
// Specification, AMD publication 56860, section ATTESTATION_REPORT; GHCB
// Specification, publication 56421, section "SNP Guest Request" for the table.
//
// It does no I/O and judges nothing: it says what stands in the bytes and whether
// a key signed them. The envelope around a report is next door in evidence.
package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Sizes in bytes.
const (
	ReportSize = 1184
	SignedSize = 0x2a0 // what the signature covers
)

// TCB is a TCB_VERSION as it stands in the report. Which byte is what depends on
// the product: on Milan and Genoa boot loader, TEE, four reserved, SNP,
// microcode; on Turin FMC, boot loader, TEE, SNP, three reserved, microcode.
type TCB uint64

// Report is an ATTESTATION_REPORT of version 2 to 5.
type Report struct {
	Version         uint32
	GuestSVN        uint32
	Policy          uint64
	FamilyID        [16]byte
	ImageID         [16]byte
	VMPL            uint32
	SignatureAlgo   uint32 // 1: ECDSA P-384 with SHA-384
	CurrentTCB      TCB
	PlatformInfo    uint64
	KeyInfo         uint32 // bit 0 author key, bit 1 chip key masked, bits 2–4 signing key (0 VCEK, 1 VLEK)
	ReportData      [64]byte
	Measurement     [48]byte // the launch digest
	HostData        [32]byte
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte
	ReportID        [32]byte
	ReportIDMA      [32]byte
	ReportedTCB     TCB
	CPUFamily       byte // version 3 and later
	CPUModel        byte
	CPUStepping     byte
	ChipID          [64]byte
	CommittedTCB    TCB
	CurrentBuild    byte
	CurrentMinor    byte
	CurrentMajor    byte
	CommittedBuild  byte
	CommittedMinor  byte
	CommittedMajor  byte
	LaunchTCB       TCB
	LaunchMitigate  uint64 // version 5
	CurrentMitigate uint64
}

// DebugAllowed says whether the guest policy lets the host read the guest's
// memory (bit 19).
func (r Report) DebugAllowed() bool { return r.Policy&(1<<19) != 0 }

// ParseReport reads exactly one report. Fields that its version reserves must be
// zero.
func ParseReport(b []byte) (Report, error) {
	var r Report
	if len(b) != ReportSize {
		return r, fmt.Errorf("snp: report: found %d bytes, wanted %d", len(b), ReportSize)
	}
	le := binary.LittleEndian
	r.Version = le.Uint32(b)
	if r.Version < 2 || r.Version > 5 {
		return r, fmt.Errorf("snp: report: found version %d, wanted 2 to 5", r.Version)
	}
	r.GuestSVN = le.Uint32(b[0x04:])
	r.Policy = le.Uint64(b[0x08:])
	copy(r.FamilyID[:], b[0x10:])
	copy(r.ImageID[:], b[0x20:])
	r.VMPL = le.Uint32(b[0x30:])
	r.SignatureAlgo = le.Uint32(b[0x34:])
	r.CurrentTCB = TCB(le.Uint64(b[0x38:]))
	r.PlatformInfo = le.Uint64(b[0x40:])
	r.KeyInfo = le.Uint32(b[0x48:])
	copy(r.ReportData[:], b[0x50:])
	copy(r.Measurement[:], b[0x90:])
	copy(r.HostData[:], b[0xc0:])
	copy(r.IDKeyDigest[:], b[0xe0:])
	copy(r.AuthorKeyDigest[:], b[0x110:])
	copy(r.ReportID[:], b[0x140:])
	copy(r.ReportIDMA[:], b[0x160:])
	r.ReportedTCB = TCB(le.Uint64(b[0x180:]))
	r.CPUFamily, r.CPUModel, r.CPUStepping = b[0x188], b[0x189], b[0x18a]
	copy(r.ChipID[:], b[0x1a0:])
	r.CommittedTCB = TCB(le.Uint64(b[0x1e0:]))
	r.CurrentBuild, r.CurrentMinor, r.CurrentMajor = b[0x1e8], b[0x1e9], b[0x1ea]
	r.CommittedBuild, r.CommittedMinor, r.CommittedMajor = b[0x1ec], b[0x1ed], b[0x1ee]
	r.LaunchTCB = TCB(le.Uint64(b[0x1f0:]))
	r.LaunchMitigate, r.CurrentMitigate = le.Uint64(b[0x1f8:]), le.Uint64(b[0x200:])
	return r, r.checkReserved(b)
}

func (r Report) checkReserved(b []byte) error {
	if r.Policy&(1<<17) == 0 {
		return errors.New("snp: report: policy bit 17 is 0, and it must be 1")
	}
	if r.VMPL > 3 {
		return fmt.Errorf("snp: report: found VMPL %d, wanted 0 to 3", r.VMPL)
	}
	if r.SignatureAlgo != 1 {
		return fmt.Errorf("snp: report: found signature algorithm %d, wanted 1 (ECDSA P-384 with SHA-384)", r.SignatureAlgo)
	}
	if r.KeyInfo>>5 != 0 {
		return fmt.Errorf("snp: report: a reserved bit of the key information is set, found %#x", r.KeyInfo)
	}
	if k := r.SigningKey(); k != VCEK && k != VLEK && k != None {
		return fmt.Errorf("snp: report: found signing key %d, wanted 0 (VCEK), 1 (VLEK) or 7 (none)", byte(k))
	}
	reserved := [][2]int{{0x4c, 0x50}, {0x18b, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {0x208, 0x2a0}, {0x2a0 + 144, ReportSize}}
	if r.Version < 3 {
		reserved = append(reserved, [2]int{0x188, 0x18b})
	}
	if r.Version < 5 {
		reserved = append(reserved, [2]int{0x1f8, 0x208})
	}
	for _, x := range reserved {
		for i := x[0]; i < x[1]; i++ {
			if b[i] != 0 {
				return fmt.Errorf("snp: report: the reserved byte at offset %#x is %#02x, wanted 0", i, b[i])
			}
		}
	}
	return nil
}

// Verify says whether key signed the raw report.
func Verify(raw []byte, key *ecdsa.PublicKey) error {
	if len(raw) != ReportSize {
		return fmt.Errorf("snp: report: found %d bytes, wanted %d", len(raw), ReportSize)
	}
	if key.Curve != elliptic.P384() {
		return fmt.Errorf("snp: the signing key is on %s, wanted P-384", key.Curve.Params().Name)
	}
	sig := raw[SignedSize:]
	h := sha512.Sum384(raw[:SignedSize])
	if !ecdsa.Verify(key, h[:], littleEndian(sig[:72]), littleEndian(sig[72:144])) {
		return errors.New("snp: the report's signature does not hold under this key")
	}
	return nil
}

func littleEndian(b []byte) *big.Int {
	r := make([]byte, len(b))
	for i, c := range b {
		r[len(b)-1-i] = c
	}
	return new(big.Int).SetBytes(r)
}
