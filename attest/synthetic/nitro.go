package synthetic

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
)

// ECAuthority is a certificate with its elliptic-curve key.
type ECAuthority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// Nitro is a synthetic hierarchy in the form of AWS Nitro Enclaves': root, region,
// zone, instance, and the enclave's signing key.
type Nitro struct {
	At      time.Time
	Chain   [4]*ECAuthority // root, region, zone, instance
	Enclave *ECAuthority

	rand   io.Reader
	serial int64
}

// NewNitro makes a hierarchy whose certificates are valid around at, the enclave's for
// three hours. r nil: crypto/rand.
func NewNitro(at time.Time, r io.Reader) (*Nitro, error) {
	if r == nil {
		r = rand.Reader
	}
	n := &Nitro{At: at, rand: r, serial: 1}
	for i, name := range []string{"root", "region", "zone", "instance"} {
		t := n.Template("SYNTHETIC aws.nitro-enclaves "+name, true)
		t.NotBefore, t.NotAfter = at.AddDate(0, -1, 0), at.AddDate(0, 1, 0)
		t.MaxPathLen = 3 - i
		t.MaxPathLenZero = i == 3
		var issuer *ECAuthority
		if i > 0 {
			issuer = n.Chain[i-1]
		}
		a, err := n.Issue(t, issuer, elliptic.P384())
		if err != nil {
			return nil, err
		}
		n.Chain[i] = a
	}
	var err error
	n.Enclave, err = n.Issue(n.Template("SYNTHETIC i-0123456789abcdef0-enc0123456789abcdef", false), n.Chain[3], elliptic.P384())
	return n, err
}

// Template is a certificate to be issued, of an authority or of an enclave.
func (n *Nitro) Template(name string, ca bool) *x509.Certificate {
	n.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(n.serial), Subject: pkix.Name{CommonName: name, Organization: []string{"SYNTHETIC"}},
		NotBefore: n.At.Add(-time.Hour), NotAfter: n.At.Add(2 * time.Hour),
		BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		t.MaxPathLen = -1
	}
	return t
}

// Issue makes a key and its certificate; issuer nil: it signs itself.
func (n *Nitro) Issue(t *x509.Certificate, issuer *ECAuthority, c elliptic.Curve) (*ECAuthority, error) {
	return issueEC(t, issuer, c, n.rand)
}

func issueEC(t *x509.Certificate, issuer *ECAuthority, c elliptic.Curve, r io.Reader) (*ECAuthority, error) {
	key, err := ecdsa.GenerateKey(c, r)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	a := &ECAuthority{Key: key}
	parent, signer := t, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.Key
	}
	der, err := x509.CreateCertificate(r, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	if a.Certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return a, nil
}

// List is the authority's revocation list for a day around at, with those serials.
func (a *ECAuthority) List(at time.Time, r io.Reader, serials ...*big.Int) (*x509.RevocationList, error) {
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at.Add(-12 * time.Hour), NextUpdate: at.Add(12 * time.Hour)}
	for _, s := range serials {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: at.Add(-13 * time.Hour)})
	}
	der, err := x509.CreateRevocationList(r, t, a.Certificate, a.Key)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return x509.ParseRevocationList(der)
}

// Root is the fingerprint to name as a simulated root.
func (n *Nitro) Root() pki.Hash { return pki.Fingerprint(n.Chain[0].Certificate) }

// Lists are a list of each authority; revoked are on their issuers'.
func (n *Nitro) Lists(revoked ...*x509.Certificate) (*collateral.Set, error) {
	set := &collateral.Set{}
	for _, a := range n.Chain {
		var serials []*big.Int
		for _, c := range revoked {
			if c.Issuer.String() == a.Certificate.Subject.String() {
				serials = append(serials, c.SerialNumber)
			}
		}
		l, err := a.List(n.At, n.rand, serials...)
		if err != nil {
			return nil, err
		}
		set.Lists = append(set.Lists, l)
	}
	return set, nil
}

// NitroDocument is an attestation document to be signed: every part of it may be wrong.
type NitroDocument struct {
	Payload     map[string]any // by the specification's names
	Protected   any            // the header, encoded and put into a byte string
	Unprotected any
	Key         *ecdsa.PrivateKey
	Tagged      bool // with tag 18
}

// Document is a good document of the enclave: 16 registers, 0 to 2 and 4 not zero.
func (n *Nitro) Document() NitroDocument {
	pcrs := map[uint64][]byte{}
	for i := range uint64(16) {
		pcrs[i] = make([]byte, 48)
	}
	for _, i := range []uint64{0, 1, 2, 4} {
		h := sha512.Sum384([]byte{byte(i)})
		pcrs[i] = h[:]
	}
	var bundle [][]byte
	for _, a := range n.Chain {
		bundle = append(bundle, a.Certificate.Raw)
	}
	return NitroDocument{
		Payload: map[string]any{
			"module_id": "i-0123456789abcdef0-enc0123456789abcdef", "digest": "SHA384", "timestamp": uint64(n.At.UnixMilli()),
			"pcrs": pcrs, "certificate": n.Enclave.Certificate.Raw, "cabundle": bundle,
			"public_key": nil, "user_data": nil, "nonce": []byte("a nonce of 16 by"),
		},
		Protected: map[int]int{1: -35}, Unprotected: map[int]int{}, Key: n.Enclave.Key,
	}
}

// Set is d with one member of the payload changed.
func (d NitroDocument) Set(name string, value any) NitroDocument {
	p := map[string]any{}
	for k, v := range d.Payload {
		p[k] = v
	}
	p[name] = value
	d.Payload = p
	return d
}

// Encode signs the document.
func (d NitroDocument) Encode() ([]byte, error) {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	payload, err := m.Marshal(d.Payload)
	if err != nil {
		return nil, err
	}
	return d.Sign(payload)
}

// Sign signs a payload that is encoded already, whatever it is.
func (d NitroDocument) Sign(payload []byte) ([]byte, error) {
	protected, err := cbor.Marshal(d.Protected)
	if err != nil {
		return nil, err
	}
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, payload})
	if err != nil {
		return nil, err
	}
	h := sha512.Sum384(signed)
	r, s, err := ecdsa.Sign(rand.Reader, d.Key, h[:])
	if err != nil {
		return nil, err
	}
	size := (d.Key.Curve.Params().BitSize + 7) / 8
	sig := append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	if len(sig) != 96 { // the form has P-384's size, whatever the key
		sig = append(make([]byte, 96-len(sig)), sig...)
	}
	out, err := cbor.Marshal([]any{protected, d.Unprotected, payload, sig})
	if err == nil && d.Tagged {
		out = append([]byte{0xd2}, out...)
	}
	return out, err
}
