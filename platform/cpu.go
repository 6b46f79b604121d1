package platform

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Vendor strings of CPUID leaf 0.
const (
	vendorAMD   = "AuthenticAMD"
	vendorIntel = "GenuineIntel"
)

// leaf gives a CPUID leaf, or false where the processor has no such leaf: asking
// for a leaf beyond the last is answered by Intel with the last one's data.
func (p *prober) leaf(leaf, sub uint32) (Regs, bool) {
	if p.h.CPUID == nil {
		return Regs{}, false
	}
	if last := p.h.CPUID(leaf&0x8000_0000, 0).EAX; leaf > last || last&0x8000_0000 != leaf&0x8000_0000 {
		return Regs{}, false
	}
	return p.h.CPUID(leaf, sub), true
}

// vendor is CPUID leaf 0's twelve letters, or "".
func (p *prober) vendor() string {
	r, ok := p.leaf(0, 0)
	if !ok {
		return ""
	}
	return text(r.EBX, r.EDX, r.ECX)
}

// brand is the processor's name: CPUID leaves 80000002 to 80000004, elsewhere
// the line of /proc/cpuinfo that has it.
func (p *prober) brand() string {
	var words []uint32
	for leaf := uint32(0x8000_0002); leaf <= 0x8000_0004; leaf++ {
		r, ok := p.leaf(leaf, 0)
		if !ok {
			words = nil
			break
		}
		words = append(words, r.EAX, r.EBX, r.ECX, r.EDX)
	}
	if words != nil {
		return strings.TrimSpace(text(words...))
	}
	for _, key := range []string{"model name", "cpu", "CPU part"} {
		if v := p.cpuinfo(key); v != "" {
			return v
		}
	}
	return ""
}

// processor is vendor and brand in one line.
func (p *prober) processor() string {
	if s := strings.TrimSpace(p.vendor() + " " + p.brand()); s != "" {
		return s
	}
	return "unknown"
}

// signature is the processor's family, model and stepping from CPUID leaf 1,
// with the extended fields added as both vendors' manuals say.
func (p *prober) signature() (family, model, stepping uint32, ok bool) {
	r, ok := p.leaf(1, 0)
	if !ok {
		return 0, 0, 0, false
	}
	family, model, stepping = r.EAX>>8&0xf, r.EAX>>4&0xf, r.EAX&0xf
	if family == 0xf || family == 6 {
		model |= r.EAX >> 16 & 0xf << 4
	}
	if family == 0xf {
		family += r.EAX >> 20 & 0xff
	}
	return family, model, stepping, true
}

// cpuinfo is the first value of a key in /proc/cpuinfo, or "".
func (p *prober) cpuinfo(key string) string {
	if p.cpuinfoText == nil {
		p.cpuinfoText, _ = p.read("/proc/cpuinfo", 1<<20)
		if p.cpuinfoText == nil {
			p.cpuinfoText = []byte{}
		}
	}
	for line := range bytes.Lines(p.cpuinfoText) {
		k, v, ok := strings.Cut(string(line), ":")
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// flag says whether the kernel names a processor feature in /proc/cpuinfo.
func (p *prober) flag(name string) bool {
	return hasWord(p.cpuinfo("flags"), name)
}

func hasWord(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}

// text reads registers as the little-endian text that they hold, up to the first
// zero byte.
func text(words ...uint32) string {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// bits is v[hi:lo].
func bits(v uint32, hi, lo uint) uint32 { return v >> lo & (1<<(hi-lo+1) - 1) }

// Memory encryption capabilities, CPUID leaf 8000001F (AMD64 APM volume 3,
// appendix E.4.17).
type encryption struct {
	SME, SEV, PageFlush, ES, SNP bool
	// CBit is the page table bit that marks a page encrypted: EBX[5:0].
	CBit uint32
	// Reduction is by how many bits physical addresses shrink: EBX[11:6].
	Reduction uint32
	// VMPLs is the number of privilege levels in a guest: EBX[15:12].
	VMPLs uint32
	// Guests is how many encrypted guests can run at once: ECX.
	Guests uint32
	// MinSEV is the lowest ASID of a guest with SEV alone: EDX. ASIDs below it
	// are for SEV-ES and SEV-SNP.
	MinSEV uint32
}

func decodeEncryption(r Regs) encryption {
	return encryption{
		SME: r.EAX&1 != 0, SEV: r.EAX&2 != 0, PageFlush: r.EAX&4 != 0,
		ES: r.EAX&8 != 0, SNP: r.EAX&16 != 0,
		CBit: bits(r.EBX, 5, 0), Reduction: bits(r.EBX, 11, 6), VMPLs: bits(r.EBX, 15, 12),
		Guests: r.ECX, MinSEV: r.EDX,
	}
}

// SGX capabilities, CPUID leaf 12H (Intel SDM volume 3D, section 36.7).
type sgxCaps struct {
	V1, V2 bool
	// Max32 and Max64 are the largest enclave in bytes, outside and inside 64-bit
	// mode.
	Max32, Max64 uint64
	MiscSelect   uint32
	// Attributes are the SECS attributes that may be set: features in the lower
	// half, extended features (XFRM) in the upper.
	Features, XFRM uint64
	// EPC is the protected memory in bytes, summed over its sections.
	EPC uint64
}

// maxEPCSections bounds how many sub-leaves are asked for; machines have one a
// socket.
const maxEPCSections = 64

func (p *prober) sgxCaps() (sgxCaps, bool) {
	r, ok := p.leaf(0x12, 0)
	if !ok {
		return sgxCaps{}, false
	}
	c := sgxCaps{V1: r.EAX&1 != 0, V2: r.EAX&2 != 0, MiscSelect: r.EBX}
	// Both are exponents; one that does not fit 64 bits is nonsense.
	if n := bits(r.EDX, 7, 0); n > 0 && n < 64 {
		c.Max32 = 1 << n
	}
	if n := bits(r.EDX, 15, 8); n > 0 && n < 64 {
		c.Max64 = 1 << n
	}
	a, _ := p.leaf(0x12, 1)
	c.Features = uint64(a.EAX) | uint64(a.EBX)<<32
	c.XFRM = uint64(a.ECX) | uint64(a.EDX)<<32
	for sub := uint32(2); sub < 2+maxEPCSections; sub++ {
		s, _ := p.leaf(0x12, sub)
		if bits(s.EAX, 3, 0) != 1 {
			break
		}
		// Size: ECX[31:12] are bits 31..12, EDX[19:0] bits 51..32.
		c.EPC += uint64(s.ECX&^0xfff) | uint64(bits(s.EDX, 19, 0))<<32
	}
	return c, true
}

// size writes a number of bytes in words.
func size(n uint64) string {
	switch {
	case n >= 1<<40 && n%(1<<40) == 0:
		return fmt.Sprintf("%d TiB", n>>40)
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
