package tpm

import (
	"bytes"
	"fmt"
)

// Bounds on event logs. Real ones have some 60 kB and 20 to 200 events.
const (
	MaxLog        = 4 << 20
	MaxEvents     = 1 << 15
	maxAlgorithms = 8
)

// Event types (TCG PC Client Platform Firmware Profile, section "Event Types") that
// are treated in a way of their own.
const (
	evNoAction     = 0x00000003
	evSeparator    = 0x00000004
	evAction       = 0x00000005
	evSCRTMVersion = 0x00000008
	evDriverConfig = 0x80000001
	evGPT          = 0x80000006
	evEFIAction    = 0x80000007
)

// Digest is one algorithm's digest of an event.
type Digest struct {
	Algorithm Algorithm
	Value     []byte
}

// Event is a TCG_PCR_EVENT2. Type and Data are not authenticated: the registers hold
// digests alone.
type Event struct {
	Number  int // of the event in the log, from 1; the Spec ID event is 0
	Offset  int // of its first byte
	Size    int // in bytes
	Index   uint32
	Type    uint32
	Digests []Digest // in the order of Log.Algorithms
	Data    []byte
}

// Log is a crypto-agile event log taken apart.
type Log struct {
	Algorithms []Digest // id, and Value of the digest's size; from the Spec ID event
	First      int      // the Spec ID event's size, in bytes
	Events     []Event
	Padding    int // how many bytes of 0x00 or 0xff follow the last event
}

