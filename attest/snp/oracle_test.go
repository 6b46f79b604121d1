package snp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-sev-guest/abi"
)

// Another reader of the same bytes sees the same fields.
func TestOracleAgrees(t *testing.T) {
	for _, name := range []string{"milan-v2.report.bin", "milan-v3-vlek.report.bin", "turin-v5.report.bin"} {
		raw := evidence(t, name)
		r, err := ParseReport(raw)
		if err != nil {
			t.Fatal(err)
		}
		o, err := abi.ReportToProto(raw)
		if err != nil {
			t.Errorf("%s: the oracle refuses it: %v", name, err)
			continue
		}
		numbers := map[string][2]uint64{
			"version": {uint64(r.Version), uint64(o.Version)}, "guest SVN": {uint64(r.GuestSVN), uint64(o.GuestSvn)},
			"policy": {r.Policy, o.Policy}, "VMPL": {uint64(r.VMPL), uint64(o.Vmpl)},
			"current TCB": {uint64(r.CurrentTCB), o.CurrentTcb}, "platform info": {r.PlatformInfo, o.PlatformInfo},
			"key info": {uint64(r.KeyInfo), uint64(o.SignerInfo)}, "reported TCB": {uint64(r.ReportedTCB), o.ReportedTcb},
			"committed TCB": {uint64(r.CommittedTCB), o.CommittedTcb}, "launch TCB": {uint64(r.LaunchTCB), o.LaunchTcb},
			"current build": {uint64(r.CurrentBuild), uint64(o.CurrentBuild)}, "committed build": {uint64(r.CommittedBuild), uint64(o.CommittedBuild)},
			"current major": {uint64(r.CurrentMajor), uint64(o.CurrentMajor)}, "committed minor": {uint64(r.CommittedMinor), uint64(o.CommittedMinor)},
		}
		for field, n := range numbers {
			if n[0] != n[1] {
				t.Errorf("%s: %s: found %#x, the oracle %#x", name, field, n[0], n[1])
			}
		}
		for field, b := range map[string][2][]byte{
			"family id": {r.FamilyID[:], o.FamilyId}, "image id": {r.ImageID[:], o.ImageId},
			"report data": {r.ReportData[:], o.ReportData}, "measurement": {r.Measurement[:], o.Measurement},
			"host data": {r.HostData[:], o.HostData}, "ID key": {r.IDKeyDigest[:], o.IdKeyDigest},
			"author key": {r.AuthorKeyDigest[:], o.AuthorKeyDigest}, "report id": {r.ReportID[:], o.ReportId},
			"migration agent": {r.ReportIDMA[:], o.ReportIdMa}, "chip id": {r.ChipID[:], o.ChipId},
		} {
			if !bytes.Equal(b[0], b[1]) {
				t.Errorf("%s: %s: found %x, the oracle %x", name, field, b[0], b[1])
			}
		}
	}
}

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
