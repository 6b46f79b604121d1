package synthetic

import (
	"crypto"
	_ "crypto/sha1" // logs that verifiers must refuse
	_ "crypto/sha512"
	"encoding/binary"

	"github.com/donjon-tee/donjon/attest/tpm"
)

// LogEvent is an event to be logged. Its digests are the hash of Data.
type LogEvent struct {
	Index, Type uint32
	Data        []byte
}

func logHash(a tpm.Algorithm) crypto.Hash {
	return map[tpm.Algorithm]crypto.Hash{tpm.AlgSHA1: crypto.SHA1, tpm.AlgSHA256: crypto.SHA256, tpm.AlgSHA384: crypto.SHA384, tpm.AlgSHA512: crypto.SHA512}[a]
}

// EventLog is a crypto-agile log in those banks, without padding.
func EventLog(banks []tpm.Algorithm, events ...LogEvent) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = le.AppendUint32(spec, uint32(len(banks)))
	for _, b := range banks {
		spec = le.AppendUint16(le.AppendUint16(spec, uint16(b)), uint16(logHash(b).Size()))
	}
	spec = append(spec, 0)
	out := le.AppendUint32(make([]byte, 4), 3)
	out = append(out, make([]byte, 20)...)
	out = append(le.AppendUint32(out, uint32(len(spec))), spec...)
	for _, e := range events {
		out = le.AppendUint32(le.AppendUint32(out, e.Index), e.Type)
		out = le.AppendUint32(out, uint32(len(banks)))
		for _, b := range banks {
			h := logHash(b).New()
			h.Write(e.Data)
			out = append(le.AppendUint16(out, uint16(b)), h.Sum(nil)...)
		}
		out = append(le.AppendUint32(out, uint32(len(e.Data))), e.Data...)
	}
	return out
}

// Registers are the 24 registers of a bank after those events, from zeros.
func Registers(bank tpm.Algorithm, events ...LogEvent) [][]byte {
	hash := logHash(bank)
	out := make([][]byte, 24)
	for i := range out {
		out[i] = make([]byte, hash.Size())
	}
	for _, e := range events {
		if e.Type == 3 || int(e.Index) >= len(out) { // EV_NO_ACTION extends nothing
			continue
		}
		d := hash.New()
		d.Write(e.Data)
		h := hash.New()
		h.Write(out[e.Index])
		h.Write(d.Sum(nil))
		out[e.Index] = h.Sum(nil)
	}
	return out
}

// BootEvents are a short boot: firmware, settings, Secure Boot, a boot loader, a
// kernel, and a separator in each of them.
func BootEvents() []LogEvent {
	out := []LogEvent{
		{0, 0x8, []byte("SYNTHETIC firmware 1")}, {7, 0x80000001, []byte("SYNTHETIC SecureBoot")},
		{4, 0x80000007, []byte("Calling EFI Application from Boot Option")}, {4, 0x80000003, []byte("SYNTHETIC loader")},
		{8, 0xd, []byte("SYNTHETIC command line")}, {9, 0xd, []byte("SYNTHETIC kernel")},
	}
	for i := range uint32(8) {
		out = append(out, LogEvent{i, 0x4, make([]byte, 4)})
	}
	return out
}
