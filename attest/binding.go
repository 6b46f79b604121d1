package attest

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

const (
	sourceRATLS  = "Interoperable RA-TLS, claims buffer; docs/evidence.md"
	sourceHCL    = "docs/evidence.md"
	sourceDirect = "the carrier's own form: report data is the hash of the key, then zeros"
)

// bind checks what came along with the evidence against its report data: claims,
// the carrier's key, the carrier's own signature and validity.
func (v *Verifier) bind(e *envelope.Envelope, o Options, r *format.Result) {
	c := r.Claims
	if c == nil {
		return
	}
	b := &e.Binds
	if b.Claims != nil {
		v.bindClaims(e, r)
	} else if b.SPKI != nil {
		r.Add(directBinding(b, c))
	}
	if b.SPKI == nil {
		return
	}
	switch {
	case b.SignedBy != "":
		k := verdict.Skip(verdict.SelfSignature, "the certificate names the issuer "+b.SignedBy+", whose signature was not checked", "who vouches for the name in it is for the reader to check")
		k.Informal = true
		r.Add(k)
	case b.Signature != nil:
		r.Add(verdict.Fail(verdict.SelfSignature, b.Signature.Error(), "a signature by the key it carries"))
	default:
		r.Add(verdict.Pass(verdict.SelfSignature, "holds"))
	}
	if b.Carrier != nil {
		if crt, err := x509.ParseCertificate(b.Carrier); err == nil {
			if _, err := pki.Validity([]*x509.Certificate{crt}, o.At); err != nil {
				r.Add(verdict.Skip(verdict.CertificateValidity, "the certificate that carries the evidence: "+err.Error(), "judge it at another time, or get a fresh one").
					Want("valid at " + o.At.UTC().Format(time.RFC3339)))
			}
		}
	}
}

// bindClaims checks that the report data is the claims' hash, what the claims say
// about the carrier's key, and, for Donjon's own claims, that the claimed workload is
// the hardware's host data (THREATS T23).
func (v *Verifier) bindClaims(e *envelope.Envelope, r *format.Result) {
	c, b := r.Claims, &e.Binds
	want := evidence.ReportData(b.Claims)
	if !bytes.Equal(c.ReportData, want[:]) {
		r.Add(verdict.Fail(verdict.ReportData, c.ReportData.String(), hex.EncodeToString(want[:])).From(sourceRATLS).
			Advise("these claims were not made by what the hardware signed"))
	} else {
		r.Add(verdict.Pass(verdict.ReportData, c.ReportData.String()).From(sourceRATLS))
	}
	own, err := evidence.ParseClaims(b.Claims)
	if err == nil {
		c.Keep = &claims.Keep{WorkloadDigest: own.WorkloadDigest[:], Purpose: own.Purpose, Instance: own.Instance[:], Nonce: own.Nonce, Exporter: own.TLSExporter,
			StewardKey: own.StewardKey, SealingKey: own.SealingKey, Role: own.Role}
		c.Key = own.PubkeyHash[:]
		r.Add(hostData(c))
		if b.SPKI != nil {
			r.Add(keyCheck(1, own.PubkeyHash[:], b.SPKI))
		}
		return
	}
	alg, hash, nonce, ferr := foreignClaims(b.Claims)
	if ferr != nil {
		r.Add(verdict.Fail(verdict.Form, fmt.Sprintf("claims that are neither Donjon's (%v) nor of the RA-TLS form (%v)", err, ferr), "a claims buffer").From(sourceRATLS))
		return
	}
	c.Nonce = nonce
	if b.SPKI == nil {
		r.Add(verdict.Fail(verdict.KeyBinding, "claims about a key, and no key came along", "a certificate").From(sourceRATLS))
		return
	}
	r.Add(keyCheck(alg, hash, b.SPKI))
	c.Key = spkiHash(b.SPKI)
}

func hostData(c *claims.Claims) verdict.Check {
	host := c.HostData
	if len(host) >= 32 && bytes.Equal(host[:32], c.Keep.WorkloadDigest) && claims.Zero(host[32:]) {
		return verdict.Pass(verdict.HostData, host[:32].String()).From(sourceHCL)
	}
	return verdict.Fail(verdict.HostData, "the claims name the workload "+c.Keep.WorkloadDigest.String(), "the host data, "+host.String()).From(sourceHCL)
}

