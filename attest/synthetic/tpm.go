package synthetic

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/tpm"
)

// TPMKey is an attestation key with the public area that a TPM would show.
type TPMKey struct {
	Private    crypto.Signer
	Scheme     tpm.Algorithm // RSASSA, RSAPSS or ECDSA
	Hash       tpm.Algorithm
	Attributes tpm.Attributes
}

// AttestationKey is what a key's attributes should be.
const AttestationKey = tpm.FixedTPM | tpm.FixedParent | tpm.SensitiveDataOrigin | tpm.Restricted | tpm.Sign

// NewTPMKey makes an attestation key: RSA of 2,048 bits, or ECDSA on P-256 or, with
// SHA-384, on P-384. r nil: crypto/rand.
func NewTPMKey(scheme, hash tpm.Algorithm, r io.Reader) (*TPMKey, error) {
	if r == nil {
		r = rand.Reader
	}
	k := &TPMKey{Scheme: scheme, Hash: hash, Attributes: AttestationKey}
	var err error
	switch {
	case scheme == tpm.AlgECDSA && hash == tpm.AlgSHA384:
		k.Private, err = ecdsa.GenerateKey(elliptic.P384(), r)
	case scheme == tpm.AlgECDSA:
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), r)
	default:
		k.Private, err = rsa.GenerateKey(r, 2048)
	}
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return k, nil
}

