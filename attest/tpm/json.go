package tpm

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/donjon-tee/donjon/attest/strict"
)

// MaxSize bounds evidence in JSON, in bytes: a quote has a few thousand, an event log
// up to MaxLog, in base64.
const MaxSize = 8 << 20

// The forms that ParseJSON tells apart.
const (
	// FormQuote is Trustee's form of a TPM quote, with what Donjon adds to it.
	FormQuote = "tpm-quote"
	// FormAzure is Trustee's form of a vTPM quote of an Azure confidential VM with its
	// SEV-SNP report, version 2.
	FormAzure = "azure-snp-vtpm"
)

// Evidence is a quote and what came along with it.
type Evidence struct {
	Message   []byte   // TPMS_ATTEST
	Signature []byte   // TPMT_SIGNATURE
	PCRs      [][]byte // all 24 of the quoted bank, by index

	// AK is the attestation key's SubjectPublicKeyInfo in DER; nil in a Composite,
	// whose runtime data names the key.
	AK []byte
	// Public is the key's TPMT_PUBLIC; nil: the form has none, and whether the key is a
	// restricted one cannot be told.
	Public []byte
	// Certificates are the attestation key's and its issuers', DER, that first.
	Certificates [][]byte
	// EventLog is a TCG log of the quoted bank; nil: none.
	EventLog []byte

	// Composite is set where the quote comes from a vTPM that a TEE's report names.
	Composite *Composite
}

// pcrCount is how many registers the forms list: those of a PC client's TPM.
const pcrCount = 24

// ParseJSON reads evidence in either form and says which. Members that are unknown,
// missing or there twice are errors.
//
// FormQuote: {"ak_public": base64 of the SPKI, "tpm_quote": {"message": base64 of the
// TPMS_ATTEST, "signature": base64 of the TPMT_SIGNATURE, "pcrs": 24 × hexadecimal}}.
// Donjon adds, each optional: "ak_tpmt_public" (base64 of the TPMT_PUBLIC),
// "ak_certificates" (array of base64 of DER), "event_log" (base64).
//
// FormAzure: {"version": 2, "tpm_quote": {"message", "signature" (RSASSA with SHA-256,
// bare), "pcrs"} in hexadecimal, "hcl_report": base64, "vcek": base64 of DER}.
func ParseJSON(b []byte) (Evidence, string, error) {
	if len(b) > MaxSize {
		return Evidence{}, "", fmt.Errorf("tpm: found %d bytes, at most %d", len(b), MaxSize)
	}
	if err := strict.JSON(b, limits()); err != nil {
		return Evidence{}, "", fmt.Errorf("tpm: %w", err)
	}
	form, parse := FormQuote, parseQuote
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return Evidence{}, "", fmt.Errorf("tpm: %w", err)
	}
	if _, ok := top["hcl_report"]; ok {
		form, parse = FormAzure, parseAzure
	}
	e, err := parse(top)
	if err != nil {
		return Evidence{}, "", fmt.Errorf("tpm: %s: %w", form, err)
	}
	return e, form, nil
}

func parseQuote(top map[string]json.RawMessage) (Evidence, error) {
	var e Evidence
	q, err := members(top, []string{"ak_public", "tpm_quote"}, "ak_tpmt_public", "ak_certificates", "event_log")
	if err != nil {
		return e, err
	}
	m := &text{}
	e.AK = m.base64(top["ak_public"], 1024, "ak_public")
	e.Message = m.base64(q["message"], MaxMessage, "tpm_quote.message")
	e.Signature = m.base64(q["signature"], MaxSignature, "tpm_quote.signature")
	e.PCRs = m.pcrs(q["pcrs"])
	if v := top["ak_tpmt_public"]; v != nil {
		e.Public = m.base64(v, MaxPublic, "ak_tpmt_public")
	}
	if v := top["ak_certificates"]; v != nil {
		for i, c := range m.array(v, 1, maxCertificates, "ak_certificates") {
			e.Certificates = append(e.Certificates, m.base64(c, maxCertificate, fmt.Sprintf("ak_certificates[%d]", i)))
		}
	}
	if v := top["event_log"]; v != nil {
		e.EventLog = m.base64(v, MaxLog, "event_log")
	}
	return e, m.err
}

