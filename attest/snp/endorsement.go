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
	var seen uint32 // bit n: arc n; bit 16+n: arc 3.n
	for _, x := range c.Extensions {
		if len(x.Id) <= len(kdsArc) || !x.Id[:len(kdsArc)].Equal(kdsArc) {
			continue
		}
		arc := x.Id[len(kdsArc):]
		bit, err := extensionBit(arc)
		if err == nil && seen&bit != 0 {
			err = errors.New("it stands twice")
		}
		if err == nil {
			seen |= bit
			err = e.extension(arc, x.Value)
		}
		if err != nil {
			return e, fmt.Errorf("snp: the certificate's %s: %w", x.Id, err)
		}
	}
	for _, n := range [...]int{1, 2, 3, 8} {
		if seen&(1<<(16+n)) == 0 {
			return e, fmt.Errorf("snp: the certificate lacks %s.3.%d, a level of the TCB: it is no VCEK or VLEK", kdsArc, n)
		}
	}
	if (e.HWID == nil) == (e.CSP == "") {
		return e, errors.New("snp: the certificate names neither or both of a chip (VCEK) and a provider (VLEK)")
	}
	return e, nil
}

func extensionBit(arc []int) (uint32, error) {
	switch {
	case len(arc) == 1 && arc[0] >= 1 && arc[0] <= 5 && arc[0] != 3:
		return 1 << arc[0], nil
	case len(arc) == 2 && arc[0] == 3 && arc[1] >= 1 && arc[1] <= 9:
		return 1 << (16 + arc[1]), nil
	}
	return 0, errors.New("an unknown extension")
}

// level is where a level of the TCB goes; nil: the number is reserved.
func (e *Endorsement) level(n int) *byte {
	switch n {
	case 1:
		return &e.BootLoader
	case 2:
		return &e.TEE
	case 3:
		return &e.SNP
	case 8:
		return &e.Microcode
	case 9:
		return &e.FMC
	}
	return nil
}

func (e *Endorsement) extension(arc []int, value []byte) error {
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
		e.HasFMC = e.HasFMC || arc[1] == 9
		if p := e.level(arc[1]); p != nil {
			*p = v
		} else if v != 0 {
			return fmt.Errorf("a reserved level of the TCB, %d", v)
		}
		return nil
	}
	return errors.New("an unknown extension")
}

// integer reads an INTEGER from 0 to 255 in its one DER form.
func integer(der []byte) (byte, error) {
	switch {
	case len(der) == 3 && der[0] == asn1.TagInteger && der[1] == 1 && der[2] < 0x80:
		return der[2], nil
	case len(der) == 4 && der[0] == asn1.TagInteger && der[1] == 2 && der[2] == 0 && der[3] >= 0x80:
		return der[3], nil
	}
	return 0, fmt.Errorf("found %.8x, wanted an INTEGER from 0 to 255", der)
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