// tpm2b is a TPM2B.
func tpm2b(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

func tpmU16[T ~uint16](v T) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func tpmU32[T ~uint32](v T) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

func tpmJoin(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Public is the key's TPMT_PUBLIC.
func (k *TPMKey) Public() []byte {
	head := func(t tpm.Algorithm) []byte {
		return tpmJoin(tpmU16(t), tpmU16(tpm.AlgSHA256), tpmU32(k.Attributes), tpm2b(nil), tpmU16(tpm.AlgNull), tpmU16(k.Scheme), tpmU16(k.Hash))
	}
	switch p := k.Private.Public().(type) {
	case *rsa.PublicKey:
		return tpmJoin(head(tpm.AlgRSA), tpmU16(uint16(p.N.BitLen())), tpmU32(uint32(0)), tpm2b(p.N.Bytes()))
	case *ecdsa.PublicKey:
		b, err := p.Bytes()
		if err != nil {
			return nil
		}
		n := len(b) / 2
		curve := uint16(3)
		if p.Curve == elliptic.P384() {
			curve = 4
		}
		return tpmJoin(head(tpm.AlgECC), tpmU16(curve), tpmU16(tpm.AlgNull), tpm2b(b[1:1+n]), tpm2b(b[1+n:]))
	}
	return nil
}

// SPKI is the key's SubjectPublicKeyInfo in DER.
func (k *TPMKey) SPKI() ([]byte, error) { return x509.MarshalPKIXPublicKey(k.Private.Public()) }

// Sign gives a TPMT_SIGNATURE over the message. A key that says SHA-1 signs with SHA-1.
func (k *TPMKey) Sign(message []byte) ([]byte, error) {
	h := map[tpm.Algorithm]crypto.Hash{tpm.AlgSHA1: crypto.SHA1, tpm.AlgSHA256: crypto.SHA256, tpm.AlgSHA384: crypto.SHA384, tpm.AlgSHA512: crypto.SHA512}[k.Hash]
	w := h.New()
	w.Write(message)
	s := tpm.Signature{Scheme: k.Scheme, Hash: k.Hash}
	var o crypto.SignerOpts = h
	if k.Scheme == tpm.AlgRSAPSS {
		o = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	sig, err := k.Private.Sign(rand.Reader, w.Sum(nil), o)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	if k.Scheme != tpm.AlgECDSA {
		s.RSA = sig
		return s.Encode(), nil
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return nil, err
	}
	s.R, s.S = rs.R.Bytes(), rs.S.Bytes()
	return s.Encode(), nil
}

// TPMQuote is a quote to be made: every part may be wrong. The zero value of a field
// that says so is the right one.
type TPMQuote struct {
	Key    *TPMKey
	Signer *TPMKey // nil: Key
	Magic  uint32  // 0: TPM_GENERATED_VALUE
	Type   uint16  // 0: TPM_ST_ATTEST_QUOTE
	Nonce  []byte
	Bank   tpm.Algorithm
	Select []byte   // 3 bytes; nil: all 24
	Raw    []byte   // a TPML_PCR_SELECTION; nil: of Bank and Select
	PCRs   [][]byte // what is quoted
	Sent   [][]byte // what is sent along; nil: PCRs
	Tail   []byte   // after the TPMS_ATTEST

	Public       []byte // TPMT_PUBLIC to send along; nil: none
	Certificates [][]byte
	EventLog     []byte
	Extra        map[string]any // further members of the JSON object
}

// Message is the TPMS_ATTEST.
func (q TPMQuote) Message() []byte {
	if q.Magic == 0 {
		q.Magic = 0xff544347
	}
	if q.Type == 0 {
		q.Type = 0x8018
	}
	if q.Select == nil {
		q.Select = []byte{0xff, 0xff, 0xff}
	}
	if q.Raw == nil {
		q.Raw = tpmJoin(tpmU32(uint32(1)), tpmU16(q.Bank), []byte{byte(len(q.Select))}, q.Select)
	}
	h := map[tpm.Algorithm]crypto.Hash{tpm.AlgSHA256: crypto.SHA256, tpm.AlgSHA384: crypto.SHA384, tpm.AlgSHA512: crypto.SHA512}[q.Key.Hash]
	if h == 0 {
		h = crypto.SHA256
	}
	w := h.New()
	for i, v := range q.PCRs {
		if i/8 < len(q.Select) && q.Select[i/8]&(1<<(i%8)) != 0 {
			w.Write(v)
		}
	}
	name := sha256.Sum256([]byte("SYNTHETIC"))
	return tpmJoin(tpmU32(q.Magic), tpmU16(q.Type), tpm2b(tpmJoin(tpmU16(tpm.AlgSHA256), name[:])), tpm2b(q.Nonce),
		make([]byte, 7), []byte{42}, tpmU32(uint32(7)), tpmU32(uint32(1)), []byte{1}, []byte("SYNTHETC"),
		q.Raw, tpm2b(w.Sum(nil)), q.Tail)
}

// signed is the message and its TPMT_SIGNATURE.
func (q TPMQuote) signed() (message, signature []byte, err error) {
	signer := q.Signer
	if signer == nil {
		signer = q.Key
	}
	message = q.Message()
	signature, err = signer.Sign(message)
	return message, signature, err
}

// JSON is the quote in the form tpm.FormQuote.
func (q TPMQuote) JSON() ([]byte, error) {
	message, sig, err := q.signed()
	if err != nil {
		return nil, err
	}
	spki, err := q.Key.SPKI()
	if err != nil {
		return nil, err
	}
	b64 := base64.StdEncoding.EncodeToString
	out := map[string]any{
		"ak_public": b64(spki),
		"tpm_quote": map[string]any{"message": b64(message), "signature": b64(sig), "pcrs": q.sent()},
	}
	if q.Public != nil {
		out["ak_tpmt_public"] = b64(q.Public)
	}
	if q.Certificates != nil {
		out["ak_certificates"] = q.Certificates
	}
	if q.EventLog != nil {
		out["event_log"] = b64(q.EventLog)
	}
	for k, v := range q.Extra {
		out[k] = v
	}
	return json.Marshal(out)
}

func (q TPMQuote) sent() []string {
	if q.Sent == nil {
		q.Sent = q.PCRs
	}
	out := make([]string, len(q.Sent))
	for i, v := range q.Sent {
		out[i] = hex.EncodeToString(v)
	}
	return out
}

// AzureJSON is the quote in the form tpm.FormAzure: with an HCL report, which HCL
// makes, and a VCEK in DER. The key must be one of RSASSA with SHA-256.
func (q TPMQuote) AzureJSON(hcl, vcek []byte) ([]byte, error) {
	message, sig, err := q.signed()
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"version": 2, "hcl_report": base64.URLEncoding.EncodeToString(hcl), "vcek": base64.URLEncoding.EncodeToString(vcek),
		"tpm_quote": map[string]any{"message": hex.EncodeToString(message), "signature": hex.EncodeToString(sig[6:]), "pcrs": q.sent()},
	})
}

// RuntimeData is runtime data that names an RSA key as the attestation key.
func RuntimeData(k *TPMKey, userData []byte) ([]byte, error) {
	p, ok := k.Private.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("synthetic: found a key of type %T, wanted RSA", k.Private.Public())
	}
	return json.Marshal(map[string]any{
		"keys":             []any{map[string]any{"kid": "HCLAkPub", "key_ops": []string{"sign"}, "kty": "RSA", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(p.N.Bytes())}},
		"vm-configuration": map[string]any{"secure-boot": true, "vmUniqueId": "SYNTHETIC"},
		"user-data":        hex.EncodeToString(userData),
	})
}

