// Package evidence is the envelope in which a Keep's proof travels, and the
// claims inside it: a CMW collection (RFC 9999) in deterministic CBOR with three
// records or four, and the same in an X.509 certificate.
//
// What is signed is next door: a report of attest/snp, whose report data binds
// the exact bytes of the claims. This package decodes strictly what it encodes:
// a collection or claims map that would encode to other bytes is refused, so one
// piece of evidence has one meaning (THREATS T26).
package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Media types of the records.
const (
	CollectionType = "tag:donjon-tee.github.io,2026:evidence/1"
	ReportType     = "application/vnd.amd.sev-snp.attestation-report"
	CertsType      = "application/vnd.amd.ghcb.guid-table"
	ClaimsType     = "application/vnd.donjon.claims+cbor"
	CollateralType = "application/vnd.donjon.collateral+json" // attest/collateral's bundle
)

// Bits of a record's indicator (RFC 9999, section on the conceptual message
// indicator).
const (
	indEndorsements = 1 << 1
	indEvidence     = 1 << 2
)

// MaxSize bounds evidence, in bytes, with what is stapled to it.
const MaxSize = 256 << 10

// Evidence is a report, the certificates that came along, and the exact bytes of
// the claims that the report's data binds.
type Evidence struct {
	Report []byte // attest/snp, 1,184 bytes
	Certs  []byte // GHCB certificate table
	Claims []byte // see Claims
	// Collateral is vendor data that somebody stapled to it, a bundle of
	// attest/collateral; nil: none. Nothing signs it here: its own signatures do.
	Collateral []byte
}

type record struct {
	_    struct{} `cbor:",toarray"`
	Type string
	Data []byte
	Ind  uint64
}

type collection struct {
	Type       string  `cbor:"__cmwc_t"`
	Report     record  `cbor:"report"`
	Certs      record  `cbor:"certs"`
	Claims     record  `cbor:"claims"`
	Collateral *record `cbor:"collateral,omitempty"`
}

func encoder() (cbor.EncMode, error) { return cbor.CoreDetEncOptions().EncMode() }

func decoder() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4,
		MaxArrayElements: 16, MaxMapPairs: 16, TagsMd: cbor.TagsForbidden,
	}.DecMode()
}

// Encode gives the CMW collection.
func (e Evidence) Encode() ([]byte, error) {
	m, err := encoder()
	if err != nil {
		return nil, err
	}
	c := collection{
		Type:   CollectionType,
		Report: record{Type: ReportType, Data: e.Report, Ind: indEvidence},
		Certs:  record{Type: CertsType, Data: e.Certs, Ind: indEndorsements},
		Claims: record{Type: ClaimsType, Data: e.Claims, Ind: indEvidence},
	}
	if e.Collateral != nil {
		c.Collateral = &record{Type: CollateralType, Data: e.Collateral, Ind: indEndorsements}
	}
	return m.Marshal(c)
}

// Parse reads a collection that Encode gave, and nothing else.
func Parse(b []byte) (Evidence, error) {
	var e Evidence
	if len(b) > MaxSize {
		return e, fmt.Errorf("evidence: found %d bytes, at most %d", len(b), MaxSize)
	}
	m, err := decoder()
	if err != nil {
		return e, err
	}
	var c collection
	if err := m.Unmarshal(b, &c); err != nil {
		return e, fmt.Errorf("evidence: this is no CMW collection of the wanted form: %w", err)
	}
	e = Evidence{Report: c.Report.Data, Certs: c.Certs.Data, Claims: c.Claims.Data}
	if c.Collateral != nil {
		e.Collateral = append([]byte{}, c.Collateral.Data...)
	}
	again, err := e.Encode()
	if err != nil {
		return e, err
	}
	if !bytes.Equal(again, b) {
		return e, errors.New("evidence: the collection is not in its one deterministic form, or a record has another type")
	}
	return e, nil
}

// Purposes: what evidence is made for. A verifier demands its own (THREATS T3).
const (
	PurposeEnrol       = "enrol"
	PurposeConnect     = "connect"
	PurposeHTTP        = "http"
	PurposeFile        = "file"
	PurposeCertificate = "certificate" // inside the Keep's own certificate
)