// foreignClaims reads a claims buffer of another RA-TLS implementation: a map with
// pubkey-hash and perhaps a nonce. One that has any of Donjon's keys must be Donjon's
// whole form, and has failed to be.
func foreignClaims(b []byte) (alg uint64, hash, nonce []byte, err error) {
	if len(b) > 4096 {
		return 0, nil, nil, fmt.Errorf("%d bytes, at most 4096", len(b))
	}
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		return 0, nil, nil, err
	}
	var items map[string]cbor.RawMessage
	if err := m.Unmarshal(b, &items); err != nil {
		return 0, nil, nil, err
	}
	for _, k := range []string{"purpose", "workload-digest", "instance", "tls-exporter", "steward-key", "sealing-key", "role"} {
		if _, ok := items[k]; ok {
			return 0, nil, nil, fmt.Errorf("the claim %s belongs to another form", k)
		}
	}
	var inner []byte
	if err := m.Unmarshal(items["pubkey-hash"], &inner); err != nil {
		return 0, nil, nil, errors.New("no claim pubkey-hash")
	}
	var entry struct {
		_    struct{} `cbor:",toarray"`
		Alg  uint64
		Hash []byte
	}
	if err := m.Unmarshal(inner, &entry); err != nil {
		return 0, nil, nil, fmt.Errorf("pubkey-hash: %w", err)
	}
	if n, ok := items["nonce"]; ok {
		if err := m.Unmarshal(n, &nonce); err != nil {
			return 0, nil, nil, fmt.Errorf("nonce: %w", err)
		}
	}
	return entry.Alg, entry.Hash, nonce, nil
}

// keyCheck compares a pubkey-hash (IANA Named Information algorithm and hash) with
// the carrier's key.
func keyCheck(alg uint64, hash, spki []byte) verdict.Check {
	var got []byte
	switch alg {
	case 1:
		h := sha256.Sum256(spki)
		got = h[:]
	case 7:
		h := sha512.Sum384(spki)
		got = h[:]
	case 8:
		h := sha512.Sum512(spki)
		got = h[:]
	default:
		return verdict.Fail(verdict.KeyBinding, fmt.Sprintf("hash algorithm %d", alg), "1 (SHA-256), 7 (SHA-384) or 8 (SHA-512)").From(sourceRATLS)
	}
	if !bytes.Equal(got, hash) {
		return verdict.Fail(verdict.KeyBinding, "the claims name the key "+hex.EncodeToString(hash), hex.EncodeToString(got)).From(sourceRATLS).
			Advise("this evidence belongs to another key: do not talk to whoever shows it")
	}
	return verdict.Pass(verdict.KeyBinding, hex.EncodeToString(got)).From(sourceRATLS)
}

func directBinding(b *envelope.Binding, c *claims.Claims) verdict.Check {
	var want []byte
	switch b.Direct {
	case envelope.DirectSHA256:
		h := sha256.Sum256(b.SPKI)
		want = h[:]
	case envelope.DirectSHA384:
		h := sha512.Sum384(b.SPKI)
		want = h[:]
	default:
		return verdict.Fail(verdict.KeyBinding, "a key that nothing in the evidence names", "claims, or a form whose report data is the key's hash")
	}
	n := len(want)
	if len(c.ReportData) < n || !bytes.Equal(c.ReportData[:n], want) || !claims.Zero(c.ReportData[n:]) {
		return verdict.Fail(verdict.KeyBinding, c.ReportData.String(), hex.EncodeToString(want)+", then zeros").From(sourceDirect).
			Advise("this evidence belongs to another key: do not talk to whoever shows it")
	}
	c.Key = spkiHash(b.SPKI)
	return verdict.Pass(verdict.KeyBinding, hex.EncodeToString(want)).From(sourceDirect)
}

func spkiHash(spki []byte) []byte {
	h := sha256.Sum256(spki)
	return h[:]
}
