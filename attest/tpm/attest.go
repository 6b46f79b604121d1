package tpm

import (
	"crypto"
	_ "crypto/sha256" // the hashes of the banks
	_ "crypto/sha512"
	"fmt"
	"slices"
)

// Algorithm is a TPM_ALG_ID (TPM 2.0 Library, Part 2, section 6.3).
type Algorithm uint16

// The algorithms that are understood here. SHA1 is known to be refused by name.
const (
	AlgRSA    Algorithm = 0x0001
	AlgSHA1   Algorithm = 0x0004
	AlgSHA256 Algorithm = 0x000b
	AlgSHA384 Algorithm = 0x000c
	AlgSHA512 Algorithm = 0x000d
	AlgNull   Algorithm = 0x0010
	AlgRSASSA Algorithm = 0x0014
	AlgRSAPSS Algorithm = 0x0016
	AlgECDSA  Algorithm = 0x0018
	AlgECC    Algorithm = 0x0023
)

func (a Algorithm) String() string {
	switch a {
	case AlgRSA:
		return "rsa"
	case AlgSHA1:
		return "sha1"
	case AlgSHA256:
		return "sha256"
	case AlgSHA384:
		return "sha384"
	case AlgSHA512:
		return "sha512"
	case AlgNull:
		return "null"
	case AlgRSASSA:
		return "rsassa"
	case AlgRSAPSS:
		return "rsapss"
	case AlgECDSA:
		return "ecdsa"
	case AlgECC:
		return "ecc"
	}
	return fmt.Sprintf("%#04x", uint16(a))
}

// hash is the hash that a names, if it is one to be relied on.
func (a Algorithm) hash() (crypto.Hash, error) {
	switch a {
	case AlgSHA256:
		return crypto.SHA256, nil
	case AlgSHA384:
		return crypto.SHA384, nil
	case AlgSHA512:
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("found the hash %s, wanted sha256, sha384 or sha512", a)
}

// Bounds, in bytes.
const (
	maxDigest    = 64
	maxName      = 2 + maxDigest
	maxExtraData = 2 + maxDigest // sizeof TPMT_HA
	maxSelection = 16            // banks
	// MaxMessage bounds a TPMS_ATTEST: the largest quote has less.
	MaxMessage = 512
)

// Selection names registers of one bank.
type Selection struct {
	Bank Algorithm
	PCRs []int // ascending
}

// Attest is a TPMS_ATTEST that holds a quote (TPM 2.0 Library, Part 2, section 10.12).
type Attest struct {
	QualifiedSigner []byte // TPM2B_NAME
	ExtraData       []byte // 0 to 66 bytes: the caller's nonce
	Clock           uint64 // milliseconds
	ResetCount      uint32
	RestartCount    uint32
	Safe            bool // the clock was not set back
	FirmwareVersion uint64
	Selections      []Selection // banks without a register left out
	PCRDigest       []byte
}

// What a quote begins with: nothing else that a restricted key signs can.
const (
	magic     = 0xff544347 // TPM_GENERATED_VALUE
	typeQuote = 0x8018     // TPM_ST_ATTEST_QUOTE
)

// ParseAttest reads exactly one TPMS_ATTEST with a quote.
func ParseAttest(b []byte) (*Attest, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("tpm: quote: found %d bytes, at most %d", len(b), MaxMessage)
	}
	r := &reader{b: b, big: true}
	a := &Attest{}
	if m := r.u32("magic"); r.err == nil && m != magic {
		r.fail("magic: found %#08x, wanted %#08x (TPM_GENERATED_VALUE): no TPM made this", m, uint32(magic))
	}
	if t := r.u16("type"); r.err == nil && t != typeQuote {
		r.fail("type: found %#04x, wanted %#04x (TPM_ST_ATTEST_QUOTE)", t, typeQuote)
	}
	a.QualifiedSigner = r.sized(maxName, "qualifiedSigner")
	a.ExtraData = r.sized(maxExtraData, "extraData")
	a.Clock = r.u64("clock")
	a.ResetCount = r.u32("resetCount")
	a.RestartCount = r.u32("restartCount")
	switch safe := r.u8("safe"); safe {
	case 0, 1:
		a.Safe = safe == 1
	default:
		r.fail("safe: found %d, wanted 0 or 1", safe)
	}
	a.FirmwareVersion = r.u64("firmwareVersion")
	a.Selections = r.selections()
	a.PCRDigest = r.sized(maxDigest, "pcrDigest")
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("tpm: quote: %w", err)
	}
	return a, nil
}

// selections reads a TPML_PCR_SELECTION.
func (r *reader) selections() []Selection {
	count := r.u32("pcrSelect")
	if r.err == nil && count > maxSelection {
		r.fail("pcrSelect: found %d banks, at most %d", count, maxSelection)
	}
	var out []Selection
	var seen []Algorithm
	for range count {
		if r.err != nil {
			return nil
		}
		s := Selection{Bank: Algorithm(r.u16("pcrSelect.hash"))}
		n := int(r.u8("pcrSelect.sizeofSelect"))
		if r.err == nil && (n < 3 || n > 4) {
			r.fail("pcrSelect.sizeofSelect: found %d bytes, wanted 3 or 4", n)
		}
		if slices.Contains(seen, s.Bank) {
			r.fail("pcrSelect: the bank %s stands twice", s.Bank)
		}
		seen = append(seen, s.Bank)
		for i, x := range r.take(n, "pcrSelect.select") {
			for bit := range 8 {
				if x&(1<<bit) != 0 {
					s.PCRs = append(s.PCRs, 8*i+bit)
				}
			}
		}
		if len(s.PCRs) > 0 {
			out = append(out, s)
		}
	}
	return out
}
