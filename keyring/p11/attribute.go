package p11

import "encoding/binary"

// Attribute is a CK_ATTRIBUTE. A CK_BBOOL is one byte, a CK_ULONG 8 bytes big endian,
// an array of them 8 bytes each, whatever the other side's machine has.
type Attribute struct {
	Type  uint32
	Value []byte // nil: not sent
	// Length is what the value takes in the other side's memory, in bytes.
	Length uint32
	// Unavailable: the object has no such attribute, does not give it out, or the room
	// was too small.
	Unavailable bool
}

// Room asks for an attribute, of at most Size bytes; 0 asks for its length.
type Room struct {
	Type uint32
	Size uint32
}

// Bool makes an attribute that is a CK_BBOOL.
func Bool(t uint32, v bool) Attribute {
	b := []byte{0}
	if v {
		b[0] = 1
	}
	return Attribute{Type: t, Value: b, Length: 1}
}

// Ulong makes an attribute that is a CK_ULONG.
func Ulong(t uint32, v uint64) Attribute {
	return Attribute{Type: t, Value: binary.BigEndian.AppendUint64(nil, v), Length: 8}
}

// Bytes makes an attribute of bytes or text.
func Bytes(t uint32, v []byte) Attribute {
	return Attribute{Type: t, Value: append([]byte{}, v...), Length: uint32(len(v))}
}

// Bool reads a CK_BBOOL; ok says whether it is one.
func (a Attribute) Bool() (v, ok bool) {
	if formOf(a.Type) != formByte || len(a.Value) != 1 || a.Value[0] > 1 {
		return false, false
	}
	return a.Value[0] == 1, true
}

// Ulong reads a CK_ULONG; ok says whether it is one.
func (a Attribute) Ulong() (v uint64, ok bool) {
	if formOf(a.Type) != formUlong || len(a.Value) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(a.Value), true
}

// form is how an attribute's value is written.
type form byte

const (
	formBytes form = iota // dates too: 8 bytes of text
	formByte
	formUlong
	formUlongs
	formAttributes
)

// size is the value's on the wire; 0: it says so itself.
func (f form) size() int {
	switch f {
	case formByte:
		return 1
	case formUlong:
		return 8
	}
	return 0
}

// Attribute types (PKCS#11 v3.1, table of CKA_ constants).
const (
	CKAClass       = 0x000
	CKAToken       = 0x001
	CKAPrivate     = 0x002
	CKALabel       = 0x003
	CKAKeyType     = 0x100
	CKAID          = 0x102
	CKASensitive   = 0x103
	CKAEncrypt     = 0x104
	CKADecrypt     = 0x105
	CKAWrap        = 0x106
	CKAUnwrap      = 0x107
	CKASign        = 0x108
	CKAVerify      = 0x10a
	CKADerive      = 0x10c
	CKAValueLen    = 0x161
	CKAExtractable = 0x162
)

// formOf sorts as p11-kit does: types that it does not know are bytes.
func formOf(t uint32) form {
	switch t {
	case CKAToken, CKAPrivate, 0x086 /* TRUSTED */, CKASensitive, CKAEncrypt, CKADecrypt, CKAWrap, CKAUnwrap, CKASign, 0x109, /* SIGN_RECOVER */
		CKAVerify, 0x10b /* VERIFY_RECOVER */, CKADerive, CKAExtractable, 0x163 /* LOCAL */, 0x164 /* NEVER_EXTRACTABLE */, 0x165, /* ALWAYS_SENSITIVE */
		0x170 /* MODIFIABLE */, 0x171 /* COPYABLE */, 0x200 /* SECONDARY_AUTH */, 0x202 /* ALWAYS_AUTHENTICATE */, 0x210, /* WRAP_WITH_TRUSTED */
		0x301 /* RESET_ON_INIT */, 0x302 /* HAS_RESET */, 0x405 /* COLOR */ :
		return formByte
	case CKAClass, 0x080 /* CERTIFICATE_TYPE */, 0x087 /* CERTIFICATE_CATEGORY */, 0x088 /* JAVA_MIDP_SECURITY_DOMAIN */, CKAKeyType, 0x121, /* MODULUS_BITS */
		0x133 /* PRIME_BITS */, 0x134 /* SUB_PRIME_BITS */, 0x160 /* VALUE_BITS */, CKAValueLen, 0x166 /* KEY_GEN_MECHANISM */, 0x201, /* AUTH_PIN_FLAGS */
		0x300 /* HW_FEATURE_TYPE */, 0x400, 0x401, 0x402, 0x403, 0x404 /* PIXEL_X to CHAR_COLUMNS */, 0x406 /* BITS_PER_PIXEL */, 0x500 /* MECHANISM_TYPE */ :
		return formUlong
	case 0x40000600: // ALLOWED_MECHANISMS
		return formUlongs
	case 0x40000211, 0x40000212, 0x40000213: // WRAP_TEMPLATE, UNWRAP_TEMPLATE, DERIVE_TEMPLATE
		return formAttributes
	}
	return formBytes
}
