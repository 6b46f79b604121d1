// Package nitro reads and verifies AWS Nitro Enclaves attestation documents: a
// COSE_Sign1 (RFC 9052) that the Nitro hypervisor signs, with the enclave's platform
// configuration registers (PCRs) and the certificate chain up to AWS's root.
//
// Source for the form: AWS Nitro Enclaves User Guide, "Verifying the root of trust".
// It does no I/O and knows no policy: policy is next door.
package nitro

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Bounds, in bytes and entries. AWS gives 1,024 for a certificate and for each of
// the caller's fields, 32 for the registers; real documents have 4 certificates in
// the bundle and about 5,000 bytes.
const (
	MaxSize        = 32 << 10
	maxCertificate = 1024
	maxField       = 1024
	maxBundle      = 7 // pki.MaxChain with the leaf
	maxPCR         = 31
	pcrSize        = 48 // SHA-384, the only digest that AWS names
	signatureSize  = 96 // r and s on P-384
	maxModuleID    = 256
	maxTimestamp   = 1<<53 - 1 // milliseconds; keeps time arithmetic exact
)

// Document is an attestation document taken apart; nothing in it is verified.
type Document struct {
	ModuleID    string
	Timestamp   time.Time // milliseconds
	Digest      string    // SHA384
	PCRs        map[int]claims.Hex
	Certificate []byte   // DER of the signing certificate
	CABundle    [][]byte // DER, the root first

	// What the enclave asked to be signed, 0 to 1,024 bytes each; nil: absent or null.
	PublicKey, UserData, Nonce []byte

	Signature []byte // 96 bytes
	signed    []byte // the Sig_structure
}

// sign1 is a COSE_Sign1. ByteString takes byte strings alone, where []byte would take
// an array of numbers too.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   cbor.ByteString
	Unprotected cbor.RawMessage
	Payload     cbor.ByteString
	Signature   cbor.ByteString
}

type header struct {
	Algorithm int64 `cbor:"1,keyasint"`
}

type payload struct {
	ModuleID    string                     `cbor:"module_id"`
	Digest      string                     `cbor:"digest"`
	Timestamp   uint64                     `cbor:"timestamp"`
	PCRs        map[uint64]cbor.ByteString `cbor:"pcrs"`
	Certificate cbor.ByteString            `cbor:"certificate"`
	CABundle    []cbor.ByteString          `cbor:"cabundle"`
	PublicKey   *cbor.ByteString           `cbor:"public_key"`
	UserData    *cbor.ByteString           `cbor:"user_data"`
	Nonce       *cbor.ByteString           `cbor:"nonce"`
}

func decoder() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: maxPCR + 1, TagsMd: cbor.TagsForbidden,
	}.DecMode()
}

const (
	tagSign1 = 0xd2 // tag 18 in one byte
	algES384 = -35
)

// Parse reads exactly one attestation document, tagged 18 or not.
func Parse(b []byte) (*Document, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("nitro: found %d bytes, at most %d", len(b), MaxSize)
	}
	m, err := decoder()
	if err != nil {
		return nil, err
	}
	if len(b) > 0 && b[0] == tagSign1 {
		b = b[1:]
	}
	var s sign1
	if err := m.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("nitro: this is no COSE_Sign1: %w", err)
	}
	var h header
	switch err := m.Unmarshal([]byte(s.Protected), &h); {
	case err != nil:
		return nil, fmt.Errorf("nitro: protected header: %w", err)
	case h.Algorithm != algES384:
		return nil, fmt.Errorf("nitro: protected header: found the algorithm %d, wanted %d (ES384)", h.Algorithm, algES384)
	case len(s.Unprotected) != 1 || s.Unprotected[0] != 0xa0: // nothing signs them
		return nil, fmt.Errorf("nitro: unprotected header: found %.20x, wanted an empty map", []byte(s.Unprotected))
	case len(s.Signature) != signatureSize:
		return nil, fmt.Errorf("nitro: found a signature of %d bytes, wanted %d", len(s.Signature), signatureSize)
	}
	var p payload
	if err := m.Unmarshal([]byte(s.Payload), &p); err != nil {
		return nil, fmt.Errorf("nitro: attestation document: %w", err)
	}
	d, err := p.document()
	if err != nil {
		return nil, fmt.Errorf("nitro: attestation document: %w", err)
	}
	d.Signature = []byte(s.Signature)
	d.signed = sigStructure([]byte(s.Protected), []byte(s.Payload))
	return d, nil
}

