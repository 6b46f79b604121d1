package synthetic

import (
	"encoding/binary"

	"github.com/donjon-tee/donjon/attest/snp"
)

// Report is a right report of the hierarchy's product, of version 2 to 5, with no
// signature: a production guest at VMPL 0 on a platform of a recent level.
func (a *AMD) Report(version uint32) snp.Report {
	r := snp.Report{Version: version, GuestSVN: 1, Policy: 0x3001f, SignatureAlgo: 1, PlatformInfo: 0x25,
		CurrentBuild: 1, CurrentMinor: 58, CurrentMajor: 1, CommittedBuild: 1, CommittedMinor: 58, CommittedMajor: 1}
	var tcb snp.TCB
	family, model := byte(0x19), byte(0x11)
	chip := 64
	switch a.Product {
	case snp.Milan:
		tcb, model = 4|27<<48|222<<56, 0x01
	case snp.Turin:
		tcb, family, model, chip = 1|1<<8|1<<16|4<<24|81<<56, 0x1a, 0x02, 8
	default:
		tcb = 10 | 25<<48 | 84<<56
	}
	r.CurrentTCB, r.ReportedTCB, r.CommittedTCB, r.LaunchTCB = tcb, tcb, tcb, tcb
	if version >= 3 {
		r.CPUFamily, r.CPUModel, r.CPUStepping = family, model, 1
	}
	if version >= 5 {
		r.LaunchMitigate, r.CurrentMitigate = 3, 3
	}
	amdFill(r.ChipID[:chip], 0xc0)
	amdFill(r.ReportData[:], 0xda)
	amdFill(r.Measurement[:], 0x3e)
	amdFill(r.HostData[:], 0x40)
	amdFill(r.ReportID[:], 0x1d)
	for i := range r.ReportIDMA {
		r.ReportIDMA[i] = 0xff // no migration agent
	}
	return r
}

func amdFill(b []byte, first byte) {
	for i := range b {
		b[i] = first + byte(i)
	}
}

// EncodeSNPReport is the reverse of snp.ParseReport, the signature left zero. It
// checks nothing: any field may be wrong.
func EncodeSNPReport(r snp.Report) []byte {
	b := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b, r.Version)
	le.PutUint32(b[0x04:], r.GuestSVN)
	le.PutUint64(b[0x08:], r.Policy)
	copy(b[0x10:], r.FamilyID[:])
	copy(b[0x20:], r.ImageID[:])
	le.PutUint32(b[0x30:], r.VMPL)
	le.PutUint32(b[0x34:], r.SignatureAlgo)
	le.PutUint64(b[0x38:], uint64(r.CurrentTCB))
	le.PutUint64(b[0x40:], r.PlatformInfo)
	le.PutUint32(b[0x48:], r.KeyInfo)
	copy(b[0x50:], r.ReportData[:])
	copy(b[0x90:], r.Measurement[:])
	copy(b[0xc0:], r.HostData[:])
	copy(b[0xe0:], r.IDKeyDigest[:])
	copy(b[0x110:], r.AuthorKeyDigest[:])
	copy(b[0x140:], r.ReportID[:])
	copy(b[0x160:], r.ReportIDMA[:])
	le.PutUint64(b[0x180:], uint64(r.ReportedTCB))
	b[0x188], b[0x189], b[0x18a] = r.CPUFamily, r.CPUModel, r.CPUStepping
	copy(b[0x1a0:], r.ChipID[:])
	le.PutUint64(b[0x1e0:], uint64(r.CommittedTCB))
	b[0x1e8], b[0x1e9], b[0x1ea] = r.CurrentBuild, r.CurrentMinor, r.CurrentMajor
	b[0x1ec], b[0x1ed], b[0x1ee] = r.CommittedBuild, r.CommittedMinor, r.CommittedMajor
	le.PutUint64(b[0x1f0:], uint64(r.LaunchTCB))
	le.PutUint64(b[0x1f8:], r.LaunchMitigate)
	le.PutUint64(b[0x200:], r.CurrentMitigate)
	return b
}
