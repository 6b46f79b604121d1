package tpm

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/donjon-tee/donjon/attest/strict"
)

// Bounds, in bytes. The HCL report stands in a TPM's NV index of 2,600 bytes.
const (
	maxHCL     = 16 << 10
	maxRuntime = 8 << 10
	maxVCEK    = 8 << 10

	hclHeader  = 32
	reportSize = 1184 // an SEV-SNP report
	dataHeader = 20
)

// Composite is what an HCL report holds: the report that Azure's paravisor (HCL, for
// host compatibility layer) was given by the processor at launch, and the data that
// its report data is the hash of.
type Composite struct {
	Report      []byte // an SEV-SNP report, 1,184 bytes: for package snp
	VCEK        []byte // DER of the certificate that came along; collateral, no trust anchor
	RuntimeData []byte // JSON: keys, vm-configuration, user-data
	HashType    uint32 // of RuntimeData in the report data: 1, SHA-256
	Raw         []byte // the HCL report they are from, for LayoutHCL
}

// ParseHCL reads an HCL report with an SEV-SNP report. The headers are not measured:
// nothing but sizes is taken from them. Zeros may follow.
//
// Source: Azure, "Confidential VM guest attestation design detail"; the structures
// IgvmAttestRequest of OpenHCL. Header: signature, version, report size, request type,
// status, 3 reserved words. Data: size with this header, version, report type, hash
// type, size of the runtime data; in version 2 a word of capabilities may follow.
func ParseHCL(b []byte) (*Composite, error) {
	if len(b) > maxHCL {
		return nil, fmt.Errorf("tpm: hcl report: found %d bytes, at most %d", len(b), maxHCL)
	}
	r := &reader{b: b}
	c := &Composite{Raw: b}
	if s := r.take(4, "signature"); r.err == nil && string(s) != "HCLA" {
		r.fail("signature: found %x, wanted HCLA", s)
	}
	if v := r.u32("version"); r.err == nil && v != 1 && v != 2 {
		r.fail("version: found %d, wanted 1 or 2", v)
	}
	whole := r.u32("report_size")
	if t := r.u32("request_type"); r.err == nil && t != 2 {
		r.fail("request_type: found %d, wanted 2 (AK certificate)", t)
	}
	if s := r.u32("status"); r.err == nil && s != 0 {
		r.fail("status: found %d, wanted 0", s)
	}
	for range 3 {
		if x := r.u32("reserved"); r.err == nil && x != 0 {
			r.fail("reserved: found %#08x, wanted 0", x)
		}
	}
	c.Report = r.take(reportSize, "hardware report")

	size := r.u32("data_size")
	version := r.u32("data version")
	if r.err == nil && version != 1 && version != 2 {
		r.fail("data version: found %d, wanted 1 or 2", version)
	}
	if t := r.u32("report_type"); r.err == nil && t != 2 {
		r.fail("report_type: found %d, wanted 2 (SEV-SNP)", t)
	}
	c.HashType = r.u32("report_data_hash_type")
	if r.err == nil && c.HashType != 1 {
		r.fail("report_data_hash_type: found %d, wanted 1 (SHA-256)", c.HashType)
	}
	n := r.u32("variable_data_size")
	switch {
	case r.err != nil:
	case n == 0 || n > maxRuntime:
		r.fail("variable_data_size: found %d bytes, wanted 1 to %d", n, maxRuntime)
	case version == 2 && size == dataHeader+4+n:
		r.take(4, "capabilities")
	case size != dataHeader+n:
		r.fail("data_size: found %d bytes, wanted %d", size, dataHeader+n)
	}
	if r.err == nil && whole != hclHeader+reportSize+size {
		r.fail("report_size: found %d bytes, wanted %d", whole, hclHeader+reportSize+size)
	}
	c.RuntimeData = r.take(int(n), "runtime data")
	for i, x := range r.take(len(b)-r.at, "padding") {
		if x != 0 {
			r.fail("padding: found %#02x at offset %d, wanted zeros", x, r.at-len(b)+i)
		}
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("tpm: hcl report: %w", err)
	}
	return c, nil
}

// runtime is what the runtime data says.
type runtime struct {
	ak       crypto.PublicKey
	spki     []byte
	userData []byte
	facts    map[string]any // vm-configuration: scalars alone
}

// akName is the key id of the vTPM's attestation key.
const akName = "HCLAkPub"

// parseRuntime reads runtime data. Members that are not needed here may be any.
func parseRuntime(b []byte) (*runtime, error) {
	if err := strict.JSON(b, limits()); err != nil {
		return nil, fmt.Errorf("tpm: runtime data: %w", err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return nil, fmt.Errorf("tpm: runtime data: %w", err)
	}
	out := &runtime{facts: map[string]any{}}
	var keys []map[string]json.RawMessage
	if err := json.Unmarshal(top["keys"], &keys); err != nil || len(keys) == 0 || len(keys) > 16 {
		return nil, fmt.Errorf("tpm: runtime data: keys: found %d, wanted 1 to 16", len(keys))
	}
	for _, k := range keys {
		m := &text{}
		if k["kid"] == nil || m.string(k["kid"], "kid") != akName {
			continue
		}
		if out.ak != nil {
			return nil, errors.New("tpm: runtime data: the key " + akName + " stands twice")
		}
		if err := out.key(k); err != nil {
			return nil, fmt.Errorf("tpm: runtime data: %s: %w", akName, err)
		}
	}
	if out.ak == nil {
		return nil, errors.New("tpm: runtime data: there is no key " + akName)
	}
	if v := top["user-data"]; v != nil {
		m := &text{}
		d, err := hex.DecodeString(m.string(v, "user-data"))
		if m.err != nil || err != nil || len(d) > 64 {
			return nil, errors.New("tpm: runtime data: user-data: wanted at most 64 bytes in hexadecimal")
		}
		out.userData = d
	}
	if v := top["vm-configuration"]; v != nil {
		var all map[string]any
		if err := json.Unmarshal(v, &all); err != nil {
			return nil, fmt.Errorf("tpm: runtime data: vm-configuration: %w", err)
		}
		for k, x := range all {
			switch x.(type) {
			case string, bool, float64:
				out.facts[k] = x
			}
		}
	}
	return out, nil
}

// key reads a JWK (RFC 7517) of an RSA key that signs.
func (out *runtime) key(k map[string]json.RawMessage) error {
	m := &text{}
	for _, name := range []string{"kty", "n", "e"} {
		if k[name] == nil {
			return fmt.Errorf("the member %q is missing", name)
		}
	}
	if t := m.string(k["kty"], "kty"); m.err == nil && t != "RSA" {
		return fmt.Errorf("kty: found %.20q, wanted RSA", t)
	}
	number := func(name string, limit int) []byte {
		b, err := base64.RawURLEncoding.Strict().DecodeString(m.string(k[name], name))
		return m.bounded(b, err, limit, name)
	}
	n, e := number("n", maxKey), number("e", 4)
	if m.err != nil {
		return m.err
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if err := checkKey(key); err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	out.ak, out.spki = key, spki
	return nil
}
