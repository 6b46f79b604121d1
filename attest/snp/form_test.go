package snp

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// minimal is a report of the version in which everything that may be zero is.
func minimal(version uint32) []byte {
	b := make([]byte, ReportSize)
	binary.LittleEndian.PutUint32(b, version)
	b[0x0a] = 1 << 1 // policy bit 17
	b[0x34] = 1
	return b
}

func TestReportForm(t *testing.T) {
	for v := uint32(2); v <= 5; v++ {
		if _, err := ParseReport(minimal(v)); err != nil {
			t.Errorf("version %d: %v", v, err)
		}
	}
	for name, c := range map[string]struct {
		version uint32
		at      int
		value   byte
	}{
		"version 6": {2, 0, 6}, "version 1": {2, 0, 1}, "version high byte": {2, 3, 1},
		"policy bit 17": {5, 0x0a, 0}, "VMPL 4": {5, 0x30, 4}, "algorithm 2": {5, 0x34, 2},
		"reserved 4c": {5, 0x4c, 1}, "reserved 18b": {5, 0x18b, 1}, "reserved 19f": {5, 0x19f, 1},
		"reserved 1eb": {5, 0x1eb, 1}, "reserved 1ef": {5, 0x1ef, 1}, "reserved 208": {5, 0x208, 1},
		"reserved 29f": {5, 0x29f, 1}, "behind the signature": {5, 0x330, 1}, "last byte": {5, ReportSize - 1, 1},
		"family in version 2": {2, 0x188, 1}, "mitigations in version 4": {4, 0x1f8, 1}, "mitigations in version 3": {3, 0x207, 1},
	} {
		b := minimal(c.version)
		b[c.at] = c.value
		if _, err := ParseReport(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseReport(append(minimal(5), 0)); err == nil {
		t.Error("a trailing byte: accepted")
	}
}

func FuzzReport(f *testing.F) {
	for v := uint32(2); v <= 5; v++ {
		f.Add(minimal(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err == nil && (len(b) != ReportSize || r.VMPL > 3 || r.Policy&(1<<17) == 0) {
			t.Errorf("accepted %d bytes: %+v", len(b), r)
		}
	})
}

func FuzzCertTable(f *testing.F) {
	f.Add(EncodeCertTable([]CertEntry{{GUIDVCEK, []byte("vcek")}, {GUIDASK, nil}}))
	f.Add(EncodeCertTable(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := ParseCertTable(b)
		if err != nil {
			return
		}
		if len(rows) > maxTableRows {
			t.Fatalf("%d entries, at most %d", len(rows), maxTableRows)
		}
		total := 0
		for _, r := range rows {
			total += len(r.Data)
		}
		if total > maxTable/2 {
			return // entries may share bytes: together they may not fit again
		}
		again, err := ParseCertTable(EncodeCertTable(rows))
		if err != nil || len(again) != len(rows) {
			t.Fatalf("found %v, %v after encoding again", again, err)
		}
		for i := range rows {
			if rows[i].GUID != again[i].GUID || !bytes.Equal(rows[i].Data, again[i].Data) {
				t.Errorf("entry %d changes when encoded again", i)
			}
		}
	})
}
