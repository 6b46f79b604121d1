package synthetic

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// mustMake stops where a vector cannot be made: only a fault of this package, or of the
// machine's randomness, does that.
func mustMake[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// NitroVectors are documents under a hierarchy that is made anew with each call.
func NitroVectors() []Vector {
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	n := mustMake(NewNitro(at, nil))
	lists := mustMake(n.Lists())
	good := n.Document()
	var out []Vector
	add := func(name string, doc []byte, c verdict.Code, s verdict.Status) *Vector {
		out = append(out, Vector{Name: "nitro: " + name, Evidence: doc, Collateral: lists, Roots: []pki.Hash{n.Root()}, At: at, Code: c, Status: s})
		return &out[len(out)-1]
	}
	encode := func(d NitroDocument) []byte { return mustMake(d.Encode()) }
	whole := encode(good)

	// Good ones.
	add("good", whole, "", verdict.Passed)
	tagged := good
	tagged.Tagged = true
	add("good, tag 18", encode(tagged), "", verdict.Passed)
	add("good, user data and key", encode(good.Set("user_data", []byte("data")).Set("public_key", []byte("key"))), "", verdict.Passed)
	add("good, no list at hand", whole, verdict.Signature, verdict.Passed).Collateral = nil

	// The root.
	add("root named nowhere", whole, verdict.TrustedRoot, verdict.Failed).Roots = nil
	add("another root named", whole, verdict.TrustedRoot, verdict.Failed).Roots = []pki.Hash{{1}}
	aws := mustMake(NewNitro(at, nil))
	t := aws.Template("", true)
	t.Subject = pkix.Name{CommonName: "aws.nitro-enclaves", OrganizationalUnit: []string{"AWS"}, Organization: []string{"Amazon"}, Country: []string{"US"}}
	aws.Chain[0] = mustMake(aws.Issue(t, nil, elliptic.P384()))
	add("root of AWS's name", encode(good.Set("cabundle", aws.bundle())), verdict.TrustedRoot, verdict.Failed)

	// Time.
	add("signing certificate not yet valid", whole, verdict.CertificateValidity, verdict.NotMade).At = at.Add(-2 * time.Hour)
	add("signing certificate expired", whole, verdict.CertificateValidity, verdict.NotMade).At = at.Add(3 * time.Hour)
	add("root expired", whole, verdict.CertificateValidity, verdict.NotMade).At = at.AddDate(30, 0, 0)

	// Revocation.
	for i, code := range []verdict.Code{verdict.RootCRL, verdict.IntermediateCRL, verdict.IntermediateCRL} {
		c := n.Chain[i+1].Certificate
		add(c.Subject.CommonName+" revoked", whole, code, verdict.Failed).Collateral = mustMake(n.Lists(c))
	}
	add("signing certificate revoked", whole, verdict.IntermediateCRL, verdict.Failed).Collateral = mustMake(n.Lists(n.Enclave.Certificate))
	v := add("revoked on a list that ended", whole, verdict.RootCRL, verdict.Failed)
	v.Collateral = &collateral.Set{Lists: []*x509.RevocationList{mustMake(n.Chain[0].List(at.AddDate(0, 0, -9), n.rand, n.Chain[1].Certificate.SerialNumber))}}

	n.chainVectors(add)
	n.formVectors(add, whole)
	return out
}

func (n *Nitro) bundle() [][]byte {
	var out [][]byte
	for _, a := range n.Chain {
		out = append(out, a.Certificate.Raw)
	}
	return out
}

type nitroAdder func(name string, doc []byte, c verdict.Code, s verdict.Status) *Vector

// chainVectors are wrong chains and keys.
func (n *Nitro) chainVectors(add nitroAdder) {
	good := n.Document()
	encode := func(d NitroDocument) []byte { return mustMake(d.Encode()) }
	b := n.bundle()
	add("bundle backwards", encode(good.Set("cabundle", [][]byte{b[3], b[2], b[1], b[0]})), verdict.TrustedRoot, verdict.Failed)
	add("zone missing", encode(good.Set("cabundle", [][]byte{b[0], b[1], b[3]})), verdict.Chain, verdict.Failed)
	add("certificate twice", encode(good.Set("cabundle", [][]byte{b[0], b[1], b[2], b[3], b[3]})), verdict.Chain, verdict.Failed)
	add("bundle of the root alone", encode(good.Set("cabundle", b[:1])), verdict.Chain, verdict.Failed)

	// An authority of the right name whose key signed nothing here.
	t := n.Template(n.Chain[3].Certificate.Subject.CommonName, true)
	other := mustMake(n.Issue(t, n.Chain[2], elliptic.P384()))
	add("instance with another key", encode(good.Set("cabundle", [][]byte{b[0], b[1], b[2], other.Certificate.Raw})), verdict.Chain, verdict.Failed)

	// with is a document signed by an enclave's certificate that is made from a template.
	with := func(issuer *ECAuthority, c elliptic.Curve, bundle [][]byte, change func(*x509.Certificate)) []byte {
		t := n.Template("SYNTHETIC enclave", false)
		if change != nil {
			change(t)
		}
		a := mustMake(n.Issue(t, issuer, c))
		d := good.Set("certificate", a.Certificate.Raw).Set("cabundle", bundle)
		d.Key = a.Key
		return encode(d)
	}
	inst := n.Chain[3]
	add("signing key on P-256", with(inst, elliptic.P256(), b, nil), verdict.EndorsementKey, verdict.Failed)
	add("signing key on P-521", func() []byte {
		t := n.Template("SYNTHETIC enclave", false)
		a := mustMake(n.Issue(t, inst, elliptic.P521()))
		return encode(good.Set("certificate", a.Certificate.Raw))
	}(), verdict.EndorsementKey, verdict.Failed)
	add("authority as signer", with(n.Chain[2], elliptic.P384(), b[:3], func(t *x509.Certificate) {
		t.IsCA, t.KeyUsage, t.MaxPathLen = true, x509.KeyUsageCertSign, -1
	}), verdict.EndorsementKey, verdict.Failed)
	add("key that may not sign", with(inst, elliptic.P384(), b, func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageKeyAgreement }), verdict.EndorsementKey, verdict.Failed)
	add("unknown critical extension", with(inst, elliptic.P384(), b, func(t *x509.Certificate) {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 99}, Critical: true, Value: []byte{5, 0}}}
	}), verdict.Chain, verdict.Failed)

	// An enclave's certificate as an authority; a path longer than its issuer allows.
	leaf := mustMake(n.Issue(n.Template("SYNTHETIC no authority", false), inst, elliptic.P384()))
	add("issued by an enclave", with(leaf, elliptic.P384(), append(slices.Clone(b), leaf.Certificate.Raw), nil), verdict.Chain, verdict.Failed)
	t = n.Template("SYNTHETIC one too many", true)
	deep := mustMake(n.Issue(t, inst, elliptic.P384()))
	add("path too long", with(deep, elliptic.P384(), append(slices.Clone(b), deep.Certificate.Raw), nil), verdict.Chain, verdict.Failed)

	// Signatures.
	d := good
	d.Key = leaf.Key
	add("signed by another key", encode(d), verdict.Signature, verdict.Failed)
	doc := encode(good)
	doc[len(doc)-1] ^= 1
	add("signature changed", doc, verdict.Signature, verdict.Failed)
	doc = bytes.Replace(encode(good), []byte("a nonce of 16 by"), []byte("another nonce 16"), 1)
	add("nonce changed", doc, verdict.Signature, verdict.Failed)
}

