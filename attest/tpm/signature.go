package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// maxKey bounds an RSA modulus or signature: 4,096 bits.
const maxKey = 512

// MaxSignature bounds a TPMT_SIGNATURE, in bytes.
const MaxSignature = 6 + maxKey

// Signature is a TPMT_SIGNATURE (TPM 2.0 Library, Part 2, section 11.3.4).
type Signature struct {
	Scheme Algorithm // RSASSA, RSAPSS or ECDSA
	Hash   Algorithm // SHA256, SHA384 or SHA512
	RSA    []byte    // RSASSA, RSAPSS
	R, S   []byte    // ECDSA, big endian, at most 66 bytes each
}

// ParseSignature reads exactly one TPMT_SIGNATURE. Schemes with SHA-1, and others
// than RSASSA, RSAPSS and ECDSA, are refused.
func ParseSignature(b []byte) (*Signature, error) {
	if len(b) > MaxSignature {
		return nil, fmt.Errorf("tpm: signature: found %d bytes, at most %d", len(b), MaxSignature)
	}
	r := &reader{b: b, big: true}
	s := &Signature{Scheme: Algorithm(r.u16("sigAlg")), Hash: Algorithm(r.u16("hash"))}
	if r.err == nil {
		if _, err := s.Hash.hash(); err != nil {
			r.fail("%w", err)
		}
	}
	switch s.Scheme {
	case AlgRSASSA, AlgRSAPSS:
		s.RSA = r.sized(maxKey, "sig")
	case AlgECDSA:
		s.R = r.sized(66, "signatureR")
		s.S = r.sized(66, "signatureS")
	default:
		r.fail("sigAlg: found %s, wanted rsassa, rsapss or ecdsa", s.Scheme)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("tpm: signature: %w", err)
	}
	return s, nil
}

// Encode gives the TPMT_SIGNATURE's bytes.
func (s *Signature) Encode() []byte {
	out := []byte{byte(s.Scheme >> 8), byte(s.Scheme), byte(s.Hash >> 8), byte(s.Hash)}
	parts := [][]byte{s.RSA}
	if s.Scheme == AlgECDSA {
		parts = [][]byte{s.R, s.S}
	}
	for _, p := range parts {
		out = append(append(out, byte(len(p)>>8), byte(len(p))), p...)
	}
	return out
}

// Verify says whether key signed message.
func (s *Signature) Verify(message []byte, key crypto.PublicKey) error {
	h, err := s.Hash.hash()
	if err != nil {
		return fmt.Errorf("tpm: signature: %w", err)
	}
	w := h.New()
	w.Write(message)
	digest := w.Sum(nil)
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch s.Scheme {
		case AlgRSASSA:
			err = rsa.VerifyPKCS1v15(k, h, digest, s.RSA)
		case AlgRSAPSS:
			// A TPM's salt is as long as fits, or as the digest (FIPS mode).
			err = rsa.VerifyPSS(k, h, digest, s.RSA, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		default:
			return fmt.Errorf("tpm: signature: found the scheme %s for an RSA key", s.Scheme)
		}
		if err != nil {
			return fmt.Errorf("tpm: signature: %w", err)
		}
		return nil
	case *ecdsa.PublicKey:
		if s.Scheme != AlgECDSA {
			return fmt.Errorf("tpm: signature: found the scheme %s for an elliptic-curve key", s.Scheme)
		}
		if !ecdsa.Verify(k, digest, new(big.Int).SetBytes(s.R), new(big.Int).SetBytes(s.S)) {
			return errors.New("tpm: signature: it does not hold under this key")
		}
		return nil
	}
	return fmt.Errorf("tpm: signature: found a key of type %T, wanted RSA or ECDSA", key)
}
