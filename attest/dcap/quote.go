// Package dcap verifies what Intel's data center attestation primitives sign: SGX
// quotes of version 3, and SGX and TDX quotes of versions 4 and 5, up to Intel's
// root, with Intel's TCB info and QE identity.
//
// It does no I/O: quote, collateral and time are given. Parsing is in quote.go
// (quotes), pck.go (certificates), tcbinfo.go and qeidentity.go (collateral); what
// follows from them in verify.go, chain.go, documents.go and level.go. Whether the
// result is wanted is policy's to say.
//
// Sources, named in the checks in short: Intel TDX DCAP Quoting Library API,
// appendix A.3 and A.4 ("TDX QL"); Intel SGX ECDSA Quote Library Reference, appendix
// A.4 ("SGX QL"); Intel SGX PCK Certificate and CRL Profile Specification ("PCK
// profile"); Intel PCS API version 4 ("PCS"); Intel's quote verification library
// ("QVL"); Intel TDX Module ABI specification ("TDX ABI").
package dcap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes in bytes.
const (
	MaxQuote          = 64 << 10 // trailing padding included; the longest seen is 8,000
	headerSize        = 48
	enclaveReportSize = 384
	td10Size          = 584
	td15Size          = 648
	maxCertData       = 32 << 10
	maxPadding        = 16 << 10
)

// TEE types of the header.
const (
	teeSGX = 0x00
	teeTDX = 0x81
)

// Body types of quote version 5. Versions 3 and 4 do not state one; Quote.BodyType
// holds what their TEE type means.
const (
	BodySGX   = 1
	BodyTDX10 = 2
	BodyTDX15 = 3
)

// intelQE is the QE vendor id of Intel's quoting enclave.
var intelQE = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// ErrNoPCKChain is what a quote is refused with whose certification data is an
// encrypted PPID (types 1 to 3): nothing in it leads to Intel's root.
var ErrNoPCKChain = errors.New("the certification data is an encrypted PPID: it carries no PCK chain")

// Quote is a quote taken apart. Slices point into the bytes that were parsed.
type Quote struct {
	Version  uint16 // 3, 4 or 5
	TDX      bool
	BodyType uint16 // 1 SGX, 2 TDX 1.0, 3 TDX 1.5
	QESVN    uint16 // of the header, version 3; the QE report holds the one that counts
	PCESVN   uint16
	VendorID []byte // 16 bytes
	UserData []byte // 20 bytes

	Signed    []byte // header, body descriptor (version 5) and body: what the signature covers
	Enclave   *EnclaveReport
	TD        *TDReport
	Signature []byte // 64 bytes, r and s, big endian
	AK        []byte // 64 bytes, x and y, big endian

	QEReport    *EnclaveReport
	QERaw       []byte // 384 bytes
	QESignature []byte // 64 bytes, by the PCK
	QEAuth      []byte // QE authentication data
	CertData    []byte // the PCK chain, PEM
	Padding     int    // zero bytes after the quote

	// Where things stand, for the layout.
	at offsets
}

type offsets struct{ body, sig, qe, cert int }

// EnclaveReport is an SGX REPORT's body: 384 bytes. Source: Intel SDM volume 3D,
// section 39.20.
type EnclaveReport struct {
	CPUSVN     []byte // 16
	MiscSelect uint32
	CET        byte   // CET_ATTRIBUTES
	ExtProdID  []byte // 16
	Attributes []byte // 16: flags (8, little endian), XFRM (8)
	MRENCLAVE  []byte // 32
	MRSIGNER   []byte // 32
	ConfigID   []byte // 64
	ISVProdID  uint16
	ISVSVN     uint16
	ConfigSVN  uint16
	FamilyID   []byte // 16
	ReportData []byte // 64
}

// TDReport is the body of a TDX quote: 584 bytes for TDX 1.0, 648 for 1.5.
type TDReport struct {
	TEETCBSVN      []byte // 16
	MRSEAM         []byte // 48
	MRSignerSEAM   []byte // 48
	SEAMAttributes []byte // 8
	TDAttributes   []byte // 8
	XFAM           []byte // 8
	MRTD           []byte // 48
	MRConfigID     []byte // 48
	MROwner        []byte // 48
	MROwnerConfig  []byte // 48
	RTMR           [4][]byte
	ReportData     []byte // 64
	TEETCBSVN2     []byte // 16, TDX 1.5
	MRServiceTD    []byte // 48, TDX 1.5
}

