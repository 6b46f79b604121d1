package measure

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/donjon-tee/donjon/attest/published"
)

// The digests that the evidence folder's README gives for a published OVMF.
func TestPublishedDigests(t *testing.T) {
	fw := published.Read(t, "snp/measure/ovmf-amdsev-suffix.bin")
	empty := sha256.Sum256(nil)
	for _, c := range []struct {
		vcpus int
		boot  *Boot
		want  string
	}{
		{1, &Boot{empty, empty, "console=ttyS0 loglevel=7"}, "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977"},
		{1, nil, "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b"},
		{4, &Boot{empty, empty, ""}, "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942"},
	} {
		d, err := SNP(Hardware{Firmware: fw, VCPUs: c.vcpus, Features: 0x21, Boot: c.boot})
		if err != nil || hex.EncodeToString(d[:]) != c.want {
			t.Errorf("%d processors, %+v: found %x, %v, wanted %s", c.vcpus, c.boot, d, err, c.want)
		}
	}
}

type entry struct{ guid, data []byte }

// firmware is one page with an OVMF table of the entries and SEV metadata of the
// sections.
func firmware(sections []section, entries ...entry) []byte {
	le := binary.LittleEndian
	b := make([]byte, pageSize)
	d := append([]byte("ASEV"), le.AppendUint32(nil, uint32(16+12*len(sections)))...)
	d = le.AppendUint32(le.AppendUint32(d, 1), uint32(len(sections)))
	for _, s := range sections {
		d = le.AppendUint32(le.AppendUint32(le.AppendUint32(d, s.gpa), s.size), uint32(s.kind))
	}
	copy(b, d)
	var table []byte
	for _, e := range entries {
		table = append(table, e.data...)
		table = append(le.AppendUint16(table, uint16(len(e.data)+entryTail)), e.guid...)
	}
	table = append(le.AppendUint16(table, uint16(len(table)+entryTail)), guidFooter...)
	copy(b[pageSize-tableEnd-len(table):], table)
	return b
}

func u32(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func goodEntries() []entry {
	return []entry{{guidMetadata, u32(pageSize)}, {guidReset, u32(0x80b004)}, {guidHashes, u32(0x810c00, 0x400)}}
}

var goodSections = []section{{0x800000, 2 * pageSize, sectionSecMem}, {0x80d000, pageSize, sectionSecrets}, {0x80e000, pageSize, sectionCPUID}, {0x810000, pageSize, sectionKernelHashes}}

func TestHardwareDepends(t *testing.T) {
	base := Hardware{Firmware: firmware(goodSections, goodEntries()...), VCPUs: 2, Features: 1, Boot: &Boot{Cmdline: "quiet"}}
	want, err := SNP(base)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Hardware){
		"firmware":   func(h *Hardware) { h.Firmware = bytes.Clone(h.Firmware); h.Firmware[1000] = 1 },
		"processors": func(h *Hardware) { h.VCPUs = 3 },
		"features":   func(h *Hardware) { h.Features = 0x21 },
		"kernel":     func(h *Hardware) { h.Boot = &Boot{Cmdline: "quiet", Kernel: [32]byte{1}} },
		"initrd":     func(h *Hardware) { h.Boot = &Boot{Cmdline: "quiet", Initrd: [32]byte{1}} },
		"cmdline":    func(h *Hardware) { h.Boot = &Boot{Cmdline: "quiet "} },
		"no hashes":  func(h *Hardware) { h.Boot = nil },
	} {
		h := base
		change(&h)
		if got, err := SNP(h); err != nil || got == want {
			t.Errorf("another %s: found the digest %x, %v", name, got, err)
		}
	}
	base.Features = 0
	if got, err := SNP(base); err != nil || got != want {
		t.Errorf("features 0 is not SNP alone: %x, %v", got, err)
	}
}

func TestHardwareRefuses(t *testing.T) {
	with := func(change func([]entry) []entry) []byte { return firmware(goodSections, change(goodEntries())...) }
	sections := func(s ...section) []byte { return firmware(s, goodEntries()...) }
	length := func(n uint16) []byte { // of the table, as its footer says
		b := with(func(e []entry) []entry { return e })
		binary.LittleEndian.PutUint16(b[pageSize-tableEnd-entryTail:], n)
		return b
	}
	for name, fw := range map[string][]byte{
		"nothing":                   {},
		"no whole page":             make([]byte, 100),
		"no table":                  make([]byte, pageSize),
		"table too long":            length(0xffff),
		"table too short":           length(17),
		"table of a broken entry":   length(40),
		"no metadata":               with(func(e []entry) []entry { return e[1:] }),
		"metadata twice":            with(func(e []entry) []entry { return append(e, e[0]) }),
		"metadata out of the image": with(func(e []entry) []entry { e[0].data = u32(pageSize + 1); return e }),
		"metadata at the end":       with(func(e []entry) []entry { e[0].data = u32(15); return e }),
		"metadata elsewhere":        with(func(e []entry) []entry { e[0].data = u32(2048); return e }),
		"short entry":               with(func(e []entry) []entry { e[1].data = nil; return e }),
		"no reset block":            with(func(e []entry) []entry { return append(e[:1], e[2]) }),
		"no table of hashes":        with(func(e []entry) []entry { return e[:2] }),
		"hashes over the page":      with(func(e []entry) []entry { e[2].data = u32(0x810ff0, 0x400); return e }),
		"hashes on another page":    with(func(e []entry) []entry { e[2].data = u32(0x811c00, 0x400); return e }),
		"no section of hashes":      sections(goodSections[:3]...),
		"half a page":               sections(section{0x800000, 2048, sectionSecMem}),
		"empty section":             sections(section{0x800000, 0, sectionSecMem}),
		"unaligned":                 sections(section{0x800800, pageSize, sectionSecMem}),
		"unknown section":           sections(append(goodSections[:4:4], section{0x900000, pageSize, 9})...),
		"huge section":              sections(section{0x800000, 0xfffff000, sectionSecMem}),
		"too many sections":         sections(make([]section, maxSections+1)...),
	} {
		if d, err := SNP(Hardware{Firmware: fw, VCPUs: 2, Boot: &Boot{}}); err == nil {
			t.Errorf("%s: found the digest %x, wanted an error", name, d)
		}
	}
	good := with(func(e []entry) []entry { return e })
	for _, n := range []int{-1, 0, maxVCPUs + 1} {
		if _, err := SNP(Hardware{Firmware: good, VCPUs: n}); err == nil {
			t.Errorf("%d processors: wanted an error", n)
		}
	}
}

func FuzzOVMF(f *testing.F) {
	f.Add(firmware(goodSections, goodEntries()...))
	f.Add(firmware(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOVMF(b)
		if err != nil {
			return
		}
		total := 0
		for _, s := range o.sections {
			total += int(s.size)
		}
		if len(o.sections) > maxSections || total > maxMeasured {
			t.Errorf("%d sections of %d bytes are over the bounds", len(o.sections), total)
		}
	})
}