func parseAzure(top map[string]json.RawMessage) (Evidence, error) {
	var e Evidence
	q, err := members(top, []string{"version", "tpm_quote", "hcl_report", "vcek"})
	if err != nil {
		return e, err
	}
	if v := string(top["version"]); v != "2" {
		return e, fmt.Errorf("version: found %.20s, wanted 2", v)
	}
	m := &text{}
	e.Message = m.hex(q["message"], MaxMessage, "tpm_quote.message")
	bare := m.hex(q["signature"], maxKey, "tpm_quote.signature")
	e.Signature = (&Signature{Scheme: AlgRSASSA, Hash: AlgSHA256, RSA: bare}).Encode()
	e.PCRs = m.pcrs(q["pcrs"])
	hcl := m.base64(top["hcl_report"], maxHCL, "hcl_report")
	vcek := m.base64(top["vcek"], maxVCEK, "vcek")
	if m.err != nil {
		return e, m.err
	}
	e.Composite, err = ParseHCL(hcl)
	if err != nil {
		return e, err
	}
	e.Composite.VCEK = vcek
	return e, nil
}

// members checks the names of the top level and of tpm_quote, and gives the latter's.
func members(top map[string]json.RawMessage, want []string, optional ...string) (map[string]json.RawMessage, error) {
	if err := exactly(top, want, optional...); err != nil {
		return nil, err
	}
	var q map[string]json.RawMessage
	if err := json.Unmarshal(top["tpm_quote"], &q); err != nil {
		return nil, fmt.Errorf("tpm_quote: %w", err)
	}
	if err := exactly(q, []string{"message", "signature", "pcrs"}); err != nil {
		return nil, fmt.Errorf("tpm_quote: %w", err)
	}
	return q, nil
}

func exactly(m map[string]json.RawMessage, want []string, optional ...string) error {
	for _, w := range want {
		if m[w] == nil {
			return fmt.Errorf("the member %q is missing", w)
		}
	}
	for k := range m {
		if !slices.Contains(want, k) && !slices.Contains(optional, k) {
			return fmt.Errorf("found the unknown member %.40q", k)
		}
	}
	return nil
}

// text decodes members; the first error stays.
type text struct{ err error }

func (t *text) fail(what string, err error) {
	if t.err == nil {
		t.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (t *text) string(raw json.RawMessage, what string) string {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		t.fail(what, errors.New("this is no string"))
		return ""
	}
	return *s
}

// base64 takes the standard and the URL alphabet, padded, without line breaks.
func (t *text) base64(raw json.RawMessage, limit int, what string) []byte {
	s := t.string(raw, what)
	enc := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.URLEncoding
	}
	if strings.ContainsAny(s, "\r\n") {
		t.fail(what, errors.New("found a line break in base64"))
		return nil
	}
	b, err := enc.Strict().DecodeString(s)
	return t.bounded(b, err, limit, what)
}

func (t *text) hex(raw json.RawMessage, limit int, what string) []byte {
	b, err := hex.DecodeString(t.string(raw, what))
	return t.bounded(b, err, limit, what)
}

func (t *text) bounded(b []byte, err error, limit int, what string) []byte {
	switch {
	case err != nil:
		t.fail(what, err)
	case len(b) == 0 || len(b) > limit:
		t.fail(what, fmt.Errorf("found %d bytes, wanted 1 to %d", len(b), limit))
	default:
		return b
	}
	return nil
}

func (t *text) array(raw json.RawMessage, least, most int, what string) []json.RawMessage {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		t.fail(what, err)
		return nil
	}
	if len(list) < least || len(list) > most {
		t.fail(what, fmt.Errorf("found %d entries, wanted %d to %d", len(list), least, most))
		return nil
	}
	return list
}

func (t *text) pcrs(raw json.RawMessage) [][]byte {
	var out [][]byte
	for i, v := range t.array(raw, pcrCount, pcrCount, "tpm_quote.pcrs") {
		out = append(out, t.hex(v, maxDigest, fmt.Sprintf("tpm_quote.pcrs[%d]", i)))
	}
	return out
}

// limits on JSON: real evidence and runtime data have some 60 values.
func limits() strict.Limits { return strict.Limits{Depth: 8, Values: 1024} }
