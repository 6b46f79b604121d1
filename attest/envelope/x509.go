package envelope

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/snp"
)

// The extensions that carry evidence.
var (
	oidCMW     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}        // id-pe-cmw, RFC 9999
	oidTagged  = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}               // TCG DICE, interoperable RA-TLS
	oidGramine = asn1.ObjectIdentifier{0, 6, 9, 42, 840, 113741, 1337, 6} // before that, read only
	oidIntel   = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}       // Intel's SDK sample, read only
	oidEnarx   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 1}        // .1 KVM, .2 SGX, .3 SNP
)

const tagQuoteAndClaims, tagIntelReport, tagLegacyReport = 60000, 60001, 60002

// der is a certificate or a certificate request.
func (o *opener) der(b []byte, request bool) (*Envelope, error) {
	if !request {
		if c, err := x509.ParseCertificate(b); err == nil {
			o.enter("X.509 certificate")
			return o.certificate(c)
		}
	}
	r, err := x509.ParseCertificateRequest(b)
	if err != nil {
		o.enter("DER")
		return nil, &FormError{Form: o.words(), Err: errNotEvidence, What: "wanted a certificate or a certificate request that carries evidence"}
	}
	o.enter("PKCS#10 request")
	if err := oneExtensionRequest(r.RawTBSCertificateRequest); err != nil {
		return nil, o.errorf("%w", err)
	}
	e, err := o.extensions(r.Extensions, r.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	e.Binds.SPKI = r.RawSubjectPublicKeyInfo
	if e.Binds.Signature = pki.CheckKey(r.PublicKey); e.Binds.Signature == nil {
		e.Binds.Signature = r.CheckSignature()
	}
	return e, nil
}

var oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14} // PKCS#9

