package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// Service names what a stream is for. Numbers are part of the wire form.
type Service uint8

// Services that the guest opens; the host serves them.
const (
	ServiceWorkload  Service = 1  // no parameters. Host: Offer record, then config and layers back to back
	ServiceStdin     Service = 2  // host: bytes until its end
	ServiceStdout    Service = 3  // guest: bytes
	ServiceStderr    Service = 4  // guest: bytes
	ServiceDial      Service = 5  // parameters: PortRequest. Host: PortReply record, then bytes both ways
	ServiceListen    Service = 6  // parameters: PortRequest. Host: PortReply record; end = closed
	ServiceReport    Service = 8  // guest: 64 bytes of report data a record; host: ReportReply record each
	ServiceDeriveKey Service = 9  // guest: the request of the secure processor (32 bytes on SNP); host: KeyReply
	ServiceBlobs     Service = 10 // parameters: BlobRequest. Host: BlobReply record, then bytes for get; guest: bytes for put
	ServiceLog       Service = 11 // guest: LogLine records
	ServiceExit      Service = 12 // guest: one Exit record
	ServiceDir       Service = 15 // parameters: PortRequest (index of the host folder); then the protocol of engine/vfs
	ServiceSteward   Service = 16 // no parameters. Host: PortReply record, then bytes both ways with the configuration's Steward
)

// Services that the host opens; the guest serves them.
const (
	ServiceConn     Service = 7  // parameters: Conn; bytes both ways: a connection that a listener accepted
	ServiceStop     Service = 13 // parameters: none. The Keep is to end soon
	ServiceEvidence Service = 14 // parameters: EvidenceRequest. Guest: EvidenceReply record
	ServiceSeal     Service = 17 // of the built-in sealer alone. Host: one SealRequest record. Guest: SealReply record
)

// Bounds of records, in bytes.
const (
	MaxRecord       = 64 << 10
	MaxOfferRecord  = 1 << 20
	MaxReportRecord = 64 << 10
)

// Offer opens the workload stream: the manifest whose hash is the workload
// digest, and the host's own ceilings (0: none), which are no part of it.
type Offer struct {
	Manifest  []byte `cbor:"1,keyasint"`
	MaxMemory uint64 `cbor:"2,keyasint,omitempty"` // bytes
	MaxCPU    uint64 `cbor:"3,keyasint,omitempty"` // milliseconds
	TEE       string `cbor:"4,keyasint,omitempty"` // what --tee said, for messages only
	Verbose   bool   `cbor:"5,keyasint,omitempty"`
	Weak      bool   `cbor:"6,keyasint,omitempty"` // run although the sandbox cannot be applied (sim alone)
	NoCache   bool   `cbor:"7,keyasint,omitempty"`
	// Arguments and variables (NAME=VALUE) beside the measured ones. The warden
	// refuses what the configuration does not leave to the host.
	Args []string `cbor:"8,keyasint,omitempty"`
	Env  []string `cbor:"9,keyasint,omitempty"`
	// Terminals says behind which of stdin, stdout and stderr (bits 0 to 2) a
	// person sits: the host's word, and no more than a manner of speaking.
	Terminals uint8 `cbor:"10,keyasint,omitempty"`
	// Signatures are what stands beside the workload, for its Steward and its peers, at
	// most 8 of 4 KiB each (steward/protocol): the warden passes them on and believes none.
	Signatures [][]byte `cbor:"11,keyasint,omitempty"`
	// Role is which of the configuration's roles the Keep runs in: the host's choice, which
	// the warden shows in its evidence.
	Role string `cbor:"12,keyasint,omitempty"`
}

// PortRequest names a descriptor of the configuration by its position in files
// (or in host_dirs). The host looks up what it declares.
type PortRequest struct {
	Index uint32 `cbor:"1,keyasint"`
}

// PortReply answers a dial or a listen. Addr is the address really used.
type PortReply struct {
	OK    bool   `cbor:"1,keyasint"`
	Addr  string `cbor:"2,keyasint,omitempty"`
	Error string `cbor:"3,keyasint,omitempty"`
	Hint  string `cbor:"4,keyasint,omitempty"`
}

// Conn says which listener accepted a connection, and from where.
type Conn struct {
	Index uint32 `cbor:"1,keyasint"`
	Peer  string `cbor:"2,keyasint,omitempty"`
}

// ReportReply is the secure processor's answer. Busy asks to try again later.
type ReportReply struct {
	Report []byte `cbor:"1,keyasint,omitempty"`
	Certs  []byte `cbor:"2,keyasint,omitempty"`
	Busy   bool   `cbor:"3,keyasint,omitempty"`
	Error  string `cbor:"4,keyasint,omitempty"`
}

// KeyReply carries a derived key of 32 bytes.
type KeyReply struct {
	Key   []byte `cbor:"1,keyasint,omitempty"`
	Error string `cbor:"2,keyasint,omitempty"`
}

// BlobOp is what is done to a blob of the host's untrusted storage.
type BlobOp uint8

// The operations.
const (
	BlobGet    BlobOp = 1
	BlobPut    BlobOp = 2 // replaces atomically once Size bytes came
	BlobDelete BlobOp = 3
)

// MaxBlob bounds a blob, in bytes.
const MaxBlob = 1 << 30

