package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Page types of PAGE_INFO beside those of measure.go (AMD 56860, table "PAGE_TYPE
// encodings").
const (
	pageZero    = 3
	pageSecrets = 5
	pageCPUID   = 6
)

const (
	maxFirmware = 16 << 20
	maxVCPUs    = 512
	bspEIP      = 0xfffffff0 // x86's reset vector
)

// Hardware is a launch of QEMU on SEV-SNP hardware with OVMF, processor model
// EPYC-v4.
type Hardware struct {
	Firmware []byte // an OVMF image with SEV metadata
	VCPUs    int    // 1 to 512
	// Features are the guest's SEV_FEATURES; 0 is 1, SNP alone.
	Features uint64
	// Boot is what kernel-hashes=on puts into the table; nil: the launch has no
	// kernel hashes, and the digest says nothing about what is booted.
	Boot *Boot
}

// Boot is what a direct boot loads.
type Boot struct {
	Kernel, Initrd [32]byte // SHA-256 of the files; of nothing where there is none
	Cmdline        string   // without the zero byte at its end
}

// SNP predicts the launch digest of h: the firmware's pages, then the sections its
// metadata names in the order of the file, then a VMSA for each processor. Memory
// size and devices do not enter.
func SNP(h Hardware) ([48]byte, error) {
	var d digest
	if n := len(h.Firmware); n == 0 || n > maxFirmware || n%pageSize != 0 {
		return d, fmt.Errorf("measure: firmware of %d bytes, wanted whole pages up to %d", n, maxFirmware)
	}
	if h.VCPUs < 1 || h.VCPUs > maxVCPUs {
		return d, fmt.Errorf("measure: %d processors, wanted 1 to %d", h.VCPUs, maxVCPUs)
	}
	if h.Features == 0 {
		h.Features = 1
	}
	o, err := parseOVMF(h.Firmware)
	if err != nil {
		return d, err
	}
	d.data(pageNormal, 1<<32-uint64(len(h.Firmware)), h.Firmware)
	if err := d.sections(o, h.Boot); err != nil {
		return digest{}, err
	}
	if h.VCPUs > 1 && o.resetEIP == 0 {
		return digest{}, errors.New("measure: the firmware does not say where further processors start")
	}
	for i := range h.VCPUs {
		eip := uint32(bspEIP)
		if i > 0 {
			eip = o.resetEIP
		}
		d.data(pageVMSA, vmsaGPA, vmsaAt(eip, h.Features))
	}
	return d, nil
}

func (d *digest) sections(o ovmf, boot *Boot) error {
	hashed := false
	for _, s := range o.sections {
		switch s.kind {
		case sectionSecMem, sectionSVSMCAA:
			d.unmeasured(pageZero, s)
		case sectionSecrets:
			d.unmeasured(pageSecrets, s)
		case sectionCPUID:
			d.unmeasured(pageCPUID, s)
		case sectionKernelHashes:
			if boot == nil {
				d.unmeasured(pageZero, s)
				continue
			}
			page, err := hashesAt(o.hashesBase, *boot)
			if err != nil {
				return err
			}
			if s.size != pageSize || o.hashesBase&^(pageSize-1) != s.gpa {
				return fmt.Errorf("measure: the kernel-hashes section at %#x of %#x bytes is not the page that holds the table at %#x", s.gpa, s.size, o.hashesBase)
			}
			d.data(pageNormal, uint64(s.gpa), page)
			hashed = true
		default:
			return fmt.Errorf("measure: the firmware has an SEV metadata section of unknown type %#x", uint32(s.kind))
		}
	}
	if boot != nil && !hashed {
		return errors.New("measure: the firmware has no place for kernel hashes: an AmdSev build of OVMF is needed")
	}
	return nil
}

// unmeasured adds pages whose address and type are measured and whose contents
// are not.
func (d *digest) unmeasured(kind byte, s section) {
	for off := uint32(0); off < s.size; off += pageSize {
		d.page(kind, uint64(s.gpa)+uint64(off), [48]byte{})
	}
}

// hashesAt is the page with the kernel-hashes table where the firmware wants it.
func hashesAt(base uint32, boot Boot) ([]byte, error) {
	const tableSize = 176 // 168, padded to 16
	off := int(base % pageSize)
	if base == 0 || off+tableSize > pageSize {
		return nil, fmt.Errorf("measure: the firmware wants the kernel-hashes table at %#x, where it does not fit into a page", base)
	}
	page := make([]byte, pageSize)
	copy(page[off:], hashesTable(Launch{Kernel: boot.Kernel, Initrd: boot.Initrd, Cmdline: boot.Cmdline})[:tableSize])
	return page, nil
}

// vmsaAt is the save area of a processor that starts at eip.
func vmsaAt(eip uint32, features uint64) []byte {
	p := vmsa()
	binary.LittleEndian.PutUint64(p[0x18:], uint64(eip&0xffff0000)) // cs base
	binary.LittleEndian.PutUint64(p[0x178:], uint64(eip&0xffff))    // rip
	binary.LittleEndian.PutUint64(p[0x3b0:], features)
	return p
}