// Claims are what the warden says about itself and the report binds.
type Claims struct {
	PubkeyHash     [32]byte // SHA-256 of the Keep's SubjectPublicKeyInfo
	Nonce          []byte   // 8 to 64 bytes, or absent
	WorkloadDigest [32]byte // equal to the report's host data, which is what counts (THREATS T23)
	Purpose        string
	Instance       [16]byte // random, new for each Keep
	TLSExporter    []byte   // on an attested connection and at enrolment; else absent
	// StewardKey and SealingKey are for enrolment alone, both or neither: SHA-256 of the
	// SubjectPublicKeyInfo of the Steward at the other end, and of the key that it seals
	// secrets to (THREATS T4). 32 bytes or absent.
	StewardKey []byte
	SealingKey []byte
	// Role is which of the roles that the workload's configuration lists this Keep was
	// started in; "" where it lists none. See CheckRole.
	Role string
}

// MaxRole is the most bytes of a role.
const MaxRole = 32

// CheckRole refuses what is no role: 1 to 32 lower-case letters, digits and hyphens.
func CheckRole(s string) error {
	ok := len(s) >= 1 && len(s) <= MaxRole
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-'
	}
	if !ok {
		return fmt.Errorf("evidence: found the role %.80q, wanted 1 to %d lower-case letters, digits and hyphens", s, MaxRole)
	}
	return nil
}

type wireClaims struct {
	PubkeyHash     []byte `cbor:"pubkey-hash"`
	Nonce          []byte `cbor:"nonce,omitempty"`
	WorkloadDigest []byte `cbor:"workload-digest"`
	Purpose        string `cbor:"purpose"`
	Instance       []byte `cbor:"instance"`
	TLSExporter    []byte `cbor:"tls-exporter,omitempty"`
	StewardKey     []byte `cbor:"steward-key,omitempty"`
	SealingKey     []byte `cbor:"sealing-key,omitempty"`
	Role           string `cbor:"role,omitempty"`
}

type hashEntry struct {
	_    struct{} `cbor:",toarray"`
	Alg  uint64   // IANA Named Information Hash Algorithm Registry: 1 is SHA-256
	Hash []byte
}

// Encode gives the deterministic CBOR map of the interoperable RA-TLS form.
func (c Claims) Encode() ([]byte, error) {
	m, err := encoder()
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	h, err := m.Marshal(hashEntry{Alg: 1, Hash: c.PubkeyHash[:]})
	if err != nil {
		return nil, err
	}
	return m.Marshal(wireClaims{h, c.Nonce, c.WorkloadDigest[:], c.Purpose, c.Instance[:], c.TLSExporter, c.StewardKey, c.SealingKey, c.Role})
}

func (c Claims) check() error {
	switch c.Purpose {
	case PurposeEnrol, PurposeConnect, PurposeHTTP, PurposeFile, PurposeCertificate:
	default:
		return fmt.Errorf("evidence: claims: found the purpose %q", c.Purpose)
	}
	if n := len(c.Nonce); n != 0 && (n < 8 || n > 64) {
		return fmt.Errorf("evidence: claims: a nonce of %d bytes, wanted 8 to 64", n)
	}
	if len(c.TLSExporter) > 64 {
		return fmt.Errorf("evidence: claims: an exporter value of %d bytes, at most 64", len(c.TLSExporter))
	}
	if enrol := c.StewardKey != nil || c.SealingKey != nil; enrol && (len(c.StewardKey) != 32 || len(c.SealingKey) != 32 || c.Purpose != PurposeEnrol) {
		return errors.New("evidence: claims: steward-key and sealing-key are 32 bytes each, stand together, and belong to enrolment")
	}
	if c.Role != "" {
		return CheckRole(c.Role)
	}
	return nil
}

