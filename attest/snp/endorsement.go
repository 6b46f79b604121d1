package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Endorsement is what a VCEK or VLEK certificate says about the processor whose
// reports it endorses. Source: AMD publication 57230 (VCEK Certificate and KDS
// Interface Specification), section "VCEK Certificate", object identifiers under
// 1.3.6.1.4.1.3704.1.
type Endorsement struct {
	Product string // as the certificate spells it, such as Milan-B0
	HWID    []byte // 64 bytes; 8 on Turin; nil in a VLEK
	CSP     string // a VLEK's cloud provider; "" in a VCEK

	// The levels of the TCB, each 0 to 255. HasFMC says that the product has an
	// FMC, and with it Turin's order of TCB_VERSION.
	HasFMC                               bool
	FMC, BootLoader, TEE, SNP, Microcode byte
}

// kdsArc is AMD's arc of the extensions.
var kdsArc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// ParseEndorsement reads AMD's extensions of a VCEK or VLEK. Unknown extensions
// under AMD's arc are errors, and so is one that stands twice: what they say about
// the TCB would be lost.
func ParseEndorsement(c *x509.Certificate) (Endorsement, error) {
	var e Endorsement
	levels := map[int]*byte{1: &e.BootLoader, 2: &e.TEE, 3: &e.SNP, 8: &e.Microcode, 9: &e.FMC}
	seen := map[string]bool{}
	for _, x := range c.Extensions {
		if len(x.Id) <= len(kdsArc) || !x.Id[:len(kdsArc)].Equal(kdsArc) {
			continue
		}
		name := x.Id.String()
		if seen[name] {
			return e, fmt.Errorf("snp: the certificate carries %s twice", name)
		}
		seen[name] = true
		if err := e.extension(x.Id[len(kdsArc):], x.Value, levels); err != nil {
			return e, fmt.Errorf("snp: the certificate's %s: %w", name, err)
		}
	}
	for _, n := range []int{1, 2, 3, 8} {
		if !seen[fmt.Sprintf("%s.3.%d", kdsArc, n)] {
			return e, fmt.Errorf("snp: the certificate lacks %s.3.%d, a level of the TCB: it is no VCEK or VLEK", kdsArc, n)
		}
	}
	if (e.HWID == nil) == (e.CSP == "") {
		return e, errors.New("snp: the certificate names neither or both of a chip (VCEK) and a provider (VLEK)")
	}
	return e, nil
}

func (e *Endorsement) extension(arc []int, value []byte, levels map[int]*byte) error {
	switch {
	case len(arc) == 1 && arc[0] == 1: // the structure's version
		v, err := integer(value)
		if err == nil && v > 1 {
			err = fmt.Errorf("found version %d, wanted 0 or 1", v)
		}
		return err
	case len(arc) == 1 && arc[0] == 2:
		return ia5(value, &e.Product)
	case len(arc) == 1 && arc[0] == 4:
		// AMD's key server writes the bytes bare; some writers wrap them.
		var wrapped []byte
		if n := len(value); n == 66 || n == 10 {
			if rest, err := asn1.Unmarshal(value, &wrapped); err != nil || len(rest) > 0 {
				return errors.New("the hardware id is no OCTET STRING")
			}
			value = wrapped
		}
		if n := len(value); n != 64 && n != 8 {
			return fmt.Errorf("a hardware id of %d bytes, wanted 64 or 8", n)
		}
		e.HWID = bytes.Clone(value)
		return nil
	case len(arc) == 1 && arc[0] == 5:
		return ia5(value, &e.CSP)
	case len(arc) == 2 && arc[0] == 3:
		v, err := integer(value)
		if err != nil {
			return err
		}
		if arc[1] == 9 {
			e.HasFMC = true
		}
		if p := levels[arc[1]]; p != nil {
			*p = v
			return nil
		}
		if arc[1] < 4 || arc[1] > 7 || v != 0 { // 4 to 7 are reserved
			return fmt.Errorf("an unknown level of the TCB, %d", v)
		}
		return nil
	}
	return errors.New("an unknown extension")
}

func integer(der []byte) (byte, error) {
	var v int
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 || v < 0 || v > 255 {
		return 0, fmt.Errorf("found %x, wanted an INTEGER from 0 to 255", der)
	}
	return byte(v), nil
}

// ia5 reads an IA5String; encoding/asn1 would take a string of another type too.
func ia5(der []byte, out *string) error {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || len(rest) > 0 || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagIA5String || v.IsCompound || len(v.Bytes) == 0 || len(v.Bytes) > 64 {
		return errors.New("no IA5String of 1 to 64 characters")
	}
	for _, c := range v.Bytes {
		if c < 0x20 || c > 0x7e {
			return errors.New("a character that does not print")
		}
	}
	*out = string(v.Bytes)
	return nil
}

// TCB is the endorsed TCB_VERSION in the layout of the certificate's product.
func (e Endorsement) TCB() TCB {
	if e.HasFMC {
		return TCB(e.FMC) | TCB(e.BootLoader)<<8 | TCB(e.TEE)<<16 | TCB(e.SNP)<<24 | TCB(e.Microcode)<<56
	}
	return TCB(e.BootLoader) | TCB(e.TEE)<<8 | TCB(e.SNP)<<48 | TCB(e.Microcode)<<56
}
