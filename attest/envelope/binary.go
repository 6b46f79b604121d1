package envelope

import (
	"encoding/binary"
	"errors"

	"github.com/donjon-tee/donjon/attest/snp"
)

var errNotEvidence = errors.New("this is no evidence of a known form")

const sevReportSize = 208 // ATTESTATION_REPORT of SEV and SEV-ES, AMD publication 55766

// binary tells the binary forms apart by their first bytes and their length.
func (o *opener) binary(b []byte) (*Envelope, error) {
	if len(b) < 4 {
		return nil, &FormError{Form: o.words(), Err: errNotEvidence}
	}
	le := binary.LittleEndian
	v16, key, v32 := le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b)
	switch {
	case b[0] == 0x30 && b[1]&0x80 != 0:
		return o.der(b, false)
	case len(b) >= snp.ReportSize && v32 >= 1 && v32 <= 15 && (len(b) == snp.ReportSize || !looksLikeQuote(v16, key)):
		return o.snp(b)
	case looksLikeQuote(v16, key):
		o.enter("DCAP quote")
		return &Envelope{Kind: DCAP, Form: o.words(), Evidence: b}, nil
	case b[0] == 0x84, b[0] == 0xd2: // an array of four, tag 18: COSE_Sign1
		o.enter("COSE_Sign1")
		return &Envelope{Kind: Nitro, Form: o.words(), Evidence: b}, nil
	case len(b) == sevReportSize && le.Uint32(b[0x34:]) == 0x1002:
		o.enter("SEV attestation report")
		return nil, &FormError{Form: o.words(), Err: errors.New("SEV and SEV-ES without SNP: the host can change the guest's memory, so this proves nothing (AMD-SB-1004)"),
			What: "launch the guest with SEV-SNP"}
	case b[0] == 'H' && string(b[:4]) == "HCLA":
		return nil, o.errorf("a bare HCL report: without the TPM quote nothing says which guest runs; wanted the composite in JSON")
	case b[0]>>5 == 4 || b[0]>>5 == 5 || b[0]>>5 == 6: // array, map, tag
		return o.cbor(b)
	}
	return nil, &FormError{Form: o.words(), Err: errNotEvidence, What: "known: SEV-SNP reports, SGX and TDX quotes, TPM quotes, Nitro documents, CMW, RA-TLS certificates, certificate requests"}
}

// looksLikeQuote knows the header of a quote: version 3 to 5 and an ECDSA key type.
// Longer structures of other versions are refused by the quote's own parser.
func looksLikeQuote(version, keyType uint16) bool {
	return version >= 1 && version <= 15 && (keyType == 2 || keyType == 3) || version >= 3 && version <= 5 && keyType <= 3 && keyType != 0
}

// snp is a report, alone or with the certificate table of an extended guest request
// behind it.
func (o *opener) snp(b []byte) (*Envelope, error) {
	o.enter("SEV-SNP report")
	e := &Envelope{Kind: SNP, Evidence: b[:snp.ReportSize]}
	if rest := b[snp.ReportSize:]; len(rest) > 0 {
		set, err := snp.CertTableCollateral(rest)
		if err != nil {
			return nil, o.errorf("%d bytes follow the report that are no certificate table: %w", len(rest), err)
		}
		o.enter("certificate table")
		e.Stapled = set
	}
	e.Form = o.words()
	return e, nil
}
