package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// Extensions of a workload's certificate. The arc 2.25 needs no registration.
var (
	// VerdictOID: an OCTET STRING, the SHA-256 of the decision's verdict in JSON, as
	// the audit log has it.
	VerdictOID = asn1.ObjectIdentifier{2, 25, 1409853218}
	// AuditHeadOID: a UTF8String, the audit log's signed head once the decision stands
	// in it (THREATS T15).
	AuditHeadOID = asn1.ObjectIdentifier{2, 25, 1409853219}
	// CMWOID is id-pe-cmw (RFC 9999): the evidence, in a request.
	CMWOID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}
)

// Bounds of a leaf's validity.
const (
	DefaultValidity = 24 * time.Hour
	MinValidity     = time.Minute
	MaxValidity     = 30 * 24 * time.Hour
)

// A Leaf is what a workload's certificate says.
type Leaf struct {
	Key      crypto.PublicKey // the request's
	DNS      []string         // as Names.Grant gave them
	SPIFFE   string           // a SPIFFE ID; "": none
	Serial   *big.Int         // from Serial
	NotAfter time.Time        // from Until
	Verdict  [32]byte         // see VerdictOID
	Head     string           // see AuditHeadOID; "": none
	Evidence []pkix.Extension // the judged evidence, of attest/evidence.CertificateExtensions; nil: none
}

// Until is when a leaf issued now for life ends: not after what certifies it.
func (a *Authority) Until(life time.Duration) time.Time {
	g := a.current()
	return earlier(earlier(a.clock().Add(life).UTC().Truncate(time.Second), g.workloads.cert.NotAfter), g.root.cert.NotAfter)
}

// Workload issues a certificate to a Keep that has proved itself. The chain begins
// with it and ends below the root; after a rotation it holds the way to the root
// before as well.
func (a *Authority) Workload(l Leaf) ([][]byte, error) {
	if err := CheckKey(l.Key); err != nil {
		return nil, err
	}
	t := leafTemplate(a.clock(), l.NotAfter, l.Serial)
	t.DNSNames = l.DNS
	if l.SPIFFE != "" {
		u, err := url.Parse(l.SPIFFE)
		if err != nil {
			return nil, fmt.Errorf("authority: the SPIFFE ID: %w", err)
		}
		t.URIs = []*url.URL{u}
	}
	verdict, err := asn1.Marshal(l.Verdict[:])
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions = []pkix.Extension{{Id: VerdictOID, Value: verdict}}
	if l.Head != "" {
		head, err := asn1.MarshalWithParams(l.Head, "utf8")
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: AuditHeadOID, Value: head})
	}
	t.ExtraExtensions = append(t.ExtraExtensions, l.Evidence...)
	by := a.current().workloads
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, l.Key, by.key)
	if err != nil {
		return nil, fmt.Errorf("authority: issuing: %w", err)
	}
	return append([][]byte{der, by.cert.Raw}, a.above()...), nil
}

// Server issues a TLS certificate of the Steward's own for key.
func (a *Authority) Server(key crypto.PublicKey, names Names, life time.Duration) (chain [][]byte, err error) {
	g := a.current()
	t := leafTemplate(a.clock(), earlier(a.clock().Add(life), g.servers.cert.NotAfter), Serial())
	t.Subject = pkix.Name{CommonName: "Donjon Steward " + a.id}
	t.DNSNames, t.IPAddresses = names.DNS(), names.Addresses()
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, g.servers.cert, key, g.servers.key)
	if err != nil {
		return nil, fmt.Errorf("authority: the server's certificate: %w", err)
	}
	return append([][]byte{der, g.servers.cert.Raw}, a.above()...), nil
}

// Enarx issues a certificate under the CA of the endpoint in Enarx's form.
func (a *Authority) Enarx(key crypto.PublicKey, dns []string, life time.Duration, serial *big.Int, more []pkix.Extension) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	by := a.set.Load().enarx
	t := leafTemplate(a.clock(), earlier(a.clock().Add(life), by.cert.NotAfter), serial)
	t.DNSNames, t.ExtraExtensions = dns, more
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key, by.key)
	if err != nil {
		return nil, fmt.Errorf("authority: issuing: %w", err)
	}
	return der, nil
}

func leafTemplate(now, notAfter time.Time, serial *big.Int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now.Add(-skew).UTC().Truncate(time.Second), NotAfter: notAfter.UTC().Truncate(time.Second),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

// CheckKey refuses keys that no Keep makes.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("authority: found a key of type %T, wanted ECDSA on P-256 or P-384, or Ed25519", key)
}

// CheckTrustDomain looks at the name of a trust domain: 1 to 255 lower-case letters,
// digits, dots, hyphens and underscores (SPIFFE ID specification, 2.1 and 2.3).
func CheckTrustDomain(name string) error {
	if name == "" || len(name) > 255 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return fmt.Errorf("found %q, wanted 1 to 255 lower-case letters, digits, dots, hyphens and underscores", name)
	}
	return nil
}

// SPIFFE is the default SPIFFE ID of a workload: its trust domain and digest
// (SPIFFE ID specification, section 2).
func SPIFFE(domain string, workload [32]byte) string {
	return fmt.Sprintf("spiffe://%s/workload/%x", domain, workload)
}

// SignerSPIFFE is the default SPIFFE ID of what a signer (a key id) signs under a
// name: the same for all its versions.
func SignerSPIFFE(domain string, signer [32]byte, name string) string {
	return fmt.Sprintf("spiffe://%s/signer/%x/%s", domain, signer, name)
}

// SPKI is a certificate's or request's SubjectPublicKeyInfo, hashed.
func SPKI(der []byte) []byte {
	h := sha256.Sum256(der)
	return h[:]
}

// IssuedServer says whether the current servers intermediate certified c.
func (a *Authority) IssuedServer(c *x509.Certificate) bool {
	return bytes.Equal(c.AuthorityKeyId, a.current().servers.cert.SubjectKeyId)
}

// Thumbprint is the SHA-256 of a public key's SubjectPublicKeyInfo.
func Thumbprint(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return SPKI(der), nil
}
