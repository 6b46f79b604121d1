package synthetic

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/donjon-tee/donjon/attest/pki"
)

// The certificates of a hierarchy of Intel's, by what they are.
const (
	IntelRoot   = "root"
	IntelCA     = "ca"
	IntelPCK    = "pck"
	IntelSigner = "tcb-signer"
)

// IntelOptions say what a synthetic hierarchy shall look like. The zero value of a
// field means what a real one has.
type IntelOptions struct {
	Rand io.Reader // nil: crypto/rand
	At   time.Time // certificates are valid around it; zero: 2026-06-01 12:00 UTC
	// ProcessorCA makes the intermediate a Processor CA instead of a Platform CA.
	ProcessorCA bool
	// Machine is what the PCK certificate says; nil: NewMachine.
	Machine *Machine
	// Edit changes a certificate before it is signed: what is one of the constants
	// above.
	Edit func(what string, c *x509.Certificate)
	// PCKCurve is the curve of the PCK; nil: P-256.
	PCKCurve elliptic.Curve
	// EditExtension changes the DER of the PCK's SGX extension.
	EditExtension func([]byte) []byte
	// PCKIssuer is who signs the PCK: IntelCA, IntelRoot or IntelPCK; "": IntelCA.
	PCKIssuer string
}

// Intel is a synthetic counterpart of Intel's hierarchy: a root, a PCK CA, one
// machine's PCK and a TCB signing key.
type Intel struct {
	Root, CA, PCK, Signer Identity
	Machine               Machine
	At                    time.Time
	rand                  io.Reader
}

// Identity is a certificate with its key.
type Identity struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// Machine is what a PCK certificate says about a machine.
type Machine struct {
	PPID       [16]byte
	CompSVN    [16]int
	PCESVN     int
	CPUSVN     [16]byte
	PCEID      [2]byte
	FMSPC      [6]byte
	SGXType    int
	InstanceID []byte // 16 bytes; nil: left out, with the flags
	Dynamic    bool
	CachedKeys bool
	SMT        bool
}

// NewMachine is a machine that reaches the best level of NewTCBInfo.
func NewMachine() Machine {
	m := Machine{PPID: [16]byte{0x5e}, PCESVN: 13, FMSPC: [6]byte{0x5e, 0xc0, 0x6f}, SGXType: 1, InstanceID: make([]byte, 16)}
	for i, v := range bestSGX() {
		m.CompSVN[i], m.CPUSVN[i] = int(v), v
	}
	m.InstanceID[0] = 0x5e
	return m
}

func bestSGX() [16]uint8 { return [16]uint8{2, 2, 2, 2, 3, 1, 0, 5} }
func bestTDX() [16]uint8 { return [16]uint8{5, 0, 2} }

// sgxOID gives an identifier under Intel's arc of the PCK extensions.
func sgxOID(more ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, more...)
}

type oidPair struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// Extension is the DER of Intel's extension of a PCK certificate.
func (m Machine) Extension() ([]byte, error) {
	var err error
	der := func(v any) asn1.RawValue {
		b, e := asn1.Marshal(v)
		if e != nil && err == nil {
			err = e
		}
		return asn1.RawValue{FullBytes: b}
	}
	var tcb, config []oidPair
	for i, v := range m.CompSVN {
		tcb = append(tcb, oidPair{sgxOID(2, i+1), der(v)})
	}
	tcb = append(tcb, oidPair{sgxOID(2, 17), der(m.PCESVN)}, oidPair{sgxOID(2, 18), der(m.CPUSVN[:])})
	all := []oidPair{
		{sgxOID(1), der(m.PPID[:])}, {sgxOID(2), der(tcb)}, {sgxOID(3), der(m.PCEID[:])},
		{sgxOID(4), der(m.FMSPC[:])}, {sgxOID(5), der(asn1.Enumerated(m.SGXType))},
	}
	if m.InstanceID != nil {
		config = []oidPair{{sgxOID(7, 1), der(m.Dynamic)}, {sgxOID(7, 2), der(m.CachedKeys)}, {sgxOID(7, 3), der(m.SMT)}}
		all = append(all, oidPair{sgxOID(6), der(m.InstanceID)}, oidPair{sgxOID(7), der(config)})
	}
	out := der(all).FullBytes
	return out, err
}

