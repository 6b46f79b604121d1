package collateral

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

const (
	derLevels   = 3
	derElements = 2048 // looked at in one file
)

// der adds the certificates and revocation lists in b: one, several one after the
// other, or a sequence of either them or of (URL, list) pairs. At most three levels
// are opened. Bytes that are no DER spoil all of it.
func (s *Set) der(b []byte) (why string) {
	found := &Set{}
	level := [][]byte{b}
	seen := 0
	for depth := 0; depth < derLevels && len(level) > 0; depth++ {
		var below [][]byte
		for _, rest := range level {
			for len(rest) > 0 {
				if seen++; seen > derElements {
					return fmt.Sprintf("it has more than %d DER elements that are no certificate or list", derElements)
				}
				var v asn1.RawValue
				var err error
				if rest, err = asn1.Unmarshal(rest, &v); err != nil {
					return "it is no DER, or bytes follow it"
				}
				if v.Class != asn1.ClassUniversal || v.Tag != asn1.TagSequence {
					continue // the URL of a pair, or a field of something else
				}
				if c, err := x509.ParseCertificate(v.FullBytes); err == nil {
					found.Certificates = append(found.Certificates, c)
				} else if l, err := x509.ParseRevocationList(v.FullBytes); err == nil {
					found.Lists = append(found.Lists, l)
				} else {
					below = append(below, v.Bytes)
				}
			}
		}
		if len(found.Certificates)+len(found.Lists) > 0 && len(below) > 0 && depth == 0 {
			return "it holds a certificate or list and something else beside it"
		}
		if len(found.Certificates)+len(found.Lists) > MaxCertificates+MaxLists {
			break // Add refuses it by number
		}
		level = below
	}
	if len(found.Certificates)+len(found.Lists) == 0 {
		return "it is DER, but no certificate or revocation list"
	}
	s.join(found)
	return ""
}
