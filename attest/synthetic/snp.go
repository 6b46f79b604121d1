package synthetic

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/snp"
)

// AMDOptions say what hierarchy NewAMD makes. The zero value is a Genoa one.
type AMDOptions struct {
	Product string // snp.Milan, snp.Genoa or snp.Turin; "": Genoa
	Bits    int    // of the RSA keys; 0: 2048. AMD has 4096
	// At lies in the validity of everything; zero: 2026-06-01.
	At time.Time
	// Rand is where keys and signatures come from; nil: crypto/rand.
	Rand io.Reader
	// AMDNames gives the certificates AMD's own names, for tests that names alone
	// are worth nothing. Without it every name says SYNTHETIC.
	AMDNames bool
	// ASKMayRevoke lets the intermediates sign revocation lists, as AMD's may not.
	ASKMayRevoke bool
	// Unlisted makes a root that can have no revocation list: without the key usage
	// and without a distribution point.
	Unlisted bool
}

// AMDAuthority is a certificate with its RSA key.
type AMDAuthority struct {
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey
}

// AMD is a synthetic hierarchy of one product: root (ARK), intermediates for VCEKs
// (ASK) and VLEKs (ASVK).
type AMD struct {
	Product        string
	At             time.Time
	ARK, ASK, ASVK *AMDAuthority

	rand     io.Reader
	amdNames bool
}

// AMDKey is an endorsement key with its certificate.
type AMDKey struct {
	Certificate *x509.Certificate
	Private     crypto.Signer
}

// NewAMD makes a hierarchy. Making RSA keys takes a second or so at 2048 bits.
func NewAMD(o AMDOptions) (*AMD, error) {
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Bits == 0 {
		o.Bits = 2048
	}
	var keys [3]*rsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(o.Rand, o.Bits); err != nil {
			return nil, fmt.Errorf("synthetic: %w", err)
		}
	}
	return newAMD(o, keys)
}

func newAMD(o AMDOptions, keys [3]*rsa.PrivateKey) (*AMD, error) {
	if o.Product == "" {
		o.Product = snp.Genoa
	}
	if o.At.IsZero() {
		o.At = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	a := &AMD{Product: o.Product, At: o.At, rand: o.Rand, amdNames: o.AMDNames}
	usage := x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	points := []string{"https://synthetic.invalid/vcek/v1/" + o.Product + "/crl"}
	if o.Unlisted {
		usage, points = x509.KeyUsageCertSign, nil
	}
	real, err := realNames(o)
	if err != nil {
		return nil, err
	}
	root := a.template(1, amdName("ARK-"+o.Product), -1)
	root.KeyUsage, root.CRLDistributionPoints, root.RawSubject = usage, points, real[0]
	if a.ARK, err = a.Issue(root, nil, keys[0]); err != nil {
		return nil, err
	}
	usage = x509.KeyUsageCertSign
	if o.ASKMayRevoke {
		usage |= x509.KeyUsageCRLSign
	}
	for i, role := range []string{"SEV-", "SEV-VLEK-"} {
		t := a.template(int64(2+i), amdName(role+o.Product), 0)
		t.KeyUsage, t.CRLDistributionPoints, t.RawSubject = usage, points, real[1+i]
		mid, err := a.Issue(t, a.ARK, keys[1+i])
		if err != nil {
			return nil, err
		}
		if i == 0 {
			a.ASK = mid
		} else {
			a.ASVK = mid
		}
	}
	return a, nil
}

// realNames gives the names of AMD's root and intermediates, byte for byte; nil
// unless they are asked for.
func realNames(o AMDOptions) (out [3][]byte, err error) {
	if !o.AMDNames {
		return out, nil
	}
	products, err := snp.Products()
	if err != nil {
		return out, err
	}
	for _, p := range products {
		if p.Name == o.Product {
			return [3][]byte{p.ARK.RawSubject, p.ASK.RawSubject, p.ASVK.RawSubject}, nil
		}
	}
	return out, fmt.Errorf("synthetic: AMD has no product %q", o.Product)
}

// amdName orders the attributes as AMD's certificates do.
func amdName(cn string) pkix.Name { return nameOf("SYNTHETIC "+cn, "SYNTHETIC, not AMD") }

func nameOf(cn, org string) pkix.Name {
	id := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, n} }
	return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: id(11), Value: "Engineering"}, {Type: id(6), Value: "US"}, {Type: id(7), Value: "Santa Clara"},
		{Type: id(8), Value: "CA"}, {Type: id(10), Value: org}, {Type: id(3), Value: cn}}}
}

