package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Replayed is what a log's registers come to.
type Replayed struct {
	// Banks maps a bank (sha256, sha384, sha512) to its registers by the log's index: a
	// PCR's number in a TPM's log; in a CCEL 1 to 4 for RTMR0 to RTMR3. Registers
	// without an event are left out.
	Banks map[string]map[int]claims.Hex
	// Wrong names the first event whose digest is not the hash of its data, though its
	// type demands that; "": none.
	Wrong string

	events map[int][]string // a register's events, for people
}

// maxRegister bounds a register's index in a log.
const maxRegister = 31

// Replay extends the events of a crypto-agile log, in every bank with a hash to be
// relied on. A log without such a bank, as one of SHA-1 alone, is an error.
func Replay(log []byte) (*Replayed, error) {
	l, err := ParseLog(log)
	if err != nil {
		return nil, err
	}
	out := &Replayed{Banks: map[string]map[int]claims.Hex{}, events: map[int][]string{}}
	for i, a := range l.Algorithms {
		if _, err := a.Algorithm.hash(); err != nil {
			continue
		}
		if out.Banks[a.Algorithm.String()], err = l.replay(i, out); err != nil {
			return nil, err
		}
	}
	if len(out.Banks) == 0 {
		return nil, errors.New("tpm: event log: found no bank of sha256, sha384 or sha512")
	}
	for _, e := range l.Events {
		if e.Type != evNoAction {
			out.events[int(e.Index)] = append(out.events[int(e.Index)], strconv.Itoa(e.Number))
		}
	}
	return out, nil
}

// replay gives one bank's registers.
func (l *Log) replay(position int, out *Replayed) (map[int]claims.Hex, error) {
	hash, err := l.Algorithms[position].Algorithm.hash()
	if err != nil {
		return nil, err
	}
	regs := map[int]claims.Hex{}
	locality := byte(0)
	for _, e := range l.Events {
		if e.Type == evNoAction { // extends nothing
			if at, ok := startupLocality(&e); ok && regs[0] == nil {
				locality = at
			}
			continue
		}
		if e.Index > maxRegister {
			return nil, fmt.Errorf("tpm: event log: event %d at offset %d: found the register %d, at most %d", e.Number, e.Offset, e.Index, maxRegister)
		}
		i := int(e.Index)
		if regs[i] == nil {
			regs[i] = make(claims.Hex, hash.Size())
			if i == 0 {
				regs[0][hash.Size()-1] = locality
			}
		}
		h := hash.New()
		h.Write(regs[i])
		h.Write(e.digest(position))
		regs[i] = h.Sum(nil)
		if out.Wrong == "" && e.selfHashed() {
			h := hash.New()
			h.Write(e.Data)
			if sum := h.Sum(nil); !bytes.Equal(sum, e.digest(position)) {
				out.Wrong = fmt.Sprintf("event %d at offset %d (%s, register %d): its digest is %x, its data's %x", e.Number, e.Offset, e.name(), e.Index, e.digest(position), sum)
			}
		}
	}
	return regs, nil
}

// startupLocality reads a TCG_EfiStartupLocalityEvent: from which locality the TPM was
// started, which is what PCR 0 begins with.
func startupLocality(e *Event) (byte, bool) {
	const sig = "StartupLocality\x00"
	if e.Index == 0 && len(e.Data) == len(sig)+1 && string(e.Data[:len(sig)]) == sig {
		return e.Data[len(sig)], true
	}
	return 0, false
}

const profile = "TCG PC Client Platform Firmware Profile, crypto-agile log"

// bootOnly says that firmware and boot loader alone extend the register: what it holds
// must be what the log says. The others the running system extends too (10: IMA; 11,
// 12, 13 and 15: systemd), in logs of its own; of them a mismatch is told and fails
// nothing.
func bootOnly(pcr int) bool { return pcr < 10 || pcr == 14 }