// ParseClaims reads what Encode gave, and nothing else.
func ParseClaims(b []byte) (Claims, error) {
	var c Claims
	if len(b) > 4096 {
		return c, fmt.Errorf("evidence: claims of %d bytes", len(b))
	}
	m, err := decoder()
	if err != nil {
		return c, err
	}
	var w wireClaims
	if err := m.Unmarshal(b, &w); err != nil {
		return c, fmt.Errorf("evidence: claims: %w", err)
	}
	var h hashEntry
	if err := m.Unmarshal(w.PubkeyHash, &h); err != nil {
		return c, fmt.Errorf("evidence: claims: pubkey-hash: %w", err)
	}
	if h.Alg != 1 || len(h.Hash) != 32 || len(w.WorkloadDigest) != 32 || len(w.Instance) != 16 {
		return c, errors.New("evidence: claims: a value has the wrong length or hash algorithm")
	}
	c = Claims{PubkeyHash: [32]byte(h.Hash), Nonce: w.Nonce, WorkloadDigest: [32]byte(w.WorkloadDigest),
		Purpose: w.Purpose, Instance: [16]byte(w.Instance), TLSExporter: w.TLSExporter,
		StewardKey: w.StewardKey, SealingKey: w.SealingKey, Role: w.Role}
	again, err := c.Encode()
	if err != nil {
		return c, err
	}
	if !bytes.Equal(again, b) {
		return c, errors.New("evidence: the claims are not in their one deterministic form")
	}
	return c, nil
}

// ReportData is the report data for claims about a key that ends TLS in the
// warden: SHA-256 of the claims' bytes and 32 zero bytes.
func ReportData(claims []byte) [64]byte {
	var d [64]byte
	h := sha256.Sum256(claims)
	copy(d[:], h[:])
	return d
}

// PurposeReportData is the report data for everything else.
func PurposeReportData(purpose string, claims []byte) [64]byte {
	return sha512.Sum512(append([]byte("donjon/"+purpose+"/1\x00"), claims...))
}

// Extensions of a certificate that carries evidence; neither is critical.
var (
	oidCMW    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35} // id-pe-cmw, RFC 9999
	oidTagged = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}        // TCG DICE, the RA-TLS form
)

const tagRATLS = 60000 // [report, claims]

// CertificateExtensions gives both forms in which certificates carry evidence.
func CertificateExtensions(e Evidence) ([]pkix.Extension, error) {
	whole, err := e.Encode()
	if err != nil {
		return nil, err
	}
	cmw, err := asn1.Marshal(whole) // CHOICE: an OCTET STRING is CBOR
	if err != nil {
		return nil, err
	}
	tagged, err := e.tagged()
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{{Id: oidCMW, Value: cmw}, {Id: oidTagged, Value: tagged}}, nil
}

// FromCertificate reads the CMW extension of a certificate. The tagged form, where
// it is there too, must hold the same report and claims, so that readers of either
// judge the same evidence (THREATS T26); an extension that stands twice is refused.
func FromCertificate(c *x509.Certificate) (Evidence, error) {
	var cmw, tagged []byte
	for _, x := range c.Extensions {
		var p *[]byte
		switch {
		case x.Id.Equal(oidCMW):
			p = &cmw
		case x.Id.Equal(oidTagged):
			p = &tagged
		default:
			continue
		}
		if *p != nil {
			return Evidence{}, errors.New("evidence: the certificate carries two pieces of evidence")
		}
		*p = append([]byte{}, x.Value...)
	}
	if cmw == nil {
		return Evidence{}, errors.New("evidence: the certificate carries none")
	}
	var b []byte
	if rest, err := asn1.Unmarshal(cmw, &b); err != nil || len(rest) > 0 {
		return Evidence{}, errors.New("evidence: the certificate's extension is no OCTET STRING")
	}
	e, err := Parse(b)
	if err != nil || tagged == nil {
		return e, err
	}
	want, err := e.tagged()
	if err != nil {
		return Evidence{}, err
	}
	if !bytes.Equal(tagged, want) {
		return Evidence{}, errors.New("evidence: the certificate's two extensions hold different evidence")
	}
	return e, nil
}

// tagged is the interoperable RA-TLS form of the evidence.
func (e Evidence) tagged() ([]byte, error) {
	m, err := encoder()
	if err != nil {
		return nil, err
	}
	return m.Marshal(cbor.Tag{Number: tagRATLS, Content: [][]byte{e.Report, e.Claims}})
}