// template is a certificate authority's; maxPath -1: no bound.
func (a *AMD) template(serial int64, n pkix.Name, maxPath int) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: n,
		NotBefore: a.At.AddDate(-2, 0, 0), NotAfter: a.At.AddDate(20, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: maxPath, MaxPathLenZero: maxPath == 0}
}

// Issue makes a certificate for key as the template says; parent nil: it signs
// itself. Nothing of the template is checked.
func (a *AMD) Issue(template *x509.Certificate, parent *AMDAuthority, key *rsa.PrivateKey) (*AMDAuthority, error) {
	signer := key
	above := template
	if parent != nil {
		signer, above = parent.Key, parent.Certificate
	}
	der, err := x509.CreateCertificate(a.rand, template, above, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return &AMDAuthority{c, key}, nil
}

// Root is the root's fingerprint, for format.Options.SimulatedRoots.
func (a *AMD) Root() pki.Hash { return pki.Fingerprint(a.ARK.Certificate) }

// AMDList says what a revocation list holds. Zero times: current at a.At.
type AMDList struct {
	Signer                 *AMDAuthority // nil: the root
	Revoked                []*big.Int    // serial numbers
	ThisUpdate, NextUpdate time.Time
	Extensions             []pkix.Extension
}

// CRL makes a revocation list.
func (a *AMD) CRL(l AMDList) (*x509.RevocationList, error) {
	if l.Signer == nil {
		l.Signer = a.ARK
	}
	if l.ThisUpdate.IsZero() {
		l.ThisUpdate = a.At.AddDate(0, -1, 0)
	}
	if l.NextUpdate.IsZero() {
		l.NextUpdate = a.At.AddDate(0, 11, 0)
	}
	t := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate,
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: l.Extensions}
	for _, n := range l.Revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: l.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(a.rand, t, l.Signer.Certificate, l.Signer.Key)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return x509.ParseRevocationList(der)
}

// AMDEndorsement says what a VCEK's or VLEK's certificate holds, right or wrong.
type AMDEndorsement struct {
	Product string // as the certificate spells it
	HWID    []byte // of a VCEK
	CSP     string // of a VLEK
	TCB     snp.TCB
	FMC     bool // the TCB is in Turin's order, and the certificate has the FMC's level

	Signer              *AMDAuthority
	Serial              int64
	NotBefore, NotAfter time.Time
	Algorithm           x509.SignatureAlgorithm
	Key                 crypto.Signer // nil: a new one on P-384
	CA                  bool
	// Extensions, if set, changes what is written last.
	Extensions func([]pkix.Extension) []pkix.Extension
}

// VCEK is a right endorsement of the report's processor.
func (a *AMD) VCEK(r snp.Report) AMDEndorsement {
	e := AMDEndorsement{Product: a.Product + "-B0", HWID: r.ChipID[:], TCB: r.ReportedTCB, Signer: a.ASK,
		NotBefore: a.At.AddDate(-1, 0, 0), NotAfter: a.At.AddDate(6, 0, 0), Algorithm: x509.SHA384WithRSAPSS}
	if a.Product == snp.Turin {
		e.Product, e.HWID, e.FMC = a.Product, r.ChipID[:8], true
	}
	return e
}

// VLEK is a right endorsement of a provider's processors at the report's TCB.
func (a *AMD) VLEK(r snp.Report, csp string) AMDEndorsement {
	e := a.VCEK(r)
	e.Product, e.HWID, e.CSP, e.Signer = a.Product, nil, csp, a.ASVK
	e.NotAfter = a.At.AddDate(1, 0, 0)
	return e
}