// BlobRequest names a blob: 1 to 128 characters of a-z, 0-9, '-' and '.', not
// beginning with '.'. Size is for a put.
type BlobRequest struct {
	Op   BlobOp `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	Size uint64 `cbor:"3,keyasint,omitempty"`
}

// BlobReply answers it; for a put it comes after the bytes.
type BlobReply struct {
	OK    bool   `cbor:"1,keyasint"`
	Size  uint64 `cbor:"2,keyasint,omitempty"`
	Error string `cbor:"3,keyasint,omitempty"`
}

// ValidBlobName says whether a name keeps the rule of BlobRequest.
func ValidBlobName(s string) bool {
	if len(s) == 0 || len(s) > 128 || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// LogLine is one line of the warden's log. Level 0 is said to the user, 1 only
// with --verbose.
type LogLine struct {
	Level uint8  `cbor:"1,keyasint,omitempty"`
	Text  string `cbor:"2,keyasint"`
}

// ExitKind says how a workload ended, or why it never ran.
type ExitKind uint8

// The ways to end.
const (
	ExitStatus   ExitKind = 1 // by itself, with Status
	ExitTrap     ExitKind = 2 // the engine stopped it: out of bounds, unreachable, …
	ExitLimit    ExitKind = 3 // a limit ended it
	ExitModule   ExitKind = 4 // the module cannot be run
	ExitRefused  ExitKind = 5 // the warden refuses: what it was given is not what it was launched for
	ExitFailed   ExitKind = 6 // something needed could not be had (a peer, a listener, a report)
	ExitStopped  ExitKind = 7 // it was asked to stop
	ExitConfig   ExitKind = 8 // the configuration cannot be honoured
	exitKindLast          = ExitConfig
)

// Exit is the warden's last word.
type Exit struct {
	Kind   ExitKind `cbor:"1,keyasint"`
	Status uint32   `cbor:"2,keyasint,omitempty"`
	Text   string   `cbor:"3,keyasint,omitempty"`
	Hint   string   `cbor:"4,keyasint,omitempty"`
}

// Check refuses what no warden of ours says.
func (e Exit) Check() error {
	if e.Kind < ExitStatus || e.Kind > exitKindLast {
		return protocolErrorf("unknown way to end %d", e.Kind)
	}
	return nil
}

// EvidenceRequest asks for evidence about the Keep. Nonce is absent or 8 to 64
// bytes.
type EvidenceRequest struct {
	Nonce []byte `cbor:"1,keyasint,omitempty"`
}

// EvidenceReply carries a CMW collection (attest/evidence).
type EvidenceReply struct {
	Evidence []byte `cbor:"1,keyasint,omitempty"`
	Error    string `cbor:"2,keyasint,omitempty"`
}

// SealOp is what is asked of the built-in sealer.
type SealOp uint8

// The operations.
const (
	OpSeal SealOp = 1 // Data is plaintext, at most MaxSealPlain bytes
	OpOpen SealOp = 2 // Data is what it gave for OpSeal, at most MaxSealed bytes
)

// Bounds of what is sealed, in bytes.
const (
	MaxSealPlain  = 2048
	MaxSealed     = MaxSealPlain + 128
	MaxSealAAD    = 1024
	MaxSealRecord = MaxSealed + MaxSealAAD + 64
)

// SealRequest asks to seal or to open. AAD is bound, and not hidden.
type SealRequest struct {
	Op   SealOp `cbor:"1,keyasint"`
	Data []byte `cbor:"2,keyasint"`
	AAD  []byte `cbor:"3,keyasint,omitempty"`
}

// Check refuses what is over its bound.
func (r SealRequest) Check() error {
	most := MaxSealPlain
	switch r.Op {
	case OpSeal:
	case OpOpen:
		most = MaxSealed
	default:
		return protocolErrorf("unknown sealer operation %d", r.Op)
	}
	if len(r.Data) == 0 || len(r.Data) > most || len(r.AAD) > MaxSealAAD {
		return protocolErrorf("a sealer's request with %d bytes and %d of AAD, wanted 1 to %d and at most %d", len(r.Data), len(r.AAD), most, MaxSealAAD)
	}
	return nil
}

// SealReply answers it.
type SealReply struct {
	Data  []byte `cbor:"1,keyasint,omitempty"`
	Error string `cbor:"2,keyasint,omitempty"`
}

// Marshal encodes a message of this file.
func Marshal(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic("link: a message of our own does not encode: " + err.Error()) // types are fixed at compile time
	}
	return b
}

// Unmarshal decodes exactly one message: no trailing bytes, no duplicate or
// unknown keys, nothing nested beyond what a message is.
func Unmarshal(b []byte, v any) error {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  1024,
		MaxMapPairs:       32,
	}.DecMode()
	if err != nil {
		return err
	}
	if err := mode.Unmarshal(b, v); err != nil {
		return protocolErrorf("a message does not decode: %v", err)
	}
	return nil
}

// WriteRecord sends one message: its length (u32, big endian) and its bytes.
func WriteRecord(w io.Writer, v any) error { return WriteRaw(w, Marshal(v)) }

// WriteRaw sends one record of bytes that are no CBOR message.
func WriteRaw(w io.Writer, p []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(p)), uint32(len(p)))
	_, err := w.Write(append(b, p...))
	return err
}

// ReadRaw reads one record of at most limit bytes; io.EOF is a clean end before
// a record.
func ReadRaw(r io.Reader, limit int) ([]byte, error) {
	var lb [4]byte
	if _, err := io.ReadFull(r, lb[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(lb[:])
	if uint64(n) > uint64(limit) {
		return nil, protocolErrorf("a record of %d bytes, at most %d", n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("link: a record of %d bytes: %w", n, err)
	}
	return b, nil
}

// ReadRecord reads one message of at most limit bytes into v.
func ReadRecord(r io.Reader, limit int, v any) error {
	b, err := ReadRaw(r, limit)
	if err != nil {
		return err
	}
	return Unmarshal(b, v)
}