// oneExtensionRequest refuses a request in which readers could find different
// extensions: crypto/x509 passes over attributes that do not parse, over all values of
// an attribute but the first, and over what follows the extensions in it (RFC 2986,
// section 4.1; RFC 2985, section 5.4.2: a single value).
func oneExtensionRequest(tbs []byte) error {
	var in struct {
		Version      int
		Subject, Key asn1.RawValue
		Attributes   []asn1.RawValue `asn1:"tag:0"`
	}
	if rest, err := asn1.Unmarshal(tbs, &in); err != nil || len(rest) > 0 {
		return errors.New("the request's attributes do not parse")
	}
	seen := false
	for _, raw := range in.Attributes {
		var a struct {
			ID     asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if rest, err := asn1.Unmarshal(raw.FullBytes, &a); err != nil || len(rest) > 0 {
			return errors.New("an attribute of the request does not parse")
		}
		if !a.ID.Equal(oidExtensionRequest) {
			continue
		}
		if seen || len(a.Values) != 1 {
			return errors.New("the request asks for extensions more than once: which count?")
		}
		seen = true
		var list []pkix.Extension
		if rest, err := asn1.Unmarshal(a.Values[0].FullBytes, &list); err != nil || len(rest) > 0 {
			return errors.New("the request's extensions do not parse, or bytes follow them")
		}
	}
	return nil
}

func (o *opener) certificate(c *x509.Certificate) (*Envelope, error) {
	e, err := o.extensions(c.Extensions, c.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	e.Binds.SPKI, e.Binds.Carrier = c.RawSubjectPublicKeyInfo, c.Raw
	if bytes.Equal(c.RawIssuer, c.RawSubject) {
		if e.Binds.Signature = pki.CheckKey(c.PublicKey); e.Binds.Signature == nil {
			e.Binds.Signature = c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
		}
	} else {
		e.Binds.SignedBy = c.Issuer.String()
	}
	return e, nil
}

// extensions finds the one that carries evidence. The registered forms may stand
// beside each other if they hold the same; an older form beside them is set aside;
// one that stands twice is refused.
func (o *opener) extensions(list []pkix.Extension, spki []byte) (*Envelope, error) {
	found := map[string][]byte{}
	for _, x := range list {
		if !x.Id.Equal(oidCMW) && !x.Id.Equal(oidTagged) && !x.Id.Equal(oidGramine) && !x.Id.Equal(oidIntel) &&
			!(len(x.Id) == len(oidEnarx)+1 && x.Id[:len(oidEnarx)].Equal(oidEnarx)) {
			continue
		}
		id := x.Id.String()
		if _, twice := found[id]; twice {
			return nil, o.errorf("the extension %s stands twice: which evidence counts?", id)
		}
		found[id] = x.Value
	}
	cmw, tagged := found[oidCMW.String()], found[oidTagged.String()]
	gramine, intel := found[oidGramine.String()], found[oidIntel.String()]
	enarx := [4][]byte{}
	n := 0
	for i := 1; i <= 3; i++ {
		if v, ok := found[append(oidEnarx[:len(oidEnarx):len(oidEnarx)], i).String()]; ok {
			enarx[i] = v
			n++
		}
	}
	if n > 1 || n == 1 && (cmw != nil || tagged != nil || gramine != nil) {
		return nil, o.errorf("two pieces of evidence: which counts?")
	}
	switch {
	case cmw != nil:
		return o.cmwExtension(cmw, tagged)
	case tagged != nil:
		e, err := o.tagged(tagged)
		if err == nil && (gramine != nil || intel != nil) {
			e.Aside = append(e.Aside, "an older extension with a quote of its own")
		}
		return e, err
	case enarx[1] != nil:
		return nil, &FormError{Form: o.words(), Err: errors.New("evidence of KVM, which is no TEE: there is nothing to verify")}
	case enarx[2] != nil:
		return o.enarxSGX(enarx[2])
	case enarx[3] != nil:
		return o.enarxSNP(enarx[3])
	case gramine != nil && intel != nil:
		return nil, o.errorf("two pieces of evidence: which counts?")
	case gramine != nil:
		return o.legacy(gramine, "Gramine's older extension")
	case intel != nil && !bytes.HasPrefix(intel, []byte{0x30}): // a SEQUENCE is a PCK certificate's
		return o.legacy(intel, "Intel SDK's extension")
	}
	return nil, &FormError{Form: o.words(), Err: errors.New("it carries no evidence"), What: "wanted an extension such as 2.23.133.5.4.9 or 1.3.6.1.5.5.7.1.35; collateral belongs to --collateral"}
}

// legacy is a bare quote whose report data is SHA-256 of the key.
func (o *opener) legacy(v []byte, word string) (*Envelope, error) {
	o.enter(word)
	e, err := o.binary(v)
	if err != nil {
		return nil, err
	}
	if e.Kind != DCAP {
		return nil, o.errorf("found no quote in it")
	}
	e.Binds.Direct = DirectSHA256
	return e, nil
}

// tagged is CBOR tag 60000 [quote, claims], or 60002 with a bare quote.
func (o *opener) tagged(v []byte) (*Envelope, error) {
	o.enter("tagged evidence")
	m, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16}.DecMode()
	if err != nil {
		return nil, err
	}
	var t cbor.RawTag
	if err := m.Unmarshal(v, &t); err != nil {
		return nil, o.errorf("no CBOR tag: %w", err)
	}
	switch t.Number {
	case tagQuoteAndClaims:
		var pair [][]byte
		if err := m.Unmarshal(t.Content, &pair); err != nil || len(pair) != 2 {
			return nil, o.errorf("tag %d holds no [evidence, claims]", t.Number)
		}
		e, err := o.binary(pair[0])
		if err != nil {
			return nil, err
		}
		if e.Binds.SPKI != nil || e.Binds.Claims != nil {
			return nil, o.errorf("evidence within evidence")
		}
		e.Binds.Claims = append([]byte{}, pair[1]...) // empty claims are claims
		return e, nil
	case tagIntelReport, tagLegacyReport:
		return nil, o.errorf("tag %d is a form without claims that this verifier does not read; wanted %d", t.Number, tagQuoteAndClaims)
	}
	return nil, o.errorf("found CBOR tag %d, wanted %d", t.Number, tagQuoteAndClaims)
}

type enarxCRL struct {
	URL  string `asn1:"utf8"`
	List asn1.RawValue
}

type enarxCRLs struct{ Lists []enarxCRL }

type enarxSNP struct {
	Certs struct {
		VCEK asn1.RawValue
		CRLs enarxCRLs
	}
	Report []byte
}

type enarxSGX struct {
	Quote []byte
	CRLs  enarxCRLs
	TCB   struct {
		Certs  []asn1.RawValue
		Report []byte
	}
}

func (o *opener) enarxSNP(v []byte) (*Envelope, error) {
	o.enter("Enarx SNP evidence")
	var in enarxSNP
	if rest, err := asn1.Unmarshal(v, &in); err != nil || len(rest) > 0 {
		return nil, o.errorf("it does not have Enarx's form")
	}
	if len(in.Report) != snp.ReportSize {
		return nil, o.errorf("a report of %d bytes, wanted %d", len(in.Report), snp.ReportSize)
	}
	set := &collateral.Set{}
	c, err := x509.ParseCertificate(in.Certs.VCEK.FullBytes)
	if err != nil {
		return nil, o.errorf("the VCEK: %w", err)
	}
	set.Certificates = append(set.Certificates, c)
	if err := o.enarxLists(set, in.Certs.CRLs.Lists); err != nil {
		return nil, err
	}
	return &Envelope{Kind: SNP, Form: o.words(), Evidence: in.Report, Stapled: set, Binds: Binding{Direct: DirectSHA384}}, nil
}

func (o *opener) enarxSGX(v []byte) (*Envelope, error) {
	o.enter("Enarx SGX evidence")
	var in enarxSGX
	if rest, err := asn1.Unmarshal(v, &in); err != nil || len(rest) > 0 {
		return nil, o.errorf("it does not have Enarx's form")
	}
	set := &collateral.Set{}
	if len(in.TCB.Certs) > 8 {
		return nil, o.errorf("%d TCB signing certificates, at most 8", len(in.TCB.Certs))
	}
	for _, raw := range in.TCB.Certs {
		c, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return nil, o.errorf("a TCB signing certificate: %w", err)
		}
		set.Certificates = append(set.Certificates, c)
	}
	if err := o.enarxLists(set, in.CRLs.Lists); err != nil {
		return nil, err
	}
	if err := set.Add("TCB info", in.TCB.Report); err != nil {
		return nil, o.errorf("the TCB info: %w", err)
	}
	inner := &opener{form: o.form}
	e, err := inner.binary(in.Quote)
	if err != nil {
		return nil, err
	}
	if e.Kind != DCAP {
		return nil, o.errorf("found no quote in it")
	}
	e.Stapled, e.Binds.Direct = set, DirectSHA256
	return e, nil
}

// enarxLists reads the revocation lists. Their URLs are not followed (THREATS T29).
func (o *opener) enarxLists(set *collateral.Set, in []enarxCRL) error {
	if len(in) > 16 {
		return o.errorf("%d revocation lists, at most 16", len(in))
	}
	for _, x := range in {
		l, err := x509.ParseRevocationList(x.List.FullBytes)
		if err != nil {
			return o.errorf("a revocation list: %w", err)
		}
		set.Lists = append(set.Lists, l)
	}
	return nil
}