// CheckPCRs is the check event-log: the log replays to the registers that the quote
// proves, those of firmware and boot loader. bank and pcrs are those of TPMClaims. A
// register of the firmware (0 to 7) without an event must be zero.
func CheckPCRs(log []byte, bank string, pcrs map[int]claims.Hex) verdict.Check {
	r, err := Replay(log)
	if err != nil {
		return verdict.Fail(verdict.EventLog, err.Error(), "a crypto-agile event log").From(profile)
	}
	regs, ok := r.Banks[bank]
	if !ok {
		return verdict.Fail(verdict.EventLog, "a log without the bank "+bank, "the quote's bank").From(profile)
	}
	names := map[int]string{}
	want := map[int]claims.Hex{}
	var more []string
	for i := range maxRegister + 1 {
		signed := pcrs[i]
		if signed == nil {
			continue
		}
		names[i] = fmt.Sprintf("PCR %d", i)
		if regs[i] == nil && i < 8 {
			regs[i] = make(claims.Hex, len(signed))
		}
		if !bootOnly(i) && regs[i] != nil && !bytes.Equal(regs[i], signed) {
			more = append(more, names[i])
			continue
		}
		want[i] = signed
	}
	k := r.compare(regs, want, names)
	if len(more) > 0 {
		k.Found += "; the running system extended further: " + strings.Join(more, ", ")
	}
	return k
}

// CheckRTMRs is the check event-log for a TD: the CCEL replays to RTMR0 to RTMR3 of a
// quote whose signature holds, 48 bytes each. RTMR3, which the guest's own software
// extends, is compared where the log has events for it.
//
// Source: UEFI Specification, EFI_CC_MEASUREMENT_PROTOCOL: index 1 is RTMR0.
func CheckRTMRs(ccel []byte, rtmr [4]claims.Hex) verdict.Check {
	r, err := Replay(ccel)
	if err != nil {
		return verdict.Fail(verdict.EventLog, err.Error(), "a crypto-agile event log (CCEL)").From(profile)
	}
	regs, ok := r.Banks["sha384"]
	if !ok {
		return verdict.Fail(verdict.EventLog, "a CCEL without the bank sha384", "RTMRs are SHA-384").From(profile)
	}
	want, names := map[int]claims.Hex{}, map[int]string{}
	for i, v := range rtmr {
		if regs[i+1] == nil {
			if i == 3 {
				continue
			}
			regs[i+1] = make(claims.Hex, 48) // no event: as at launch
		}
		want[i+1], names[i+1] = v, fmt.Sprintf("RTMR%d", i)
	}
	for i := range regs {
		if i < 1 || i > 4 {
			return verdict.Fail(verdict.EventLog, fmt.Sprintf("an event for the register %d", i), "a CCEL's registers, 1 to 4").From(profile)
		}
	}
	return r.compare(regs, want, names)
}

// from names a register's events, at most 32 of them.
func (r *Replayed) from(register int) string {
	events := r.events[register]
	switch n := len(events); {
	case n == 0:
		return "no event"
	case n > 32:
		return fmt.Sprintf("the events %s and %d more", strings.Join(events[:32], ", "), n-32)
	}
	return "the events " + strings.Join(events, ", ")
}

func (r *Replayed) compare(regs, want map[int]claims.Hex, names map[int]string) verdict.Check {
	var same []string
	for i := range maxRegister + 1 {
		found, signed := regs[i], want[i]
		if found == nil || signed == nil {
			continue
		}
		if !bytes.Equal(found, signed) {
			why := fmt.Sprintf("%s replays to %s from %s", names[i], found, r.from(i))
			if r.Wrong != "" {
				why += "; " + r.Wrong
			}
			return verdict.Fail(verdict.EventLog, why, signed.String()+" in the quote").From(profile).
				Advise("an event was changed, removed or added after it was measured, or the log is another boot's")
		}
		same = append(same, names[i])
	}
	switch {
	case r.Wrong != "":
		return verdict.Fail(verdict.EventLog, r.Wrong, "digests that are the hash of the event's data").From(profile).
			Advise("the registers hold, but the log's data was changed")
	case len(same) == 0:
		return verdict.Skip(verdict.EventLog, "the log extends no register that the quote proves", "quote the registers that the log is about").From(profile)
	}
	return verdict.Pass(verdict.EventLog, "replays to "+strings.Join(same, ", ")).From(profile)
}
