package synthetic

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
)

// Offsets in an SGX report body, for Quote.Body and Quote.QEReport.
const (
	SGXMiscSelect = 16
	SGXReserved   = 21
	SGXAttributes = 48
	SGXMRENCLAVE  = 64
	SGXMRSIGNER   = 128
	SGXConfigID   = 192
	SGXProdID     = 256
	SGXSVN        = 258
	SGXReportData = 320
)

// Offsets in a TD report body.
const (
	TDTEETCBSVN      = 0
	TDMRSignerSEAM   = 64
	TDSEAMAttributes = 112
	TDAttributes     = 120
	TDXFAM           = 128
	TDMRTD           = 136
	TDMRConfigID     = 184
	TDReportData     = 520
	TDTEETCBSVN2     = 584
	TDMRServiceTD    = 600
)

// Quote says what a quote shall hold. NewQuote fills it; change what shall be wrong
// and give it to Intel.Quote.
type Quote struct {
	Version  uint16 // 3, 4, 5
	KeyType  uint16 // 2
	TEE      uint32 // 0 or 0x81
	Vendor   [16]byte
	BodyType uint16 // version 5
	BodySize uint32 // version 5
	Body     []byte
	QEReport []byte // report data is filled in at the end, unless KeepQEData
	QEAuth   []byte
	CertType uint16
	Chain    []byte // PEM
	// Outer is the outer certification data type of versions 4 and 5.
	Outer uint16

	// KeepQEData leaves the QE report data as they are: the key is then not bound.
	KeepQEData bool
	// Signers: nil is the right key each.
	QuoteKey, QEKey *ecdsa.PrivateKey
	// AfterSigning changes the finished quote.
	AfterSigning func([]byte) []byte
}

func qeSigner() []byte { return bytes.Repeat([]byte{0x5e}, 32) }

// NewQuote is a good quote: SGX for body type 1, TDX 1.0 for 2, TDX 1.5 for 3.
// Version 3 is for SGX, versions 3 and 4 have no TDX 1.5.
func (i *Intel) NewQuote(version, bodyType uint16) *Quote {
	q := &Quote{
		Version: version, KeyType: 2, BodyType: bodyType, CertType: 5, Outer: 6,
		Vendor: [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07},
		QEAuth: bytes.Repeat([]byte{0x5e}, 32), Chain: i.ChainPEM(&i.PCK, &i.CA, &i.Root),
		QEReport: make([]byte, 384),
	}
	copy(q.QEReport, i.Machine.CPUSVN[:])
	q.QEReport[SGXAttributes] = 0x15
	q.QEReport[SGXAttributes+8] = 0xe7
	copy(q.QEReport[SGXMRSIGNER:], qeSigner())
	q.QEReport[SGXProdID], q.QEReport[SGXSVN] = 1, 8
	switch bodyType {
	case 1:
		q.Body = make([]byte, 384)
		copy(q.Body, i.Machine.CPUSVN[:])
		q.Body[SGXAttributes], q.Body[SGXAttributes+8] = 0x85, 0xe7 // INIT, MODE64BIT, KSS
		fill(q.Body[SGXMRENCLAVE:][:32], 0x11)
		fill(q.Body[SGXMRSIGNER:][:32], 0x12)
		fill(q.Body[SGXConfigID:][:32], 0x13)
		fill(q.Body[SGXReportData:][:32], 0x14)
	default:
		q.TEE, q.QEReport[SGXProdID] = 0x81, 2
		q.Body = make([]byte, map[bool]int{false: 584, true: 648}[bodyType == 3])
		copy(q.Body, []byte{7, 1, 2})
		q.Body[TDAttributes+3], q.Body[TDXFAM] = 0x10, 0xe7 // SEPT_VE_DISABLE
		fill(q.Body[16:][:48], 0x21)
		fill(q.Body[TDMRTD:][:48], 0x22)
		fill(q.Body[TDMRConfigID:][:32], 0x23)
		for n := range 4 {
			fill(q.Body[328+48*n:][:48], byte(0x30+n))
		}
		fill(q.Body[TDReportData:][:32], 0x24)
		if bodyType == 3 {
			copy(q.Body[TDTEETCBSVN2:], []byte{7, 1, 2})
		}
	}
	q.BodySize = uint32(len(q.Body))
	return q
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// ChainPEM is the certificates in PEM, one after the other.
func (i *Intel) ChainPEM(list ...*Identity) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate.Raw})...)
	}
	return out
}

// Quote signs the quote with a new attestation key.
func (i *Intel) Quote(q *Quote) ([]byte, error) {
	ak, err := ecdsa.GenerateKey(elliptic.P256(), i.rand)
	if err != nil {
		return nil, fmt.Errorf("synthetic: attestation key: %w", err)
	}
	point, err := ak.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("synthetic: attestation key: %w", err)
	}
	le := binary.LittleEndian
	out := le.AppendUint16(nil, q.Version)
	out = le.AppendUint16(out, q.KeyType)
	out = le.AppendUint32(out, q.TEE)
	out = append(out, make([]byte, 4)...)
	out = append(out, q.Vendor[:]...)
	out = append(out, make([]byte, 20)...)
	if q.Version == 5 {
		out = le.AppendUint16(out, q.BodyType)
		out = le.AppendUint32(out, q.BodySize)
	}
	out = append(out, q.Body...)

	report := bytes.Clone(q.QEReport)
	if !q.KeepQEData {
		sum := sha256.Sum256(append(bytes.Clone(point[1:]), q.QEAuth...))
		copy(report[SGXReportData:], sum[:])
	}
	key, qeKey := q.QuoteKey, q.QEKey
	if key == nil {
		key = ak
	}
	if qeKey == nil {
		qeKey = i.PCK.Key
	}
	sig, err := i.sign64(key, out)
	if err != nil {
		return nil, err
	}
	qeSig, err := i.sign64(qeKey, report)
	if err != nil {
		return nil, err
	}
	inner := append(bytes.Clone(report), qeSig...)
	inner = le.AppendUint16(inner, uint16(len(q.QEAuth)))
	inner = append(inner, q.QEAuth...)
	inner = le.AppendUint16(inner, q.CertType)
	inner = le.AppendUint32(inner, uint32(len(q.Chain)))
	inner = append(inner, q.Chain...)

	data := append(bytes.Clone(sig), point[1:]...)
	if q.Version != 3 {
		data = le.AppendUint16(data, q.Outer)
		data = le.AppendUint32(data, uint32(len(inner)))
	}
	data = append(data, inner...)
	out = le.AppendUint32(out, uint32(len(data)))
	out = append(out, data...)
	if q.AfterSigning != nil {
		out = q.AfterSigning(out)
	}
	return out, nil
}