// Endorse makes the key and the certificate.
func (a *AMD) Endorse(e AMDEndorsement) (*AMDKey, error) {
	if e.Key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P384(), a.rand)
		if err != nil {
			return nil, fmt.Errorf("synthetic: %w", err)
		}
		e.Key = k
	}
	extensions, err := kdsExtensions(e)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	if e.Extensions != nil {
		extensions = e.Extensions(extensions)
	}
	role := "SEV-VCEK"
	if e.CSP != "" {
		role = "SEV-VLEK"
	}
	subject := amdName(role)
	if a.amdNames {
		subject = nameOf(role, "Advanced Micro Devices")
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(e.Serial), Subject: subject,
		NotBefore: e.NotBefore, NotAfter: e.NotAfter, SignatureAlgorithm: e.Algorithm,
		ExtraExtensions: extensions, BasicConstraintsValid: e.CA, IsCA: e.CA}
	der, err := x509.CreateCertificate(a.rand, t, e.Signer.Certificate, e.Key.Public(), e.Signer.Key)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("synthetic: %w", err)
	}
	return &AMDKey{c, e.Key}, nil
}

// kdsExtensions writes AMD's extensions (AMD 57230, VCEK certificate).
func kdsExtensions(e AMDEndorsement) ([]pkix.Extension, error) {
	var out []pkix.Extension
	var first error
	add := func(v any, params string, arcs ...int) {
		b, err := asn1.MarshalWithParams(v, params)
		if err != nil && first == nil {
			first = err
		}
		out = append(out, pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...), Value: b})
	}
	level := func(shift int) int { return int(byte(e.TCB >> shift)) }
	version, shifts, spare := 0, [4]int{0, 8, 48, 56}, []int{4, 5, 6, 7} // boot loader, TEE, SNP, microcode
	if e.FMC {
		version, shifts, spare = 1, [4]int{8, 16, 24, 56}, []int{5, 6, 7}
		add(level(0), "", 3, 9)
	}
	add(version, "", 1)
	add(e.Product, "ia5", 2)
	for i, n := range []int{1, 2, 3, 8} {
		add(level(shifts[i]), "", 3, n)
	}
	for _, n := range spare {
		add(0, "", 3, n)
	}
	if e.HWID != nil {
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}, Value: e.HWID})
	}
	if e.CSP != "" {
		add(e.CSP, "ia5", 5)
	}
	return out, first
}

// Collateral is everything that goes with reports of the hierarchy: the keys given,
// intermediates, root and, where the root may sign one, a current revocation list.
func (a *AMD) Collateral(keys ...*AMDKey) (*collateral.Set, error) {
	set := &collateral.Set{Certificates: []*x509.Certificate{a.ARK.Certificate, a.ASK.Certificate, a.ASVK.Certificate}}
	if a.ARK.Certificate.KeyUsage&x509.KeyUsageCRLSign != 0 {
		l, err := a.CRL(AMDList{})
		if err != nil {
			return nil, err
		}
		set.Lists = append(set.Lists, l)
	}
	for _, k := range keys {
		set.Certificates = append(set.Certificates, k.Certificate)
	}
	return set, nil
}

// Table is the GHCB certificate table with the key, its intermediate and the root.
func (a *AMD) Table(k *AMDKey, vlek bool) []byte {
	id, mid := snp.GUIDVCEK, a.ASK
	if vlek {
		id, mid = snp.GUIDVLEK, a.ASVK
	}
	return snp.EncodeCertTable([]snp.CertEntry{{GUID: id, Data: k.Certificate.Raw}, {GUID: snp.GUIDASK, Data: mid.Certificate.Raw}, {GUID: snp.GUIDARK, Data: a.ARK.Certificate.Raw}})
}

// Sign writes the key's signature into an encoded report. The key must be ECDSA.
func (k *AMDKey) Sign(report []byte) error {
	key, ok := k.Private.(*ecdsa.PrivateKey)
	if !ok || len(report) != snp.ReportSize {
		return fmt.Errorf("synthetic: a report of %d bytes and a key of %T, wanted %d and ECDSA", len(report), k.Private, snp.ReportSize)
	}
	h := sha512.Sum384(report[:snp.SignedSize])
	r, s, err := ecdsa.Sign(rand.Reader, key, h[:])
	if err != nil {
		return fmt.Errorf("synthetic: %w", err)
	}
	clear(report[snp.SignedSize : snp.SignedSize+144])
	for i, n := range []*big.Int{r, s} {
		b := n.Bytes()
		for j, x := range b {
			report[snp.SignedSize+72*i+len(b)-1-j] = x
		}
	}
	return nil
}
