// Package p11 speaks PKCS#11 over p11-kit's RPC: the wire form, for a client and for a
// server, and a small client that uses a key in a token. No module is loaded into this
// process: a child p11-kit has it, or a server behind a Unix socket.
//
// A client sends one byte, the highest Version it speaks, and the server answers one
// byte, the version of the connection. Then frames go in both directions; a frame
// holds a Message. Everything is big endian. The RPC neither encrypts nor
// authenticates: whoever sees the pipe or the socket sees PINs and data.
//
// Source: p11-kit's rpc-transport.c, rpc-message.c and rpc-server.c, 0.23.22 to 0.26.4,
// which is the only description that there is.
package p11

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The errors of the wire.
var (
	ErrMalformed = errors.New("p11: malformed")
	ErrTooLarge  = errors.New("p11: too large")
)

// Version is the RPC's.
type Version byte

// The versions. From Version2 on (p11-kit 0.25.6) a mechanism without a parameter is
// its number alone. A server of those releases reads that form, and a client of them
// writes it, also where the other side is older and the connection's version lower: so
// a client offers Version2 and writes by the version answered, and a server must read
// by the version offered.
const (
	Version0 Version = 0 // p11-kit up to 0.24.1: PKCS#11 2.40
	Version1 Version = 1 // 0.25.0: more calls, of PKCS#11 3.0
	Version2 Version = 2 // 0.25.6
)

// Bounds, in bytes.
const (
	MaxBody    = 16 << 20 // of a frame, whatever a caller allows
	maxOptions = 4 << 10
	frameSize  = 12
)

// Frame is a request or its answer, which has the same ID.
type Frame struct {
	ID uint32 // never 0
	// Options is the module's name in a request, and nothing in an answer.
	Options []byte
	Body    []byte // a Message
}

// AppendFrame appends: id, lengths of options and body (32 bits each), options, body.
// Error: ErrTooLarge.
func AppendFrame(b []byte, f Frame) ([]byte, error) {
	if len(f.Options) > maxOptions || len(f.Body) > MaxBody {
		return nil, fmt.Errorf("%w: a frame of %d and %d bytes, at most %d and %d", ErrTooLarge, len(f.Options), len(f.Body), maxOptions, MaxBody)
	}
	b = binary.BigEndian.AppendUint32(b, f.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Options)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Body)))
	return append(append(b, f.Options...), f.Body...), nil
}

// ReadFrame reads one with a body of at most most bytes (and MaxBody). Memory grows
// with what arrives, not with what was announced. Errors: ErrMalformed, ErrTooLarge,
// io.EOF before the first byte, io.ErrUnexpectedEOF after it, and r's.
func ReadFrame(r io.Reader, most int) (Frame, error) {
	var head [frameSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{ID: binary.BigEndian.Uint32(head[:])}
	options, body := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	if f.ID == 0 {
		return Frame{}, fmt.Errorf("%w: a frame with the id 0", ErrMalformed)
	}
	if options > maxOptions || body > uint32(min(most, MaxBody)) {
		return Frame{}, fmt.Errorf("%w: a frame of %d and %d bytes, at most %d and %d", ErrTooLarge, options, body, maxOptions, min(most, MaxBody))
	}
	all, err := io.ReadAll(io.LimitReader(r, int64(options)+int64(body)))
	if err != nil {
		return Frame{}, err
	}
	if len(all) != int(options+body) {
		return Frame{}, io.ErrUnexpectedEOF
	}
	f.Options, f.Body = all[:options:options], all[options:]
	return f, nil
}