func (p *payload) document() (*Document, error) {
	switch {
	case p.ModuleID == "" || len(p.ModuleID) > maxModuleID || !utf8.ValidString(p.ModuleID):
		return nil, fmt.Errorf("module_id: found %d bytes, wanted 1 to %d", len(p.ModuleID), maxModuleID)
	case p.Digest != "SHA384":
		return nil, fmt.Errorf("digest: found %.20q, wanted SHA384", p.Digest)
	case p.Timestamp == 0 || p.Timestamp > maxTimestamp:
		return nil, fmt.Errorf("timestamp: found %d ms, wanted 1 to %d", p.Timestamp, uint64(maxTimestamp))
	case len(p.Certificate) == 0 || len(p.Certificate) > maxCertificate:
		return nil, fmt.Errorf("certificate: found %d bytes, wanted 1 to %d", len(p.Certificate), maxCertificate)
	case len(p.CABundle) == 0 || len(p.CABundle) > maxBundle:
		return nil, fmt.Errorf("cabundle: found %d certificates, wanted 1 to %d", len(p.CABundle), maxBundle)
	}
	d := &Document{ModuleID: p.ModuleID, Timestamp: time.UnixMilli(int64(p.Timestamp)).UTC(), Digest: p.Digest,
		PCRs: make(map[int]claims.Hex, len(p.PCRs)), Certificate: []byte(p.Certificate)}
	for i, c := range p.CABundle {
		if len(c) == 0 || len(c) > maxCertificate {
			return nil, fmt.Errorf("cabundle: certificate %d has %d bytes, wanted 1 to %d", i, len(c), maxCertificate)
		}
		d.CABundle = append(d.CABundle, []byte(c))
	}
	for i, v := range p.PCRs {
		if i > maxPCR || len(v) != pcrSize {
			return nil, fmt.Errorf("pcrs: found PCR %d with %d bytes, wanted an index to %d and %d bytes", i, len(v), maxPCR, pcrSize)
		}
		d.PCRs[int(i)] = claims.Hex(v)
	}
	// The measurements of image, kernel and application: a document without them says
	// nothing about the enclave, debug or not.
	for i := range 3 {
		if d.PCRs[i] == nil {
			return nil, fmt.Errorf("pcrs: PCR %d is missing", i)
		}
	}
	for _, f := range []struct {
		name string
		from *cbor.ByteString
		to   *[]byte
	}{{"public_key", p.PublicKey, &d.PublicKey}, {"user_data", p.UserData, &d.UserData}, {"nonce", p.Nonce, &d.Nonce}} {
		if f.from == nil {
			continue
		}
		if len(*f.from) > maxField {
			return nil, fmt.Errorf("%s: found %d bytes, at most %d", f.name, len(*f.from), maxField)
		}
		*f.to = []byte(*f.from)
	}
	return d, nil
}

// Debug says that PCR0 is zero, as it is where the enclave runs in debug mode: its
// owner reads its console. Source: AWS Nitro Enclaves User Guide, "Cryptographic
// attestation".
func (d *Document) Debug() bool {
	for _, x := range d.PCRs[0] {
		if x != 0 {
			return false
		}
	}
	return true
}

// sigStructure is the Sig_structure of a COSE_Sign1 without external data (RFC 9052,
// section 4.4): an array of "Signature1", the protected header, an empty string and the payload.
func sigStructure(protected, body []byte) []byte {
	out := append(make([]byte, 0, len(protected)+len(body)+24), 0x84, 0x6a)
	out = append(out, "Signature1"...)
	out = appendBytes(out, protected)
	out = append(out, 0x40)
	return appendBytes(out, body)
}

// appendBytes appends b as a byte string with the shortest length; b is shorter
// than 65,536 bytes (MaxSize).
func appendBytes(out, b []byte) []byte {
	switch n := len(b); {
	case n < 24:
		out = append(out, 0x40|byte(n))
	case n < 256:
		out = append(out, 0x58, byte(n))
	default:
		out = append(out, 0x59, byte(n>>8), byte(n))
	}
	return append(out, b...)
}
