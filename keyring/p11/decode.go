package p11

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Bounds of what a message may hold, in elements.
const (
	maxUlongs     = 4096
	maxAttributes = 256
)

// A Decoder reads the fields of a message in the order of its signature. The first
// error stays, and what is read after it is zero. What it gives out are parts of the
// message.
type Decoder struct {
	Call Call

	b    []byte
	left string
	err  error
}

// Decode begins to read a message. Error: ErrMalformed.
func Decode(message []byte, k Kind) (*Decoder, error) {
	d := &Decoder{b: message}
	d.Call = Call(d.uint32())
	sent := d.array()
	if d.err != nil {
		return nil, d.err
	}
	sig, ok := d.Call.signature(k)
	if !ok {
		return nil, fmt.Errorf("%w: found the call %d", ErrMalformed, uint32(d.Call))
	}
	if string(sent) != sig || sent == nil {
		return nil, fmt.Errorf("%w: %s: found the signature %.40q, wanted %q", ErrMalformed, d.Call, sent, sig)
	}
	d.left = sig
	return d, nil
}

// Done says whether everything was read, and was well formed.
func (d *Decoder) Done() error {
	if d.err == nil && (d.left != "" || len(d.b) > 0) {
		d.err = fmt.Errorf("%w: %s: %d bytes and the fields %q left", ErrMalformed, d.Call, len(d.b), d.left)
	}
	return d.err
}

func (d *Decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s: %s", ErrMalformed, d.Call, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *Decoder) part(p string) bool {
	if d.err != nil {
		return false
	}
	rest, ok := strings.CutPrefix(d.left, p)
	if !ok {
		d.fail("read the field %q, wanted %q", p, d.left)
		return false
	}
	d.left = rest
	return true
}