// ParseLog reads a crypto-agile log (TCG PC Client Platform Firmware Profile, section
// "Crypto Agile Log Entry Format"), which is a CCEL's form too. Firmware hands out a
// buffer of fixed size: after the last event zeros or 0xff may fill it, and nothing
// else.
func ParseLog(b []byte) (*Log, error) {
	if len(b) > MaxLog {
		return nil, fmt.Errorf("tpm: event log: found %d bytes, at most %d", len(b), MaxLog)
	}
	r := &reader{b: b}
	l := &Log{}
	l.specID(r)
	for r.err == nil && r.at < len(b) {
		if p := b[r.at:]; p[0] == 0xff || len(p) < 12 || bytes.Count(p[:12], []byte{0}) == 12 {
			l.Padding = len(p)
			if bytes.Count(p, p[:1]) != len(p) || p[0] != 0 && p[0] != 0xff {
				r.fail("found neither an event nor padding of one value at offset %d", r.at)
			}
			break
		}
		if len(l.Events) == MaxEvents {
			return nil, fmt.Errorf("tpm: event log: found more than %d events", MaxEvents)
		}
		l.event(r)
		if r.err != nil {
			return nil, fmt.Errorf("tpm: event log: event %d: %w", len(l.Events)+1, r.err)
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("tpm: event log: %w", r.err)
	}
	return l, nil
}

// specID reads the first event, a TCG_PCClientPCREvent with a TCG_EfiSpecIdEvent,
// which lists the algorithms.
func (l *Log) specID(r *reader) {
	r.u32("Spec ID event: PCRIndex")
	if t := r.u32("Spec ID event: EventType"); r.err == nil && t != evNoAction {
		r.fail("Spec ID event: found the type %#x, wanted EV_NO_ACTION: this is no crypto-agile log", t)
	}
	r.take(20, "Spec ID event: Digest")
	n := r.u32("Spec ID event: EventSize")
	data := r.take(int(min(n, MaxLog)), "Spec ID event: Event")
	if r.err != nil {
		return
	}
	l.First = r.at
	s := &reader{b: data}
	if sig := s.take(16, "Signature"); s.err == nil && string(sig) != "Spec ID Event03\x00" {
		s.fail("Signature: found %.16q, wanted %q", sig, "Spec ID Event03\x00")
	}
	s.take(8, "platformClass, version, errata, uintnSize")
	count := s.u32("numberOfAlgorithms")
	if s.err == nil && (count == 0 || count > maxAlgorithms) {
		s.fail("numberOfAlgorithms: found %d, wanted 1 to %d", count, maxAlgorithms)
	}
	for range count {
		if s.err != nil {
			break
		}
		d := Digest{Algorithm: Algorithm(s.u16("algorithmId"))}
		size := s.u16("digestSize")
		if size == 0 || size > maxDigest {
			s.fail("digestSize: found %d, wanted 1 to %d", size, maxDigest)
			break
		}
		if h, err := d.Algorithm.hash(); err == nil && h.Size() != int(size) {
			s.fail("digestSize: found %d for %s, wanted %d", size, d.Algorithm, h.Size())
		}
		if l.position(d.Algorithm) >= 0 {
			s.fail("the algorithm %s stands twice", d.Algorithm)
		}
		d.Value = make([]byte, size)
		l.Algorithms = append(l.Algorithms, d)
	}
	s.take(int(s.u8("vendorInfoSize")), "vendorInfo")
	if err := s.end(); err != nil {
		r.fail("Spec ID event: %w", err)
	}
}

func (l *Log) position(a Algorithm) int {
	for i, d := range l.Algorithms {
		if d.Algorithm == a {
			return i
		}
	}
	return -1
}

// event reads a TCG_PCR_EVENT2: a digest for each algorithm, in their order.
func (l *Log) event(r *reader) {
	e := Event{Number: len(l.Events) + 1, Offset: r.at}
	e.Index = r.u32("PCRIndex")
	e.Type = r.u32("EventType")
	if n := r.u32("Digests.count"); r.err == nil && int64(n) != int64(len(l.Algorithms)) {
		r.fail("Digests.count: found %d, wanted %d", n, len(l.Algorithms))
	}
	for _, want := range l.Algorithms {
		if r.err != nil {
			return
		}
		a := Algorithm(r.u16("AlgorithmId"))
		if r.err == nil && a != want.Algorithm {
			r.fail("AlgorithmId: found %s, wanted %s", a, want.Algorithm)
		}
		e.Digests = append(e.Digests, Digest{a, r.take(len(want.Value), "Digest")})
	}
	n := r.u32("EventSize")
	e.Data = r.take(int(min(n, MaxLog+1)), "Event")
	e.Size = r.at - e.Offset
	if r.err == nil {
		l.Events = append(l.Events, e)
	}
}

// digest is the event's digest by the algorithm at that position of the log.
func (e *Event) digest(position int) []byte { return e.Digests[position].Value }

// selfHashed says that the profile defines the event's digest as the hash of its data,
// so that data which was changed shows.
func (e *Event) selfHashed() bool {
	switch e.Type {
	case evSeparator, evAction, evSCRTMVersion, evDriverConfig, evGPT, evEFIAction:
		return true
	}
	return false
}

// name is the event's type, as the profile spells it, for people.
func (e *Event) name() string {
	switch e.Type {
	case 0x0:
		return "EV_PREBOOT_CERT"
	case 0x1:
		return "EV_POST_CODE"
	case evNoAction:
		return "EV_NO_ACTION"
	case evSeparator:
		return "EV_SEPARATOR"
	case evAction:
		return "EV_ACTION"
	case 0x6:
		return "EV_EVENT_TAG"
	case 0x7:
		return "EV_S_CRTM_CONTENTS"
	case evSCRTMVersion:
		return "EV_S_CRTM_VERSION"
	case 0x9:
		return "EV_CPU_MICROCODE"
	case 0xa:
		return "EV_PLATFORM_CONFIG_FLAGS"
	case 0xb:
		return "EV_TABLE_OF_DEVICES"
	case 0xc:
		return "EV_COMPACT_HASH"
	case 0xd:
		return "EV_IPL"
	case evDriverConfig:
		return "EV_EFI_VARIABLE_DRIVER_CONFIG"
	case 0x80000002:
		return "EV_EFI_VARIABLE_BOOT"
	case 0x80000003:
		return "EV_EFI_BOOT_SERVICES_APPLICATION"
	case 0x80000004:
		return "EV_EFI_BOOT_SERVICES_DRIVER"
	case 0x80000005:
		return "EV_EFI_RUNTIME_SERVICES_DRIVER"
	case evGPT:
		return "EV_EFI_GPT_EVENT"
	case evEFIAction:
		return "EV_EFI_ACTION"
	case 0x80000008:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB"
	case 0x80000009:
		return "EV_EFI_HANDOFF_TABLES"
	case 0x8000000a:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB2"
	case 0x8000000b:
		return "EV_EFI_HANDOFF_TABLES2"
	case 0x8000000c:
		return "EV_EFI_VARIABLE_BOOT2"
	case 0x800000e0:
		return "EV_EFI_VARIABLE_AUTHORITY"
	}
	return fmt.Sprintf("%#08x", e.Type)
}