// A reader takes bytes off the front. The first thing missing is an error that
// stays; what is read after it is empty.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) take(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.off {
		r.err = fmt.Errorf("%s at offset %d: found %d bytes, wanted %d", what, r.off, len(r.b)-r.off, n)
		return nil
	}
	out := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return out
}

func (r *reader) u16(what string) uint16 {
	if b := r.take(2, what); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32(what string) uint32 {
	if b := r.take(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, a...)
	}
}

func (r *reader) zero(n int, what string) {
	at := r.off
	for i, x := range r.take(n, what) {
		if x != 0 {
			r.fail("%s: the reserved byte at offset %d is %#02x, wanted 0", what, at+i, x)
			return
		}
	}
}

// ParseQuote reads exactly one quote. After a quote of version 4 or 5 zero bytes
// may follow (quoting services pad); nothing else may.
func ParseQuote(b []byte) (*Quote, error) {
	if len(b) > MaxQuote {
		return nil, fmt.Errorf("dcap: quote: found %d bytes, at most %d are taken", len(b), MaxQuote)
	}
	q, err := parseQuote(b)
	if err != nil {
		return nil, fmt.Errorf("dcap: quote: %w", err)
	}
	return q, nil
}

func parseQuote(b []byte) (*Quote, error) {
	r := &reader{b: b}
	q := &Quote{}
	q.header(r)
	if r.err != nil {
		return nil, r.err
	}
	q.body(r)
	q.Signed = b[:r.off]
	q.signature(r)
	if r.err != nil {
		return nil, r.err
	}
	rest := b[r.off:]
	if len(rest) > 0 && q.Version == 3 {
		return nil, fmt.Errorf("%d bytes follow the quote", len(rest))
	}
	if len(rest) > maxPadding {
		return nil, fmt.Errorf("%d bytes follow the quote, at most %d zeros are taken", len(rest), maxPadding)
	}
	for i, x := range rest {
		if x != 0 {
			return nil, fmt.Errorf("the byte %#02x at offset %d follows the quote, wanted nothing or zeros", x, r.off+i)
		}
	}
	q.Padding = len(rest)
	return q, nil
}

func (q *Quote) header(r *reader) {
	q.Version = r.u16("version")
	if r.err == nil && (q.Version < 3 || q.Version > 5) {
		r.fail("found version %d, wanted 3, 4 or 5", q.Version)
	}
	if kind := r.u16("attestation key type"); r.err == nil && kind != 2 {
		r.fail("found attestation key type %d, wanted 2 (ECDSA P-256)", kind)
	}
	tee := r.u32("TEE type")
	switch {
	case r.err != nil:
	case q.Version == 3 && tee != 0:
		r.fail("found %#x in the reserved bytes at offset 4, wanted 0", tee)
	case tee == teeTDX:
		q.TDX = true
	case tee != teeSGX:
		r.fail("found TEE type %#x, wanted 0 (SGX) or 0x81 (TDX)", tee)
	}
	q.QESVN, q.PCESVN = r.u16("QE SVN"), r.u16("PCE SVN")
	q.VendorID = r.take(16, "QE vendor id")
	if r.err == nil && [16]byte(q.VendorID) != intelQE {
		r.fail("found QE vendor id %x, wanted Intel's %x", q.VendorID, intelQE)
	}
	q.UserData = r.take(20, "user data")
}

func (q *Quote) body(r *reader) {
	size := uint32(enclaveReportSize)
	q.BodyType = BodySGX
	if q.TDX {
		q.BodyType, size = BodyTDX10, td10Size
	}
	if q.Version == 5 {
		q.BodyType, size = r.u16("body type"), r.u32("body size")
	}
	q.at.body = r.off
	switch want := map[uint16]uint32{BodySGX: enclaveReportSize, BodyTDX10: td10Size, BodyTDX15: td15Size}[q.BodyType]; {
	case r.err != nil:
		return
	case want == 0:
		r.fail("found body type %d, wanted 1 (SGX), 2 (TDX 1.0) or 3 (TDX 1.5)", q.BodyType)
		return
	case (q.BodyType != BodySGX) != q.TDX:
		r.fail("found body type %d, and the TEE type is for the other TEE", q.BodyType)
		return
	case size != want:
		r.fail("found a body of %d bytes, wanted %d for body type %d", size, want, q.BodyType)
		return
	}
	if q.BodyType == BodySGX {
		q.Enclave = r.enclave("report body")
		return
	}
	q.TD = r.td(q.BodyType == BodyTDX15)
}