// take gives n bytes, or nil and an error.
func (d *Decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b) {
		d.fail("found %d bytes, wanted %d", len(d.b), n)
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *Decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *Decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *Decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// array gives bytes with their length before them; nil is NULL, or an error.
func (d *Decoder) array() []byte {
	n := d.uint32()
	if n == null || d.err != nil {
		return nil
	}
	if n > MaxBody {
		d.fail("found an array of %d bytes, at most %d", n, MaxBody)
		return nil
	}
	return d.take(int(n))
}

// flag reads the byte that says whether an array follows.
func (d *Decoder) flag() bool {
	v := d.byte()
	if v > 1 {
		d.fail("found the flag %d, wanted 0 or 1", v)
	}
	return v == 1
}

// Byte reads y.
func (d *Decoder) Byte() byte {
	if !d.part("y") {
		return 0
	}
	return d.byte()
}

// Ulong reads u.
func (d *Decoder) Ulong() uint64 {
	if !d.part("u") {
		return 0
	}
	return d.uint64()
}

// Version reads v.
func (d *Decoder) Version() (major, minor byte) {
	if !d.part("v") {
		return 0, 0
	}
	return d.byte(), d.byte()
}

// Padded reads s, which has size bytes, and takes the padding away (spaces; some
// modules pad with zeros).
func (d *Decoder) Padded(size int) string {
	if !d.part("s") {
		return ""
	}
	b := d.array()
	if d.err == nil && len(b) != size {
		d.fail("found a text of %d bytes, wanted %d", len(b), size)
		return ""
	}
	return strings.TrimRight(string(b), " \x00")
}

// Text reads z.
func (d *Decoder) Text() string {
	if !d.part("z") {
		return ""
	}
	return string(d.array())
}

// Bytes reads ay. value is nil for NULL; then length is how much room it takes, where
// the other side said so.
func (d *Decoder) Bytes() (value []byte, length uint32) {
	if !d.part("ay") {
		return nil, 0
	}
	if !d.flag() {
		return nil, d.uint32()
	}
	value = d.array()
	return value, uint32(len(value))
}

// Ulongs reads au. value is nil where there is a count alone.
func (d *Decoder) Ulongs() (value []uint64, count uint32) {
	if !d.part("au") {
		return nil, 0
	}
	with := d.flag()
	count = d.uint32()
	if d.err != nil || !with {
		return nil, count
	}
	if count > maxUlongs || int(count)*8 > len(d.b) {
		d.fail("found %d numbers in %d bytes, at most %d", count, len(d.b), maxUlongs)
		return nil, 0
	}
	value = make([]uint64, count)
	for i := range value {
		value[i] = d.uint64()
	}
	return value, count
}

// RoomBytes reads fy. From Version1 on null (0xffffffff) is a buffer of no bytes, and
// no query.
func (d *Decoder) RoomBytes() uint32 {
	if !d.part("fy") {
		return 0
	}
	return d.uint32()
}

// RoomUlongs reads fu.
func (d *Decoder) RoomUlongs() uint32 {
	if !d.part("fu") {
		return 0
	}
	return d.uint32()
}

// Mechanism reads M: offered is the version that the client offered. One that is not
// known to have no parameter is an error: none is read yet.
func (d *Decoder) Mechanism(offered Version) uint32 {
	if !d.part("M") {
		return 0
	}
	m := d.uint32()
	if d.err == nil && !parameterless(m) {
		d.fail("the mechanism %#x is not known to have no parameter", m)
		return 0
	}
	if offered < Version2 && d.array() != nil {
		d.fail("the mechanism %#x has a parameter", m)
	}
	return m
}

// Attributes reads aA, at most 256.
func (d *Decoder) Attributes() []Attribute {
	if !d.part("aA") {
		return nil
	}
	n := d.count(5)
	out := make([]Attribute, 0, n)
	for range n {
		a := d.attribute()
		if d.err != nil {
			return nil
		}
		out = append(out, a)
	}
	return out
}

// RoomAttributes reads fA, at most 256.
func (d *Decoder) RoomAttributes() []Room {
	if !d.part("fA") {
		return nil
	}
	n := d.count(8)
	out := make([]Room, 0, n)
	for range n {
		r := Room{Type: d.uint32(), Size: d.uint32()}
		if formOf(r.Type) == formAttributes && r.Size != 0 {
			d.fail("the attribute %#x holds attributes, which are not read", r.Type)
		}
		if d.err != nil {
			return nil
		}
		out = append(out, r)
	}
	return out
}

// count reads how many elements of at least size bytes there are.
func (d *Decoder) count(size int) int {
	n := d.uint32()
	if d.err == nil && (n > maxAttributes || int(n)*size > len(d.b)) {
		d.fail("found %d attributes in %d bytes, at most %d", n, len(d.b), maxAttributes)
		return 0
	}
	return int(n)
}

// attribute reads one. Attributes in an attribute (CKA_WRAP_TEMPLATE and the like) are
// refused: nothing here asks for them, and nesting is what such parsers die of.
func (d *Decoder) attribute() Attribute {
	a := Attribute{Type: d.uint32()}
	if !d.flag() {
		a.Unavailable = true
		return a
	}
	a.Length = d.uint32()
	form := formOf(a.Type)
	switch {
	case form == formAttributes:
		d.fail("the attribute %#x holds attributes, which are not read", a.Type)
	case form.size() > 0:
		// A CK_ULONG has 4 bytes where the other side has; on the wire always 8.
		a.Value = d.take(form.size())
		if a.Length != uint32(form.size()) && (form != formUlong || a.Length != 4) {
			if a.Length != 0 {
				d.fail("the attribute %#x says %d bytes, wanted %d", a.Type, a.Length, form.size())
			}
			a.Value = nil
		}
	case form == formUlongs:
		n := d.uint32()
		if n > maxUlongs {
			d.fail("the attribute %#x holds %d numbers, at most %d", a.Type, n, maxUlongs)
		}
		a.Value = d.take(int(n) * 8)
	default:
		a.Value = d.array()
		if a.Value != nil && uint32(len(a.Value)) != a.Length {
			d.fail("the attribute %#x says %d bytes and holds %d", a.Type, a.Length, len(a.Value))
		}
	}
	return a
}