// formVectors are documents that do not parse, signed all the same.
func (n *Nitro) formVectors(add nitroAdder, whole []byte) {
	good := n.Document()
	form := func(name string, d NitroDocument) { add(name, mustMake(d.Encode()), verdict.Form, verdict.Failed) }
	pcrs := func(change func(map[uint64][]byte)) NitroDocument {
		m := maps.Clone(good.Payload["pcrs"].(map[uint64][]byte))
		change(m)
		return good.Set("pcrs", m)
	}
	form("digest SHA256", good.Set("digest", "SHA256"))
	form("PCR of 32 bytes", pcrs(func(m map[uint64][]byte) { m[0] = m[0][:32] }))
	form("PCR of 49 bytes", pcrs(func(m map[uint64][]byte) { m[3] = make([]byte, 49) }))
	form("PCR 32", pcrs(func(m map[uint64][]byte) { m[32] = make([]byte, 48) }))
	form("no PCR 0", pcrs(func(m map[uint64][]byte) { delete(m, 0) }))
	form("PCRs by negative index", good.Set("pcrs", map[int][]byte{-1: make([]byte, 48), 0: make([]byte, 48), 1: make([]byte, 48), 2: make([]byte, 48)}))
	form("no timestamp", good.Set("timestamp", nil))
	form("timestamp as text", good.Set("timestamp", "2026"))
	form("timestamp too large", good.Set("timestamp", uint64(1)<<60))
	form("no module id", good.Set("module_id", ""))
	form("empty bundle", good.Set("cabundle", [][]byte{}))
	form("bundle of eight", good.Set("cabundle", append(n.bundle(), n.bundle()...)))
	form("certificate that is none", good.Set("certificate", []byte{0x30, 0x00}))
	form("nonce of 1,025 bytes", good.Set("nonce", make([]byte, 1025)))
	form("nonce as an array of numbers", good.Set("nonce", []int{1, 2, 3}))
	form("unknown member", good.Set("extra", 1))
	form("member in capitals", good.Set("Nonce", []byte("x")))
	for name, p := range map[string]any{"algorithm ES256": map[int]int{1: -7}, "algorithm ES512": map[int]int{1: -36}, "no algorithm": map[int]int{}, "critical header": map[int]any{1: -35, 2: []int{99}}} {
		d := good
		d.Protected = p
		form(name, d)
	}
	d := good
	d.Unprotected = map[int]int{1: -35}
	form("unprotected algorithm", d)

	add("trailing byte", append(bytes.Clone(whole), 0), verdict.Form, verdict.Failed)
	add("cut short", whole[:len(whole)-1], verdict.Form, verdict.Failed)
	add("tag 17", append([]byte{0xd1}, whole...), verdict.Form, verdict.Failed)
	add("tag 18 twice", append([]byte{0xd2, 0xd2}, whole...), verdict.Form, verdict.Failed)
	// {"digest": "SHA384", "digest": "SHA384", …}
	double := []byte{0xa2, 0x66, 'd', 'i', 'g', 'e', 's', 't', 0x66, 'S', 'H', 'A', '3', '8', '4', 0x66, 'd', 'i', 'g', 'e', 's', 't', 0x66, 'S', 'H', 'A', '3', '8', '4'}
	add("member twice", mustMake(good.Sign(double)), verdict.Form, verdict.Failed)
	add("indefinite length", mustMake(good.Sign([]byte{0xbf, 0xff})), verdict.Form, verdict.Failed)
	add("huge count", mustMake(good.Sign([]byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})), verdict.Form, verdict.Failed)
	debug := pcrs(func(m map[uint64][]byte) {
		for i := range uint64(3) {
			m[i] = make([]byte, 48)
		}
	})
	add("debug mode", mustMake(debug.Encode()), verdict.Debug, verdict.Failed)
}
