package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Platform is what a PCK certificate says about the machine whose quoting enclave
// it endorses. Source: PCK profile, section 1.3.5 "SGX Extensions", object
// identifiers under 1.2.840.113741.1.13.1.
type Platform struct {
	PPID    []byte // 16
	CompSVN [16]uint8
	PCESVN  uint16
	CPUSVN  []byte // 16
	PCEID   []byte // 2
	FMSPC   []byte // 6
	SGXType int    // 0 standard, 1 scalable, 2 scalable with integrity

	// A Platform CA's certificates alone have what follows; else nil.
	InstanceID                        []byte // 16
	DynamicPlatform, CachedKeys, SMTs *bool
}

var sgxArc = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// pair is an element of the extension: an identifier and a value of any kind.
type pair struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// ParsePlatform reads Intel's extension of a PCK certificate. An identifier that is
// unknown or stands twice is an error: what it says would be lost.
func ParsePlatform(c *x509.Certificate) (*Platform, error) {
	var value []byte
	for _, x := range c.Extensions {
		if !x.Id.Equal(sgxArc) {
			continue
		}
		if value != nil {
			return nil, errors.New("dcap: the PCK certificate has the SGX extension twice")
		}
		value = x.Value
	}
	if value == nil {
		return nil, errors.New("dcap: the certificate has no SGX extension (1.2.840.113741.1.13.1): it is no PCK certificate")
	}
	p, err := parsePlatform(value)
	if err != nil {
		return nil, fmt.Errorf("dcap: the PCK certificate's SGX extension: %w", err)
	}
	return p, nil
}

func parsePlatform(der []byte) (*Platform, error) {
	p := &Platform{}
	seen, err := pairs(der, sgxArc, 7, func(n int, v asn1.RawValue) error {
		var err error
		switch n {
		case 1:
			p.PPID, err = octets(v, 16)
		case 2:
			err = p.tcb(v.FullBytes)
		case 3:
			p.PCEID, err = octets(v, 2)
		case 4:
			p.FMSPC, err = octets(v, 6)
		case 5:
			p.SGXType, err = number(v, asn1.TagEnum, 2)
		case 6:
			p.InstanceID, err = octets(v, 16)
		case 7:
			err = p.configuration(v.FullBytes)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for n := 1; n <= 5; n++ {
		if !seen[n] {
			return nil, fmt.Errorf("%s.%d is missing", sgxArc, n)
		}
	}
	return p, nil
}

func (p *Platform) tcb(der []byte) error {
	seen, err := pairs(der, append(sgxArc[:7:7], 2), 18, func(n int, v asn1.RawValue) error {
		switch {
		case n <= 16:
			x, err := number(v, asn1.TagInteger, 255)
			p.CompSVN[n-1] = uint8(x)
			return err
		case n == 17:
			x, err := number(v, asn1.TagInteger, 0xffff)
			p.PCESVN = uint16(x)
			return err
		}
		var err error
		p.CPUSVN, err = octets(v, 16)
		return err
	})
	if err == nil && len(seen) != 18 {
		err = fmt.Errorf("%s.2 (TCB) has %d elements, wanted 18", sgxArc, len(seen))
	}
	return err
}

func (p *Platform) configuration(der []byte) error {
	_, err := pairs(der, append(sgxArc[:7:7], 7), 3, func(n int, v asn1.RawValue) error {
		var b bool
		if rest, err := asn1.Unmarshal(v.FullBytes, &b); err != nil || len(rest) > 0 {
			return errors.New("no BOOLEAN")
		}
		*[]**bool{&p.DynamicPlatform, &p.CachedKeys, &p.SMTs}[n-1] = &b
		return nil
	})
	return err
}

// pairs walks a SEQUENCE of pairs whose identifiers are arc.1 to arc.last.
func pairs(der []byte, arc asn1.ObjectIdentifier, last int, each func(n int, v asn1.RawValue) error) (map[int]bool, error) {
	var list []pair
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%s is no sequence of identifiers and values", arc)
	}
	seen := map[int]bool{}
	for _, x := range list {
		n := 0
		if len(x.ID) == len(arc)+1 && x.ID[:len(arc)].Equal(arc) {
			n = x.ID[len(arc)]
		}
		if n < 1 || n > last || seen[n] {
			return nil, fmt.Errorf("%s is unknown or stands twice", x.ID)
		}
		seen[n] = true
		if err := each(n, x.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", x.ID, err)
		}
	}
	return seen, nil
}

func octets(v asn1.RawValue, n int) ([]byte, error) {
	if v.Class != asn1.ClassUniversal || v.Tag != asn1.TagOctetString || v.IsCompound || len(v.Bytes) != n {
		return nil, fmt.Errorf("found %x, wanted an OCTET STRING of %d bytes", v.FullBytes, n)
	}
	return v.Bytes, nil
}

func number(v asn1.RawValue, tag, most int) (int, error) {
	bad := fmt.Errorf("found %x, wanted a number from 0 to %d", v.FullBytes, most)
	if v.Class != asn1.ClassUniversal || v.Tag != tag || v.IsCompound || len(v.Bytes) == 0 || len(v.Bytes) > 3 {
		return 0, bad
	}
	if len(v.Bytes) > 1 && v.Bytes[0] == 0 && v.Bytes[1] < 0x80 || v.Bytes[0] >= 0x80 {
		return 0, bad // not the shortest form, or negative
	}
	x := 0
	for _, b := range v.Bytes {
		x = x<<8 | int(b)
	}
	if x > most {
		return 0, bad
	}
	return x, nil
}

// parseChain reads the certification data of type 5: the PCK certificate, the CA's
// and, mostly, the root's, in PEM, leaf first. Nothing but white space, and the zero
// byte with which some quoting libraries end the text, may stand beside them.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := trim(data); len(rest) > 0; rest = trim(rest) {
		if len(out) == 3 {
			return nil, errors.New("more than 3 certificates")
		}
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, fmt.Errorf("found %q after %d certificates, wanted a PEM CERTIFICATE", rest[:min(len(rest), 24)], len(out))
		}
		block, after := pem.Decode(rest)
		// A block that does not decode is skipped by pem, and the next one taken.
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || bytes.Count(rest[:len(rest)-len(after)], []byte("-----BEGIN")) != 1 {
			return nil, fmt.Errorf("PEM block %d does not decode", len(out)+1)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		if err := p256(c); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out, rest = append(out, c), after
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("found %d certificates, wanted the PCK's, the CA's and the root's", len(out))
	}
	if !strings.HasSuffix(out[0].Subject.CommonName, "SGX PCK Certificate") || out[0].IsCA {
		return nil, fmt.Errorf("the first certificate is %q, wanted a PCK certificate", out[0].Subject.CommonName)
	}
	if n := out[1].Subject.CommonName; !strings.HasSuffix(n, "SGX PCK Processor CA") && !strings.HasSuffix(n, "SGX PCK Platform CA") {
		return nil, fmt.Errorf("the second certificate is %q, wanted the PCK Processor CA or Platform CA", n)
	}
	return out, nil
}

func trim(b []byte) []byte { return bytes.Trim(b, " \t\r\n\x00") }

// p256 demands what the PCK profile says of every certificate: ECDSA on P-256 with
// SHA-256.
func p256(c *x509.Certificate) error {
	k, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() || c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return fmt.Errorf("key %s, signature %s: wanted ECDSA on P-256 with SHA-256", c.PublicKeyAlgorithm, c.SignatureAlgorithm)
	}
	return nil
}
