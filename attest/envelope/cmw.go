package envelope

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"sort"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/strict"
	"github.com/donjon-tee/donjon/attest/tpm"
)

const (
	maxRecords = 16
	// The tags of CMW records, RFC 9999: TN(content format).
	cmwTagMin, cmwTagMax = 1668546817, 1668612095

	indEndorsements, indEvidence = 1 << 1, 1 << 2
)

// record is one CMW record.
type record struct {
	label, mediaType string // mediaType "": a number that this package does not know
	data             []byte
	ind              uint64 // 0: none was given
}

// cmwExtension is id-pe-cmw's value: CHOICE { UTF8String json, OCTET STRING cbor }.
// tagged is the other registered extension, nil where there is none: it must hold
// the same evidence and claims.
func (o *opener) cmwExtension(v, tagged []byte) (*Envelope, error) {
	var raw asn1.RawValue
	if rest, err := asn1.Unmarshal(v, &raw); err != nil || len(rest) > 0 || raw.Class != asn1.ClassUniversal {
		return nil, o.errorf("the CMW extension is no DER value")
	}
	var e *Envelope
	var err error
	switch raw.Tag {
	case asn1.TagUTF8String:
		o.enter("JSON")
		e, err = o.json(raw.Bytes)
	case asn1.TagOctetString:
		e, err = o.cbor(raw.Bytes)
	default:
		return nil, o.errorf("the CMW extension is neither UTF8String nor OCTET STRING")
	}
	if err != nil || tagged == nil {
		return e, err
	}
	other, err := (&opener{form: []string{"the certificate"}}).tagged(tagged)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(other.Evidence, e.Evidence) || !bytes.Equal(other.Binds.Claims, e.Binds.Claims) {
		return nil, o.errorf("its two extensions hold different evidence: which counts?")
	}
	return e, nil
}

// cbor is a CMW record, a tagged one, a collection, or bare tagged RA-TLS evidence.
func (o *opener) cbor(b []byte) (*Envelope, error) {
	if len(b) == 0 {
		return nil, o.errorf("no bytes at all")
	}
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: maxRecords + 1}.DecMode()
	if err != nil {
		return nil, err
	}
	switch b[0] >> 5 {
	case 4:
		o.enter("CMW record")
		r, err := o.cborRecord(m, b)
		if err != nil {
			return nil, err
		}
		return o.assemble("", []record{r})
	case 5:
		o.enter("CMW collection")
		return o.cborCollection(m, b)
	}
	var t cbor.RawTag
	if err := m.Unmarshal(b, &t); err != nil {
		return nil, o.errorf("damaged CBOR: %w", err)
	}
	if t.Number >= cmwTagMin && t.Number <= cmwTagMax {
		o.enter("CMW record")
		var data []byte
		if err := m.Unmarshal(t.Content, &data); err != nil {
			return nil, o.errorf("a tagged record without bytes: %w", err)
		}
		return o.assemble("", []record{{data: data}})
	}
	return o.tagged(b)
}

func (o *opener) cborRecord(m cbor.DecMode, b []byte) (record, error) {
	var parts []cbor.RawMessage
	if err := m.Unmarshal(b, &parts); err != nil || len(parts) < 2 || len(parts) > 3 {
		return record{}, o.errorf("a record is no array of two or three")
	}
	var r record
	var number uint64
	if err := m.Unmarshal(parts[0], &r.mediaType); err != nil || r.mediaType == "" { // null is "" too
		if parts[0][0]>>5 != 0 || m.Unmarshal(parts[0], &number) != nil {
			return r, o.errorf("a record's type is neither text nor a number")
		}
	}
	if err := m.Unmarshal(parts[1], &r.data); err != nil {
		return r, o.errorf("a record's value is no byte string")
	}
	if len(parts) == 3 {
		if err := m.Unmarshal(parts[2], &r.ind); err != nil || r.ind == 0 || r.ind > 31 {
			return r, o.errorf("a record's indicator is out of range")
		}
	}
	return r, nil
}

func (o *opener) cborCollection(m cbor.DecMode, b []byte) (*Envelope, error) {
	var items map[any]cbor.RawMessage
	if err := m.Unmarshal(b, &items); err != nil {
		return nil, o.errorf("damaged CBOR: %w", err)
	}
	kind, records := "", []record{}
	for k, v := range items {
		label, ok := k.(string)
		if ok && label == "__cmwc_t" {
			if err := m.Unmarshal(v, &kind); err != nil {
				return nil, o.errorf("the collection's type is no text")
			}
			continue
		}
		r, err := o.cborRecord(m, v)
		if err != nil {
			return nil, err
		}
		r.label = label
		records = append(records, r)
	}
	if kind == evidence.CollectionType {
		// Donjon's own form has one deterministic encoding.
		if _, err := evidence.Parse(b); err != nil {
			return nil, o.errorf("%w", err)
		}
	}
	return o.assemble(kind, records)
}

