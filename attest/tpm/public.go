package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
)

// Attributes are a TPMA_OBJECT (TPM 2.0 Library, Part 2, section 8.3).
type Attributes uint32

// The attributes that make an attestation key.
const (
	FixedTPM            Attributes = 1 << 1
	FixedParent         Attributes = 1 << 4
	SensitiveDataOrigin Attributes = 1 << 5
	Restricted          Attributes = 1 << 16
	Decrypt             Attributes = 1 << 17
	Sign                Attributes = 1 << 18
)

// knownAttributes are the bits of a TPMA_OBJECT that have a meaning.
const knownAttributes Attributes = 0x000f0ff6

// attestation is what an attestation key must have: it cannot leave its TPM, was made
// there, and signs nothing from outside that looks like a TPM's own structure.
const attestation = FixedTPM | FixedParent | SensitiveDataOrigin | Restricted | Sign

// MaxPublic bounds a TPMT_PUBLIC, in bytes.
const MaxPublic = 64 + maxDigest + maxKey

// Public is a TPMT_PUBLIC of an RSA or ECC key (TPM 2.0 Library, Part 2, section 12.2.4).
type Public struct {
	Type       Algorithm // RSA or ECC
	NameAlg    Algorithm
	Attributes Attributes
	AuthPolicy []byte
	Scheme     Algorithm // Null: the key may sign with any
	SchemeHash Algorithm
	Key        crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	raw        []byte
}

// ParsePublic reads exactly one TPMT_PUBLIC.
func ParsePublic(b []byte) (*Public, error) {
	if len(b) > MaxPublic {
		return nil, fmt.Errorf("tpm: public: found %d bytes, at most %d", len(b), MaxPublic)
	}
	r := &reader{b: b, big: true}
	p := &Public{Type: Algorithm(r.u16("type")), NameAlg: Algorithm(r.u16("nameAlg")),
		Attributes: Attributes(r.u32("objectAttributes")), raw: b}
	if r.err == nil && p.Attributes&^knownAttributes != 0 {
		r.fail("objectAttributes: the reserved bits %#08x are set", uint32(p.Attributes&^knownAttributes))
	}
	p.AuthPolicy = r.sized(maxDigest, "authPolicy")
	if sym := Algorithm(r.u16("symmetric")); sym != AlgNull { // a parent key's
		r.u16("symmetric.keyBits")
		r.u16("symmetric.mode")
	}
	p.Scheme = Algorithm(r.u16("scheme"))
	switch p.Scheme {
	case AlgNull:
	case AlgRSASSA, AlgRSAPSS, AlgECDSA:
		p.SchemeHash = Algorithm(r.u16("scheme.hashAlg"))
	default:
		r.fail("scheme: found %s, wanted null, rsassa, rsapss or ecdsa", p.Scheme)
	}
	switch p.Type {
	case AlgRSA:
		p.Key = r.rsaKey()
	case AlgECC:
		p.Key = r.eccKey()
	default:
		r.fail("type: found %s, wanted rsa or ecc", p.Type)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("tpm: public: %w", err)
	}
	return p, nil
}

func (r *reader) rsaKey() crypto.PublicKey {
	bits := int(r.u16("keyBits"))
	e := r.u32("exponent")
	n := r.sized(maxKey, "unique")
	if r.err != nil {
		return nil
	}
	if e == 0 {
		e = 65537 // the specification's default
	}
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e)}
	if k.N.BitLen() != bits || len(n)*8 != bits {
		r.fail("unique: found a modulus of %d bits in %d bytes, wanted %d bits", k.N.BitLen(), len(n), bits)
		return nil
	}
	if err := checkKey(k); err != nil {
		r.fail("%w", err)
	}
	return k
}

func (r *reader) eccKey() crypto.PublicKey {
	id := r.u16("curveID")
	if kdf := Algorithm(r.u16("kdf")); kdf != AlgNull {
		r.u16("kdf.hashAlg")
	}
	x, y := r.sized(66, "unique.x"), r.sized(66, "unique.y")
	if r.err != nil {
		return nil
	}
	var c elliptic.Curve
	switch id {
	case 3:
		c = elliptic.P256()
	case 4:
		c = elliptic.P384()
	case 5:
		c = elliptic.P521()
	default:
		r.fail("curveID: found %#04x, wanted P-256, P-384 or P-521", id)
		return nil
	}
	size := (c.Params().BitSize + 7) / 8
	if len(x) > size || len(y) > size {
		r.fail("unique: found a point of %d and %d bytes on %s", len(x), len(y), c.Params().Name)
		return nil
	}
	point := make([]byte, 1+2*size)
	point[0] = 4
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	k, err := ecdsa.ParseUncompressedPublicKey(c, point)
	if err != nil {
		r.fail("unique: %w", err)
		return nil
	}
	return k
}

// checkKey bounds what the verifier computes with.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8*maxKey {
			return fmt.Errorf("found an RSA key of %d bits, wanted 2048 to %d", n, 8*maxKey)
		}
		if k.E < 3 || k.E&1 == 0 || int64(k.E) > 1<<31-1 {
			return fmt.Errorf("found the RSA exponent %d, wanted an odd one of 3 to 2^31-1", k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("found a key on %s, wanted P-256, P-384 or P-521", k.Curve.Params().Name)
	}
	return fmt.Errorf("found a key of type %T, wanted RSA or ECDSA", key)
}

// parseSPKI reads a SubjectPublicKeyInfo in DER.
func parseSPKI(der []byte) (crypto.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("tpm: attestation key: %w", err)
	}
	if err := checkKey(k); err != nil {
		return nil, fmt.Errorf("tpm: attestation key: %w", err)
	}
	return k, nil
}

// Name is the key's TPM2B_NAME without the size: nameAlg and the hash of the public area.
func (p *Public) Name() ([]byte, error) {
	h, err := p.NameAlg.hash()
	if err != nil {
		return nil, fmt.Errorf("tpm: public: nameAlg: %w", err)
	}
	w := h.New()
	w.Write(p.raw)
	return w.Sum([]byte{byte(p.NameAlg >> 8), byte(p.NameAlg)}), nil
}

// IsAttestationKey says what keeps the key from being a restricted signing key that
// never leaves its TPM; nil: nothing.
func (p *Public) IsAttestationKey() error {
	switch missing := attestation &^ p.Attributes; {
	case missing != 0:
		return fmt.Errorf("tpm: public: found the attributes %#08x, wanted %#08x as well (fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign)", uint32(p.Attributes), uint32(missing))
	case p.Attributes&Decrypt != 0:
		return fmt.Errorf("tpm: public: found the attributes %#08x with decrypt, wanted a key that only signs", uint32(p.Attributes))
	}
	return nil
}
