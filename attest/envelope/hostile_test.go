package envelope

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/pki"
)

// report is bytes with an SNP report's first and length.
func report() []byte {
	b := make([]byte, 1184)
	b[0] = 3
	return b
}

func tagged(t *testing.T) []byte {
	t.Helper()
	b, err := cbor.Marshal(cbor.Tag{Number: tagQuoteAndClaims, Content: [][]byte{report(), {0xa0}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func certificateWith(t *testing.T, x ...pkix.Extension) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, ExtraExtensions: x}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An extension of no bytes, or of an empty string, is refused like any other.
func TestEmptyCMWExtension(t *testing.T) {
	for _, v := range [][]byte{{}, {0x04, 0}, {0x24, 0}, {0x0c, 0}} {
		if _, err := Open(certificateWith(t, pkix.Extension{Id: oidCMW, Value: v})); err == nil {
			t.Errorf("%x: opened", v)
		}
	}
}

// A self-signed certificate or request must not choose how long its own signature
// takes to check: with a key of a million bits it is minutes.
func TestHugeRSAKeyIsNotUsed(t *testing.T) {
	for _, form := range []string{"certificate", "request"} {
		der := hugeRSA(t, form, 1<<20, pkix.Extension{Id: oidTagged, Value: tagged(t)})
		start := time.Now()
		e, err := Open(der)
		if err != nil {
			t.Fatal(err)
		}
		if e.Binds.Signature == nil || !strings.Contains(e.Binds.Signature.Error(), "at most 8192") {
			t.Errorf("%s: found %v after %v, wanted the key refused for its size", form, e.Binds.Signature, time.Since(start))
		}
	}
	if pki.MaxRSABits != 8192 {
		t.Error("the bound has changed")
	}
}

// hugeRSA is a certificate or request with an RSA key of that many bits and a
// signature that does not hold.
func hugeRSA(t *testing.T, form string, bits int, x pkix.Extension) []byte {
	t.Helper()
	random := func() []byte {
		b := make([]byte, bits/8)
		_, _ = rand.Read(b)
		b[0], b[len(b)-1] = 0x80, b[len(b)-1]|1
		return b
	}
	type algorithm struct {
		ID   asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	type spki struct {
		Algorithm algorithm
		Key       asn1.BitString
	}
	null := asn1.RawValue{Tag: asn1.TagNull}
	sha256RSA := algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, null}
	key := must(asn1.Marshal(struct {
		N *big.Int
		E int
	}{new(big.Int).SetBytes(random()), 1<<31 - 1}))
	info := spki{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, null}, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}}
	name := pkix.Name{CommonName: "x"}.ToRDNSequence()
	var tbs []byte
	if form == "certificate" {
		tbs = must(asn1.Marshal(struct {
			Version    int `asn1:"explicit,tag:0"`
			Serial     int
			Algorithm  algorithm
			Issuer     pkix.RDNSequence
			Validity   struct{ From, To time.Time }
			Subject    pkix.RDNSequence
			Key        spki
			Extensions []pkix.Extension `asn1:"explicit,tag:3"`
		}{Version: 2, Serial: 1, Algorithm: sha256RSA, Issuer: name,
			Validity: struct{ From, To time.Time }{time.Unix(1e9, 0).UTC(), time.Unix(2e9, 0).UTC()}, Subject: name, Key: info, Extensions: []pkix.Extension{x}}))
	} else {
		tbs = requestBody(info, attribute{oidExtensionRequest, []any{[]pkix.Extension{x}}})
	}
	sig := random()
	return must(asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm algorithm
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, sha256RSA, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}}))
}

type attribute struct {
	ID     asn1.ObjectIdentifier
	Values []any
}

// requestBody is a CertificationRequestInfo (RFC 2986, section 4.1) with attributes
// as they are given.
func requestBody(key any, list ...attribute) []byte {
	var attributes []byte
	for _, a := range list {
		var set []byte
		for _, v := range a.Values {
			if raw, ok := v.([]byte); ok {
				set = append(set, raw...)
				continue
			}
			set = append(set, must(asn1.Marshal(v))...)
		}
		attributes = append(attributes, must(asn1.Marshal(struct {
			ID  asn1.ObjectIdentifier
			Set asn1.RawValue
		}{a.ID, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: set}}))...)
	}
	return must(asn1.Marshal(struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        any
		Attributes asn1.RawValue
	}{0, pkix.Name{CommonName: "x"}.ToRDNSequence(), key, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: attributes}}))
}

