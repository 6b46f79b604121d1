package p11

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// null is a length that says that there is no array.
const null = 0xffffffff

// An Encoder writes a message: call (32 bits), signature with its length before it (32
// bits), and the fields that the signature names, in its order.
type Encoder struct {
	b    []byte
	call Call
	left string // of the signature
	err  error
}

// NewEncoder begins a message.
func NewEncoder(c Call, k Kind) *Encoder {
	sig, ok := c.signature(k)
	e := &Encoder{call: c, left: sig}
	if !ok {
		e.err = fmt.Errorf("%w: no message of the call %d", ErrMalformed, c)
		return e
	}
	e.uint32(uint32(c))
	e.uint32(uint32(len(sig)))
	e.b = append(e.b, sig...)
	return e
}

// Message gives the message once every field is written. The caller zeroes it where
// it holds a PIN.
func (e *Encoder) Message() ([]byte, error) {
	if e.err == nil && e.left != "" {
		e.err = fmt.Errorf("%w: %s without its fields %q", ErrMalformed, e.call, e.left)
	}
	return e.b, e.err
}

func (e *Encoder) part(p string) bool {
	if e.err != nil {
		return false
	}
	rest, ok := strings.CutPrefix(e.left, p)
	if !ok {
		e.err = fmt.Errorf("%w: %s: wrote the field %q, wanted %q", ErrMalformed, e.call, p, e.left)
		return false
	}
	e.left = rest
	return true
}

func (e *Encoder) uint32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

func (e *Encoder) array(v []byte) {
	if v == nil {
		e.uint32(null)
		return
	}
	if len(v) > MaxBody {
		e.err = fmt.Errorf("%w: %d bytes", ErrTooLarge, len(v))
		return
	}
	e.uint32(uint32(len(v)))
	e.b = append(e.b, v...)
}

// Byte writes y.
func (e *Encoder) Byte(v byte) *Encoder {
	if e.part("y") {
		e.b = append(e.b, v)
	}
	return e
}

// Ulong writes u.
func (e *Encoder) Ulong(v uint64) *Encoder {
	if e.part("u") {
		e.b = binary.BigEndian.AppendUint64(e.b, v)
	}
	return e
}

// Version writes v.
func (e *Encoder) Version(major, minor byte) *Encoder {
	if e.part("v") {
		e.b = append(e.b, major, minor)
	}
	return e
}

// Padded writes s: text in size bytes, with spaces after it. What does not fit is cut.
func (e *Encoder) Padded(text string, size int) *Encoder {
	if e.part("s") {
		text = text[:min(len(text), size)]
		e.array([]byte(text + strings.Repeat(" ", size-len(text))))
	}
	return e
}

// Text writes z.
func (e *Encoder) Text(text string) *Encoder {
	if e.part("z") {
		e.array([]byte(text))
	}
	return e
}

// Bytes writes ay; nil is NULL.
func (e *Encoder) Bytes(v []byte) *Encoder {
	if e.part("ay") {
		e.b = append(e.b, 1)
		e.array(v)
	}
	return e
}

// Length writes ay that is a length alone: how much room it takes.
func (e *Encoder) Length(n uint32) *Encoder {
	if e.part("ay") {
		e.b = append(e.b, 0)
		e.uint32(n)
	}
	return e
}

// Ulongs writes au.
func (e *Encoder) Ulongs(v []uint64) *Encoder {
	if e.part("au") {
		e.b = append(e.b, 1)
		e.uint32(uint32(len(v)))
		for _, x := range v {
			e.b = binary.BigEndian.AppendUint64(e.b, x)
		}
	}
	return e
}

// Count writes au that is a count alone.
func (e *Encoder) Count(n uint32) *Encoder {
	if e.part("au") {
		e.b = append(e.b, 0)
		e.uint32(n)
	}
	return e
}

// RoomBytes writes fy: the room, in bytes, for an answer; 0 asks for the length.
func (e *Encoder) RoomBytes(n uint32) *Encoder {
	if e.part("fy") {
		e.uint32(n)
	}
	return e
}

// RoomUlongs writes fu: the room, in numbers; 0 asks for the count.
func (e *Encoder) RoomUlongs(n uint32) *Encoder {
	if e.part("fu") {
		e.uint32(n)
	}
	return e
}

// Mechanism writes M in the form of v. Error: ErrMalformed for one that has a
// parameter, none of which is written yet.
func (e *Encoder) Mechanism(m uint32, v Version) *Encoder {
	if !e.part("M") {
		return e
	}
	if !parameterless(m) {
		e.err = fmt.Errorf("%w: the mechanism %#x is not known to have no parameter", ErrMalformed, m)
		return e
	}
	e.uint32(m)
	if v < Version2 {
		e.uint32(null)
	}
	return e
}

// Attributes writes aA.
func (e *Encoder) Attributes(list []Attribute) *Encoder {
	if e.part("aA") {
		e.uint32(uint32(len(list)))
		for _, a := range list {
			e.attribute(a)
		}
	}
	return e
}

// RoomAttributes writes fA: types, and the room for the value of each, in bytes.
func (e *Encoder) RoomAttributes(list []Room) *Encoder {
	if e.part("fA") {
		e.uint32(uint32(len(list)))
		for _, a := range list {
			e.uint32(a.Type)
			e.uint32(a.Size)
		}
	}
	return e
}

func (e *Encoder) attribute(a Attribute) {
	e.uint32(a.Type)
	if a.Unavailable {
		e.b = append(e.b, 0)
		return
	}
	e.b = append(e.b, 1)
	form := formOf(a.Type)
	if form == formAttributes || a.Value != nil && form.size() > 0 && len(a.Value) != form.size() || form == formUlongs && len(a.Value)%8 != 0 || len(a.Value) > MaxBody {
		e.err = fmt.Errorf("%w: the attribute %#x with a value of %d bytes", ErrMalformed, a.Type, len(a.Value))
		return
	}
	size := a.Length
	if a.Value != nil {
		size = uint32(len(a.Value))
	}
	e.uint32(size)
	switch {
	case form.size() > 0 && a.Value == nil:
		e.b = append(e.b, make([]byte, form.size())...)
	case form.size() > 0:
		e.b = append(e.b, a.Value...)
	case form == formUlongs:
		e.uint32(uint32(len(a.Value) / 8))
		e.b = append(e.b, a.Value...)
	default:
		e.array(a.Value)
	}
}