func (r *reader) enclave(what string) *EnclaveReport {
	e := &EnclaveReport{}
	e.CPUSVN = r.take(16, what)
	e.MiscSelect = r.u32(what)
	if b := r.take(1, what); b != nil {
		e.CET = b[0]
	}
	r.zero(11, what)
	e.ExtProdID = r.take(16, what)
	e.Attributes = r.take(16, what)
	e.MRENCLAVE = r.take(32, what)
	r.zero(32, what)
	e.MRSIGNER = r.take(32, what)
	r.zero(32, what)
	e.ConfigID = r.take(64, what)
	e.ISVProdID, e.ISVSVN, e.ConfigSVN = r.u16(what), r.u16(what), r.u16(what)
	r.zero(42, what)
	e.FamilyID = r.take(16, what)
	e.ReportData = r.take(64, what)
	return e
}

func (r *reader) td(v15 bool) *TDReport {
	const what = "TD report"
	t := &TDReport{}
	t.TEETCBSVN = r.take(16, what)
	t.MRSEAM, t.MRSignerSEAM = r.take(48, what), r.take(48, what)
	t.SEAMAttributes, t.TDAttributes, t.XFAM = r.take(8, what), r.take(8, what), r.take(8, what)
	t.MRTD, t.MRConfigID, t.MROwner, t.MROwnerConfig = r.take(48, what), r.take(48, what), r.take(48, what), r.take(48, what)
	for i := range t.RTMR {
		t.RTMR[i] = r.take(48, what)
	}
	t.ReportData = r.take(64, what)
	if v15 {
		t.TEETCBSVN2, t.MRServiceTD = r.take(16, what), r.take(48, what)
	}
	return t
}

// signature reads the signature data: its length, the quote's signature, the
// attestation key and what certifies that. Versions 4 and 5 wrap the last part in
// certification data of type 6.
func (q *Quote) signature(r *reader) {
	size := r.u32("signature data length")
	q.at.sig = r.off
	if r.err == nil && uint64(size) > uint64(len(r.b)-r.off) {
		r.fail("the signature data at offset %d: found %d bytes, its length says %d", r.off, len(r.b)-r.off, size)
	}
	if r.err != nil {
		return
	}
	end := r.off + int(size)
	in := &reader{b: r.b[:end], off: r.off}
	q.Signature, q.AK = in.take(64, "signature"), in.take(64, "attestation key")
	if q.Version > 3 {
		kind, n := in.u16("certification data type"), in.u32("certification data length")
		if in.err == nil && kind != 6 {
			in.err = certType(kind, "6 (QE report certification data)")
		}
		if in.err == nil && int64(n) != int64(end-in.off) {
			in.fail("the QE report certification data is %d bytes, its length says %d", end-in.off, n)
		}
	}
	q.at.qe = in.off
	q.QERaw = in.take(enclaveReportSize, "QE report")
	q.QESignature = in.take(64, "QE report signature")
	q.QEAuth = in.take(int(in.u16("QE authentication data length")), "QE authentication data")
	q.at.cert = in.off
	kind, n := in.u16("certification data type"), in.u32("certification data length")
	if in.err == nil && kind != 5 {
		in.err = certType(kind, "5 (PCK chain)")
	}
	if in.err == nil && (n > maxCertData || int(n) != end-in.off) {
		in.fail("the certification data is %d bytes, its length says %d, at most %d are taken", end-in.off, n, maxCertData)
	}
	q.CertData = in.take(int(n), "certification data")
	if in.err == nil {
		report := &reader{b: q.QERaw}
		q.QEReport = report.enclave("QE report")
		in.err = report.err
	}
	r.off, r.err = end, in.err
}

func certType(kind uint16, wanted string) error {
	names := map[uint16]string{4: "a PCK leaf certificate alone", 5: "a PCK chain", 6: "QE report certification data", 7: "a platform manifest"}
	if kind >= 1 && kind <= 3 {
		return fmt.Errorf("certification data type %d: %w", kind, ErrNoPCKChain)
	}
	name, ok := names[kind]
	if !ok {
		name = "unknown"
	}
	return fmt.Errorf("certification data type %d (%s), wanted type %s", kind, name, wanted)
}