// Readers that take the first and the last of two would judge different evidence.
func TestAmbiguousRequests(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := asn1.RawValue{FullBytes: must(x509.MarshalPKIXPublicKey(&k.PublicKey))}
	carried := []pkix.Extension{{Id: oidTagged, Value: tagged(t)}}
	other := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 128}}}
	trailing := append(must(asn1.Marshal(carried)), must(asn1.Marshal(other))...)
	for _, c := range []struct {
		name string
		list []attribute
		ok   bool
	}{
		{"one", []attribute{{oidExtensionRequest, []any{carried}}}, true},
		{"another attribute beside it", []attribute{{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []any{"password"}}, {oidExtensionRequest, []any{carried}}}, true},
		{"two values", []attribute{{oidExtensionRequest, []any{carried, carried}}}, false},
		{"two attributes", []attribute{{oidExtensionRequest, []any{carried}}, {oidExtensionRequest, []any{other}}}, false},
		{"two lists in one value", []attribute{{oidExtensionRequest, []any{trailing}}}, false},
		{"an attribute without values before it", []attribute{{oidExtensionRequest, nil}, {oidExtensionRequest, []any{carried}}}, false},
	} {
		tbs := requestBody(key, c.list...)
		h := sum256(tbs)
		sig := must(ecdsa.SignASN1(rand.Reader, k, h))
		der := must(asn1.Marshal(struct {
			TBS       asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
		}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}}))
		e, err := Open(der)
		if (err == nil) != c.ok {
			t.Errorf("%s: found error %v, wanted opened %v", c.name, err, c.ok)
		}
		if err == nil && e.Binds.Signature != nil {
			t.Errorf("%s: its signature: %v", c.name, e.Binds.Signature)
		}
	}
}

// A record that says one form and holds another would be read by its word elsewhere.
func TestRecordOfAnotherForm(t *testing.T) {
	for kind, ok := range map[string]bool{evidence.ReportType: true, quoteType: false, nitroType: false, "application/octet-stream": true} {
		b := must(cbor.Marshal(map[string]any{"evidence": wireRecord{Type: kind, Data: report(), Ind: indEvidence}}))
		if _, err := Open(b); (err == nil) != ok {
			t.Errorf("%s that holds a report: found %v, wanted opened %v", kind, err, ok)
		}
	}
}

// No type at all is not one that is not known.
func TestRecordWithoutType(t *testing.T) {
	data := base64.RawURLEncoding.EncodeToString(report())
	for in, ok := range map[string]bool{`["x","` + data + `"]`: true, `[61,"` + data + `"]`: true, `[null,"` + data + `"]`: false, `["","` + data + `"]`: false} {
		if _, err := Open([]byte(in)); (err == nil) != ok {
			t.Errorf("%.6s: found %v, wanted opened %v", in, err, ok)
		}
	}
	for _, c := range []struct {
		kind any
		ok   bool
	}{{"x", true}, {uint64(61), true}, {nil, false}, {"", false}, {[]byte{}, false}} {
		if _, err := Open(must(cbor.Marshal([]any{c.kind, report()}))); (err == nil) != c.ok {
			t.Errorf("%v: found %v, wanted opened %v", c.kind, err, c.ok)
		}
	}
}

// A PEM block that one reader passes over is another's first.
func TestDamagedPEMBlockIsNotPassedOver(t *testing.T) {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificateWith(t, pkix.Extension{Id: oidTagged, Value: tagged(t)})})
	if _, err := Open(block); err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificateWith(t)})
	if _, err := Open(append(bytes.Clone(block), chain...)); err != nil {
		t.Fatal(err)
	}
	damaged := []byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
	for name, b := range map[string][]byte{"before": append(bytes.Clone(damaged), block...), "behind, before a chain": bytes.Join([][]byte{block, damaged, chain}, nil)} {
		if _, err := Open(b); err == nil {
			t.Errorf("a damaged block %s: opened", name)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func sum256(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}