// json is a CMW record or collection, or a TPM quote in one of the forms that
// attest/tpm knows.
func (o *opener) json(b []byte) (*Envelope, error) {
	if err := strict.JSON(b, strict.Limits{Depth: 16, Values: 1 << 16}); err != nil {
		return nil, o.errorf("JSON: %w", err)
	}
	if b[0] == '[' {
		o.enter("CMW record")
		r, err := o.jsonRecord(b)
		if err != nil {
			return nil, err
		}
		return o.assemble("", []record{r})
	}
	var items map[string]json.RawMessage
	if err := json.Unmarshal(b, &items); err != nil {
		return nil, o.errorf("%w", err)
	}
	if _, ok := items["tpm_quote"]; ok {
		return o.tpm(b)
	}
	o.enter("CMW collection")
	if len(items) > maxRecords+1 {
		return nil, o.errorf("%d records, at most %d", len(items), maxRecords)
	}
	kind, records := "", []record{}
	for label, v := range items {
		if label == "__cmwc_t" {
			if err := json.Unmarshal(v, &kind); err != nil {
				return nil, o.errorf("the collection's type is no text")
			}
			continue
		}
		r, err := o.jsonRecord(v)
		if err != nil {
			return nil, err
		}
		r.label = label
		records = append(records, r)
	}
	return o.assemble(kind, records)
}

func (o *opener) jsonRecord(b []byte) (record, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil || len(parts) < 2 || len(parts) > 3 {
		return record{}, &FormError{Form: o.words(), Err: errNotEvidence, What: "wanted CMW records ([type, value, indicator]) or a TPM quote; collateral belongs to --collateral"}
	}
	var r record
	var number uint64
	if json.Unmarshal(parts[0], &r.mediaType) == nil && r.mediaType == "" || // null is "" too
		json.Unmarshal(parts[0], &r.mediaType) != nil && json.Unmarshal(parts[0], &number) != nil {
		return r, o.errorf("a record's type is neither text nor a number")
	}
	var text string
	if json.Unmarshal(parts[1], &text) != nil {
		return r, o.errorf("a record's value is no text")
	}
	var err error
	if r.data, err = base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
		return r, o.errorf("a record's value is no base64url: %w", err)
	}
	if len(parts) == 3 {
		if json.Unmarshal(parts[2], &r.ind) != nil || r.ind == 0 || r.ind > 31 {
			return r, o.errorf("a record's indicator is out of range")
		}
	}
	return r, nil
}

func (o *opener) tpm(b []byte) (*Envelope, error) {
	e, form, err := tpm.ParseJSON(b)
	if err != nil {
		return nil, o.errorf("%w", err)
	}
	o.enter(form)
	out := &Envelope{Kind: TPM, Form: o.words(), TPMEvidence: &e}
	if e.Composite != nil && e.Composite.VCEK != nil {
		c, err := x509.ParseCertificate(e.Composite.VCEK)
		if err != nil {
			return nil, o.errorf("the VCEK: %w", err)
		}
		out.Stapled = &collateral.Set{Certificates: []*x509.Certificate{c}}
	}
	return out, nil
}

// assemble makes one piece of evidence of the records.
func (o *opener) assemble(kind string, records []record) (*Envelope, error) {
	if len(records) == 0 || len(records) > maxRecords {
		return nil, o.errorf("%d records, wanted 1 to %d", len(records), maxRecords)
	}
	sort.Slice(records, func(i, j int) bool { return records[i].label < records[j].label })
	set := &collateral.Set{}
	var main, claims *record
	var aside []string
	for i := range records {
		r := &records[i]
		switch {
		case r.mediaType == evidence.ClaimsType:
			if claims != nil {
				return nil, o.errorf("two records of claims: which counts?")
			}
			claims = r
		case r.mediaType == evidence.CertsType:
			table, err := snp.CertTableCollateral(r.data)
			if err != nil {
				return nil, o.errorf("the certificate table: %w", err)
			}
			set = collateral.Merge(set, table)
		case r.ind == indEndorsements || r.mediaType == evidence.CollateralType || strings.HasPrefix(r.mediaType, "application/pkix-c"):
			if err := set.Add(r.label, r.data); err != nil {
				return nil, o.errorf("the record %q: %w", r.label, err)
			}
		case r.ind == 0 || r.ind&indEvidence != 0:
			if main != nil {
				return nil, o.errorf("two records of evidence: which counts?")
			}
			main = r
		default:
			aside = append(aside, "the record "+r.label)
		}
	}
	if main == nil {
		return nil, o.errorf("no record holds evidence")
	}
	if kind == evidence.CollectionType && claims == nil {
		return nil, o.errorf("no record holds claims")
	}
	e, err := o.binary(main.data)
	if err != nil {
		return nil, err
	}
	if e.Binds.SPKI != nil || e.Binds.Claims != nil {
		return nil, o.errorf("evidence within evidence")
	}
	if want, ok := map[string]Kind{evidence.ReportType: SNP, quoteType: DCAP, nitroType: Nitro}[main.mediaType]; ok && e.Kind != want {
		return nil, o.errorf("the record says %s and holds something else", main.mediaType)
	}
	e.Stapled = collateral.Merge(e.Stapled, set)
	e.Aside = append(e.Aside, aside...)
	if claims != nil {
		e.Binds.Claims = append([]byte{}, claims.data...) // an empty record is there too
	}
	return e, nil
}
