package link

import (
	"encoding/binary"
	"fmt"
)

// A frame is an 8-byte header and a payload:
//
//	offset  size  what
//	     0     1  type
//	     1     3  payload length, big endian, at most MaxPayload
//	     4     4  stream id, big endian, never 0
//
// Streams opened by the guest have odd ids, those opened by the host even ones;
// each side's ids grow by exactly 2.
const (
	headerSize = 8

	// MaxPayload is the largest payload of a frame, in bytes: with its header it
	// fills 64 KiB, twice what a virtio-serial port takes at once. A few bytes more
	// would cost another exit of the virtual machine.
	MaxPayload = 64<<10 - headerSize
	// MaxParams is the largest payload of an open frame: one byte of service and
	// its parameters.
	MaxParams = 4 << 10
	// MaxReason is the longest text of a reset frame, in bytes.
	MaxReason = 512
	// MaxStreams is how many streams may be open at once in a session, both
	// sides together (THREATS T28): MaxConns of clients, and the Keep's own.
	MaxStreams = MaxConns + 128
	// MaxConns is how many connections of clients a Keep carries at once.
	MaxConns = 1024
	// InitialWindow is how many bytes a sender may send on a new stream before
	// the receiver grants more.
	InitialWindow = 64 << 10
	// MaxWindow bounds what a receiver ever grants at once.
	MaxWindow = 4 << 20
)

type frameType uint8

const (
	frameOpen   frameType = 1 // payload: service (1), parameters (0 to MaxParams-1)
	frameData   frameType = 2 // payload: 1 to MaxPayload bytes, within the window
	frameCredit frameType = 3 // payload: u32 big endian, bytes more that may be sent
	frameFin    frameType = 4 // payload: none; the sender sends no more data
	frameReset  frameType = 5 // payload: code (1), text (0 to MaxReason); both directions end
)

type header struct {
	kind   frameType
	length int
	stream uint32
}

// A ProtocolError says that the other side broke a rule of the link. The session
// is over.
type ProtocolError struct{ What string }

func (e *ProtocolError) Error() string { return "link: the other side broke the protocol: " + e.What }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{What: fmt.Sprintf(format, args...)}
}

// parseHeader decodes and checks a frame header against the bounds of its type.
func parseHeader(b *[headerSize]byte) (header, error) {
	h := header{
		kind:   frameType(b[0]),
		length: int(b[1])<<16 | int(b[2])<<8 | int(b[3]),
		stream: binary.BigEndian.Uint32(b[4:]),
	}
	if h.stream == 0 {
		return h, protocolErrorf("stream id 0 in a frame of type %d", h.kind)
	}
	least, most := 0, 0
	switch h.kind {
	case frameOpen:
		least, most = 1, MaxParams
	case frameData:
		least, most = 1, MaxPayload
	case frameCredit:
		least, most = 4, 4
	case frameFin:
	case frameReset:
		least, most = 1, 1+MaxReason
	default:
		return h, protocolErrorf("unknown frame type %d", h.kind)
	}
	if h.length < least || h.length > most {
		return h, protocolErrorf("frame type %d with %d bytes, wanted %d to %d", h.kind, h.length, least, most)
	}
	return h, nil
}

func appendHeader(b []byte, kind frameType, length int, stream uint32) []byte {
	b = append(b, byte(kind), byte(length>>16), byte(length>>8), byte(length))
	return binary.BigEndian.AppendUint32(b, stream)
}