// RuntimeReportData is the report data that binds runtime data: its SHA-256 and zeros.
func RuntimeReportData(runtime []byte) (d [64]byte) {
	h := sha256.Sum256(runtime)
	copy(d[:], h[:])
	return d
}

// HCL is an HCL report of version 1 or 2 over an SEV-SNP report of 1,184 bytes, any
// that a test has; zeros fill it up to 2,600 bytes, as they do an NV index.
func HCL(version uint32, report, runtime []byte) []byte {
	le := binary.LittleEndian
	size := 20 + uint32(len(runtime))
	out := []byte("HCLA")
	for _, v := range []uint32{version, 32 + 1184 + size, 2, 0, 0, 0, 0} {
		out = le.AppendUint32(out, v)
	}
	out = append(out, report...)
	for _, v := range []uint32{size, version, 2, 1, uint32(len(runtime))} {
		out = le.AppendUint32(out, v)
	}
	out = append(out, runtime...)
	return append(out, make([]byte, max(0, 2600-len(out)))...)
}

// TPMAuthority certifies attestation keys: a root and an intermediate, as swtpm's
// local CA has.
type TPMAuthority struct {
	At           time.Time
	Root, Issuer *ECAuthority

	serial int64
}

// NewTPMAuthority makes one whose certificates are valid for a month around at.
func NewTPMAuthority(at time.Time) (*TPMAuthority, error) {
	a := &TPMAuthority{At: at, serial: 1}
	var err error
	if a.Root, err = issueEC(a.Template("SYNTHETIC TPM root", true), nil, elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	a.Issuer, err = issueEC(a.Template("SYNTHETIC TPM issuer", true), a.Root, elliptic.P256(), rand.Reader)
	return a, err
}

// AKUsage is the extended key usage of attestation keys' certificates,
// tcg-kp-AIKCertificate.
func AKUsage() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 23, 133, 8, 3} }

// Template is a certificate to be issued, of an authority or of an attestation key.
func (a *TPMAuthority) Template(name string, ca bool) *x509.Certificate {
	a.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: a.At.AddDate(0, 0, -15), NotAfter: a.At.AddDate(0, 0, 15),
		BasicConstraintsValid: true, IsCA: ca, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if !ca {
		t.KeyUsage, t.MaxPathLen = x509.KeyUsageDigitalSignature, 0
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{AKUsage()}
	}
	return t
}

// Certify gives a certificate of the key, issued by the intermediate.
func (a *TPMAuthority) Certify(t *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, a.Issuer.Certificate, key, a.Issuer.Key)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Fingerprint is the root's, to name as a simulated root.
func (a *TPMAuthority) Fingerprint() pki.Hash { return pki.Fingerprint(a.Root.Certificate) }