// NewIntel makes a hierarchy.
func NewIntel(o IntelOptions) (*Intel, error) {
	i := &Intel{At: o.At, rand: o.Rand, Machine: NewMachine()}
	if o.Machine != nil {
		i.Machine = *o.Machine
	}
	if i.rand == nil {
		i.rand = rand.Reader
	}
	if i.At.IsZero() {
		i.At = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	}
	extension, err := i.Machine.Extension()
	if err != nil {
		return nil, fmt.Errorf("synthetic: PCK extension: %w", err)
	}
	if o.EditExtension != nil {
		extension = o.EditExtension(extension)
	}
	kind := "Platform"
	if o.ProcessorCA {
		kind = "Processor"
	}
	ca := x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	sign := x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	for _, c := range []struct {
		what, name string
		out        *Identity
		issuer     *Identity
		before     time.Duration
		after      time.Duration
		template   x509.Certificate
	}{
		{IntelRoot, "SYNTHETIC SGX Root CA", &i.Root, &i.Root, 8 * year, 23 * year, x509.Certificate{IsCA: true, KeyUsage: ca, MaxPathLen: 1}},
		{IntelCA, "SYNTHETIC SGX PCK " + kind + " CA", &i.CA, &i.Root, 8 * year, 7 * year, x509.Certificate{IsCA: true, KeyUsage: ca, MaxPathLenZero: true}},
		{IntelPCK, "SYNTHETIC SGX PCK Certificate", &i.PCK, i.issuer(o.PCKIssuer), year, 6 * year, x509.Certificate{
			KeyUsage: sign, ExtraExtensions: []pkix.Extension{{Id: sgxOID(), Value: extension}}}},
		{IntelSigner, "SYNTHETIC SGX TCB Signing", &i.Signer, &i.Root, year, 6 * year, x509.Certificate{KeyUsage: sign}},
	} {
		t := c.template
		t.Subject = pkix.Name{CommonName: c.name, Organization: []string{"SYNTHETIC, no vendor's"}}
		t.NotBefore, t.NotAfter, t.BasicConstraintsValid = i.At.Add(-c.before), i.At.Add(c.after), true
		curve := elliptic.P256()
		if c.what == IntelPCK && o.PCKCurve != nil {
			curve = o.PCKCurve
		}
		if o.Edit != nil {
			o.Edit(c.what, &t)
		}
		if err := i.certificate(c.out, c.issuer, &t, curve); err != nil {
			return nil, fmt.Errorf("synthetic: %s: %w", c.what, err)
		}
	}
	return i, nil
}

const year = 365 * 24 * time.Hour

func (i *Intel) issuer(what string) *Identity {
	switch what {
	case IntelRoot:
		return &i.Root
	case IntelPCK:
		return &i.PCK
	}
	return &i.CA
}

func (i *Intel) certificate(out, issuer *Identity, t *x509.Certificate, curve elliptic.Curve) (err error) {
	if out.Key, err = ecdsa.GenerateKey(curve, i.rand); err != nil {
		return err
	}
	if t.SerialNumber == nil {
		serial := make([]byte, 16)
		if _, err = io.ReadFull(i.rand, serial); err != nil {
			return err
		}
		serial[0] = serial[0]&0x7f | 1
		t.SerialNumber = new(big.Int).SetBytes(serial)
	}
	t.SignatureAlgorithm = x509.ECDSAWithSHA256
	parent := t
	if issuer != out {
		parent = issuer.Certificate
	}
	der, err := x509.CreateCertificate(i.rand, t, parent, &out.Key.PublicKey, issuer.Key)
	if err != nil {
		return err
	}
	out.Certificate, err = x509.ParseCertificate(der)
	return err
}

// Pinned is the fingerprint of the root, for a verifier that shall trust it.
func (i *Intel) Pinned() pki.Hash { return pki.Fingerprint(i.Root.Certificate) }

// List makes a revocation list of an issuer's that names the certificates revoked.
func (i *Intel) List(issuer Identity, thisUpdate, nextUpdate time.Time, revoked ...*x509.Certificate) (*x509.RevocationList, error) {
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: thisUpdate, NextUpdate: nextUpdate, SignatureAlgorithm: x509.ECDSAWithSHA256}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: thisUpdate})
	}
	der, err := x509.CreateRevocationList(i.rand, t, issuer.Certificate, issuer.Key)
	if err != nil {
		return nil, fmt.Errorf("synthetic: revocation list: %w", err)
	}
	return x509.ParseRevocationList(der)
}
