package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// What OVMF says about itself to whoever launches it under SEV: a table of GUIDed
// entries that ends 32 bytes before the end of the image and is read backwards.
// Source: OVMF's reset vector (edk2, OvmfPkg/ResetVector, "GUIDed structure" and
// the SEV metadata descriptor).

// sectionKind is the type of an SEV metadata section.
type sectionKind uint32

const (
	sectionSecMem       sectionKind = 1
	sectionSecrets      sectionKind = 2
	sectionCPUID        sectionKind = 3
	sectionSVSMCAA      sectionKind = 4
	sectionKernelHashes sectionKind = 0x10
)

// A section is memory that is measured beside the firmware's own pages.
type section struct {
	gpa, size uint32 // bytes, whole pages
	kind      sectionKind
}

// An ovmf is what a launch digest needs to know about a firmware image.
type ovmf struct {
	sections   []section
	resetEIP   uint32 // where the other processors start; 0: the image does not say
	hashesBase uint32 // address of the kernel-hashes table; 0: the image has none
}

// GUIDs in wire form (the first three fields little endian).
var (
	guidFooter   = []byte{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d}
	guidMetadata = []byte{0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc}
	guidHashes   = []byte{0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54}
	guidReset    = []byte{0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e}
)

const (
	tableEnd    = 32 // bytes between the table's end and the image's
	entryTail   = 18 // u16 length (data and tail together), GUID
	maxEntries  = 64
	maxSections = 64
	maxMeasured = 64 << 20 // bytes of all sections together
)

func parseOVMF(b []byte) (ovmf, error) {
	var o ovmf
	if len(b) < tableEnd+entryTail {
		return o, fmt.Errorf("measure: firmware of %d bytes holds no OVMF table", len(b))
	}
	le := binary.LittleEndian
	end := len(b) - tableEnd
	if !bytes.Equal(b[end-16:end], guidFooter) {
		return o, errors.New("measure: the firmware is no OVMF: its table of GUIDs is missing")
	}
	size := int(le.Uint16(b[end-entryTail:]))
	if size < entryTail || size > end {
		return o, fmt.Errorf("measure: OVMF's table says that it has %d bytes", size)
	}
	table := b[end-size : end-entryTail]
	var metadata []byte
	seen := map[string]bool{}
	for n := 0; len(table) > 0; n++ {
		if len(table) < entryTail || n == maxEntries {
			return o, errors.New("measure: OVMF's table does not divide into entries")
		}
		tail := table[len(table)-entryTail:]
		length := int(le.Uint16(tail))
		if length < entryTail || length > len(table) {
			return o, fmt.Errorf("measure: an entry of OVMF's table says that it has %d bytes, and %d are left", length, len(table))
		}
		guid, data := tail[2:], table[len(table)-length:len(table)-entryTail]
		table = table[:len(table)-length]
		if seen[string(guid)] {
			return o, fmt.Errorf("measure: OVMF's table holds the entry %x twice", guid)
		}
		seen[string(guid)] = true
		want := 0
		switch {
		case bytes.Equal(guid, guidMetadata):
			want, metadata = 4, data
		case bytes.Equal(guid, guidReset):
			want = 4
		case bytes.Equal(guid, guidHashes):
			want = 8 // base, size
		default:
			continue
		}
		if len(data) < want {
			return o, fmt.Errorf("measure: OVMF's entry %x has %d bytes of data, wanted %d", guid, len(data), want)
		}
		switch want {
		case 8:
			o.hashesBase = le.Uint32(data)
		default:
			if bytes.Equal(guid, guidReset) {
				o.resetEIP = le.Uint32(data)
			}
		}
	}
	if metadata == nil {
		return o, errors.New("measure: the firmware's table names no SEV metadata: this OVMF is not made for SEV-SNP")
	}
	var err error
	o.sections, err = parseSections(b, le.Uint32(metadata))
	return o, err
}

// parseSections reads the descriptor that stands fromEnd bytes before the end:
// "ASEV", length, version, count, then address, size and type of each, all u32.
func parseSections(b []byte, fromEnd uint32) ([]section, error) {
	le := binary.LittleEndian
	if uint64(fromEnd) > uint64(len(b)) || fromEnd < 16 {
		return nil, fmt.Errorf("measure: OVMF's SEV metadata stands %d bytes before the end of %d", fromEnd, len(b))
	}
	d := b[len(b)-int(fromEnd):]
	if string(d[:4]) != "ASEV" || le.Uint32(d[8:]) != 1 {
		return nil, fmt.Errorf("measure: OVMF's SEV metadata begins with %q version %d, wanted \"ASEV\" version 1", d[:4], le.Uint32(d[8:]))
	}
	count := le.Uint32(d[12:])
	if count > maxSections || 16+int(count)*12 > len(d) {
		return nil, fmt.Errorf("measure: OVMF's SEV metadata counts %d sections, at most %d", count, maxSections)
	}
	var out []section
	var total uint64
	for i := range int(count) {
		e := d[16+12*i:]
		s := section{gpa: le.Uint32(e), size: le.Uint32(e[4:]), kind: sectionKind(le.Uint32(e[8:]))}
		if s.gpa%pageSize != 0 || s.size%pageSize != 0 || s.size == 0 {
			return nil, fmt.Errorf("measure: SEV metadata section %d at %#x of %#x bytes is not whole pages", i, s.gpa, s.size)
		}
		if total += uint64(s.size); total > maxMeasured {
			return nil, fmt.Errorf("measure: the SEV metadata sections have more than %d bytes", maxMeasured)
		}
		out = append(out, s)
	}
	return out, nil
}
