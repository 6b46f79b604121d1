package tpm

import "fmt"

// reader takes a structure apart from the front. The first read past the end sets
// err; all later ones give nothing.
type reader struct {
	b   []byte
	at  int
	err error
	big bool // big endian, as TPM structures are; event logs are little endian
}

func (r *reader) fail(form string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(form, a...)
	}
}

// take gives the next n bytes, not copied.
func (r *reader) take(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.at {
		r.fail("%s: found %d bytes at offset %d, wanted %d", what, len(r.b)-r.at, r.at, n)
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at : r.at]
}

// number reads n bytes as an unsigned number; 0 after an error.
func (r *reader) number(n int, what string) uint64 {
	var v uint64
	for i, x := range r.take(n, what) {
		if r.big {
			v = v<<8 | uint64(x)
		} else {
			v |= uint64(x) << (8 * i)
		}
	}
	return v
}

func (r *reader) u8(what string) uint8   { return uint8(r.number(1, what)) }
func (r *reader) u16(what string) uint16 { return uint16(r.number(2, what)) }
func (r *reader) u32(what string) uint32 { return uint32(r.number(4, what)) }
func (r *reader) u64(what string) uint64 { return r.number(8, what) }

// sized reads a TPM2B: a length of two bytes and at most limit bytes.
func (r *reader) sized(limit int, what string) []byte {
	n := int(r.u16(what))
	if r.err == nil && n > limit {
		r.fail("%s: found a size of %d bytes, at most %d", what, n, limit)
	}
	return r.take(n, what)
}

// end is the reader's error, or one about trailing bytes.
func (r *reader) end() error {
	if r.err == nil && r.at != len(r.b) {
		r.fail("found %d bytes after the end, at offset %d", len(r.b)-r.at, r.at)
	}
	return r.err
}
