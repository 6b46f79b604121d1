// Package measure predicts the SEV-SNP launch digest from the files of a launch:
// what the secure processor hashes page by page, and what the simulated one
// reports for sim and vm Keeps. Source: SEV-SNP Firmware ABI (AMD 56860), section
// SNP_LAUNCH_UPDATE (PAGE_INFO); OVMF's kernel-hashes table. See
// docs/measurement.md.
package measure

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

const (
	pageSize   = 4096
	pageNormal = 1
	pageVMSA   = 2

	vmsaGPA   = 0xfffffffff000
	hashesGPA = 0x810000 // of our own choosing: no firmware says where
)

// digest is the running launch digest: LD = SHA-384(PAGE_INFO), which begins with
// the digest so far.
type digest [48]byte

func (d *digest) page(kind byte, gpa uint64, contents [48]byte) {
	info := make([]byte, 0, 0x70)
	info = append(info, d[:]...)
	info = append(info, contents[:]...)
	info = binary.LittleEndian.AppendUint16(info, 0x70)
	info = append(info, kind, 0 /* not an IMI page */, 0, 0, 0 /* VMPL 3, 2, 1 */, 0)
	info = binary.LittleEndian.AppendUint64(info, gpa)
	*d = sha512.Sum384(info)
}

func (d *digest) data(kind byte, gpa uint64, b []byte) {
	for off := 0; off < len(b); off += pageSize {
		page := make([]byte, pageSize)
		copy(page, b[off:])
		d.page(kind, gpa+uint64(off), sha512.Sum384(page))
	}
}

// Launch is what a simulated launch is made of.
type Launch struct {
	Firmware []byte // what QEMU really loads; nil in sim
	Kernel   [32]byte
	Initrd   [32]byte
	Cmdline  string
}

// Simulated is the SNP page algorithm over a launch that no SNP hardware made:
// firmware pages ending at 4 GiB, one page with the kernel-hashes table, one VMSA
// of a boot processor.
func Simulated(l Launch) [48]byte {
	var d digest
	if n := len(l.Firmware); n > 0 {
		d.data(pageNormal, 1<<32-uint64((n+pageSize-1)/pageSize*pageSize), l.Firmware)
	}
	d.data(pageNormal, hashesGPA, hashesTable(l))
	d.data(pageVMSA, vmsaGPA, vmsa())
	return d
}

// Sim is the launch digest of a sim Keep: the program is the initrd, there is
// neither firmware nor kernel nor command line.
func Sim(program [32]byte) [48]byte {
	return Simulated(Launch{Kernel: sha256.Sum256(nil), Initrd: program})
}

// GUIDs of the kernel-hashes table in wire form (little-endian first fields).
var (
	guidHeader  = []byte{0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21}
	guidKernel  = []byte{0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}
	guidInitrd  = []byte{0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d}
	guidCmdline = []byte{0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a}
)

// hashesTable is a page that begins with the table QEMU makes for
// kernel-hashes=on: header, then command line (with its zero byte), initrd and
// kernel.
func hashesTable(l Launch) []byte {
	b := append([]byte(nil), guidHeader...)
	b = binary.LittleEndian.AppendUint16(b, 168)
	row := func(guid []byte, h [32]byte) {
		b = append(b, guid...)
		b = binary.LittleEndian.AppendUint16(b, 50)
		b = append(b, h[:]...)
	}
	row(guidCmdline, sha256.Sum256(append([]byte(l.Cmdline), 0)))
	row(guidInitrd, l.Initrd)
	row(guidKernel, l.Kernel)
	return append(b, make([]byte, pageSize-len(b))...)
}

// vmsa is the save area of QEMU's boot processor at reset, CPU model EPYC-v4.
func vmsa() []byte {
	p := make([]byte, pageSize)
	le := binary.LittleEndian
	seg := func(off int, selector, attr uint16, limit uint32, base uint64) {
		le.PutUint16(p[off:], selector)
		le.PutUint16(p[off+2:], attr)
		le.PutUint32(p[off+4:], limit)
		le.PutUint64(p[off+8:], base)
	}
	for _, off := range []int{0x00, 0x20, 0x30, 0x40, 0x50} { // es ss ds fs gs
		seg(off, 0, 0x93, 0xffff, 0)
	}
	seg(0x10, 0xf000, 0x9b, 0xffff, 0xffff0000) // cs
	seg(0x60, 0, 0, 0xffff, 0)                  // gdtr
	seg(0x70, 0, 0x82, 0xffff, 0)               // ldtr
	seg(0x80, 0, 0, 0xffff, 0)                  // idtr
	seg(0x90, 0, 0x8b, 0xffff, 0)               // tr
	le.PutUint64(p[0xd0:], 0x1000)              // efer: SVME
	le.PutUint64(p[0x148:], 0x40)               // cr4: MCE
	le.PutUint64(p[0x158:], 0x10)               // cr0
	le.PutUint64(p[0x160:], 0x400)              // dr7
	le.PutUint64(p[0x168:], 0xffff0ff0)         // dr6
	le.PutUint64(p[0x170:], 2)                  // rflags
	le.PutUint64(p[0x178:], 0xfff0)             // rip
	le.PutUint64(p[0x268:], 0x7040600070406)    // g_pat
	le.PutUint64(p[0x310:], 0x800f12)           // rdx: CPUID family, model, stepping
	le.PutUint64(p[0x3b0:], 1)                  // sev_features: SNP
	le.PutUint64(p[0x3e8:], 1)                  // xcr0
	le.PutUint32(p[0x408:], 0x1f80)             // mxcsr
	le.PutUint16(p[0x410:], 0x37f)              // x87 control word
	return p
}
