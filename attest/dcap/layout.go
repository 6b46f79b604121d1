package dcap

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/layout"
)

// Layout describes a quote field by field. It is for looking at, so it goes as far
// as the bytes go: with the fields it found comes the error that ended it.
func Layout(quote []byte) ([]layout.Field, error) {
	q, err := ParseQuote(quote)
	l := &lister{r: reader{b: quote[:min(len(quote), MaxQuote)]}}
	l.quote()
	if err == nil && q.Padding > 0 {
		l.add(q.Padding, "padding", "zeros that the quoting service put behind the quote")
	}
	return l.out, err
}

// lister walks the bytes once more and writes down what it passes.
type lister struct {
	r   reader
	out []layout.Field
}

// add describes n bytes as hexadecimal.
func (l *lister) add(n int, name, note string) []byte {
	at := l.r.off
	b := l.r.take(n, name)
	if l.r.err != nil {
		return nil
	}
	v := hex.EncodeToString(b[:min(len(b), 96)])
	if len(b) > 96 {
		v += "…"
	}
	l.out = append(l.out, layout.Field{Offset: at, Size: n, Name: name, Value: v, Note: note})
	return b
}

// number describes a little endian number.
func (l *lister) number(n int, name string, note func(uint64) string) uint64 {
	b := l.add(n, name, "")
	if b == nil {
		return 0
	}
	var v uint64
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	f := &l.out[len(l.out)-1]
	f.Value = fmt.Sprint(v)
	if note != nil {
		f.Note = note(v)
	}
	return v
}

func say(s string) func(uint64) string { return func(uint64) string { return s } }

func named(names map[uint64]string) func(uint64) string {
	return func(v uint64) string {
		if s, ok := names[v]; ok {
			return s
		}
		return "unknown"
	}
}

func (l *lister) quote() {
	version := l.number(2, "header.version", nil)
	l.number(2, "header.att_key_type", named(map[uint64]string{2: "ECDSA P-256", 3: "ECDSA P-384"}))
	tee := l.number(4, "header.tee_type", named(map[uint64]string{0: "SGX", teeTDX: "TDX"}))
	l.number(2, "header.qe_svn", say("versions 4 and 5: reserved"))
	l.number(2, "header.pce_svn", say("versions 4 and 5: reserved"))
	l.add(16, "header.qe_vendor_id", "939a7233f79c4ca9940a0db3957f0607 is Intel's")
	l.add(20, "header.user_data", "the first 16 bytes name the QE")
	body := uint64(BodySGX)
	if tee == teeTDX {
		body = BodyTDX10
	}
	if version == 5 {
		body = l.number(2, "body_descriptor.type", named(map[uint64]string{BodySGX: "SGX", BodyTDX10: "TDX 1.0", BodyTDX15: "TDX 1.5"}))
		l.number(4, "body_descriptor.size", nil)
	}
	switch body {
	case BodySGX:
		l.enclave("body.")
	case BodyTDX10, BodyTDX15:
		l.td(body == BodyTDX15)
	default:
		return
	}
	l.number(4, "signature_data_len", nil)
	l.add(64, "signature.quote", "r and s, big endian, by the attestation key over header and body")
	l.add(64, "signature.attestation_key", "x and y, big endian")
	if version > 3 {
		l.number(2, "certification_data.type", certNote)
		l.number(4, "certification_data.size", nil)
	}
	l.enclave("qe_report.")
	l.add(64, "qe_report_signature", "r and s, big endian, by the PCK over the QE report")
	l.add(int(l.number(2, "qe_auth_data.size", nil)), "qe_auth_data.data", "")
	kind := l.number(2, "qe_certification_data.type", certNote)
	note := ""
	if kind == 5 {
		note = "PEM: PCK, CA, root"
	}
	size := l.number(4, "qe_certification_data.size", nil)
	if size <= MaxQuote {
		l.add(int(size), "qe_certification_data.data", note)
	}
}

func certNote(v uint64) string {
	return named(map[uint64]string{1: "PPID", 2: "encrypted PPID, RSA-2048", 3: "encrypted PPID, RSA-3072: no PCK chain",
		4: "PCK certificate", 5: "PCK chain", 6: "QE report certification data", 7: "platform manifest"})(v)
}

// bits names the bits that are set.
func bits(b []byte, names map[int]string) string {
	if len(b) != 8 {
		return ""
	}
	v := binary.LittleEndian.Uint64(b)
	var out []string
	for i := range 64 {
		if v>>i&1 == 0 {
			continue
		}
		if n, ok := names[i]; ok {
			out = append(out, n)
		} else {
			out = append(out, fmt.Sprintf("bit %d", i))
		}
	}
	if out == nil {
		return "no bit is set"
	}
	return strings.Join(out, ", ")
}

// note puts a remark to the last field.
func (l *lister) note(s string) {
	if l.r.err == nil && len(l.out) > 0 {
		l.out[len(l.out)-1].Note = s
	}
}

func xfeatures() map[int]string {
	return map[int]string{0: "x87", 1: "SSE", 2: "AVX", 3: "BNDREGS", 4: "BNDCSR", 5: "opmask", 6: "ZMM_Hi256", 7: "Hi16_ZMM", 8: "PT",
		9: "PKRU", 10: "PASID", 11: "CET_U", 12: "CET_S", 13: "HDC", 14: "UINTR", 15: "LBR", 16: "HWP", 17: "XTILECFG", 18: "XTILEDATA", 19: "APX"}
}

func (l *lister) enclave(p string) {
	l.add(16, p+"cpusvn", "")
	l.number(4, p+"miscselect", func(v uint64) string {
		return bits(binary.LittleEndian.AppendUint64(nil, v), map[int]string{0: "EXINFO", 1: "CPINFO"})
	})
	l.add(1, p+"cet_attributes", "")
	l.add(11, p+"reserved1", "zero")
	l.add(16, p+"isvextprodid", "with KSS")
	l.note(bits(l.add(8, p+"attributes.flags", ""), map[int]string{0: "INIT", 1: "DEBUG", 2: "MODE64BIT", 4: "PROVISIONKEY", 5: "EINITTOKENKEY", 6: "CET", 7: "KSS", 10: "AEXNOTIFY"}))
	l.note(bits(l.add(8, p+"attributes.xfrm", ""), xfeatures()))
	l.add(32, p+"mrenclave", "the enclave's measurement")
	l.add(32, p+"reserved2", "zero")
	l.add(32, p+"mrsigner", "SHA-256 of the signer's modulus")
	l.add(32, p+"reserved3", "zero")
	l.add(64, p+"configid", "with KSS; given at launch")
	l.number(2, p+"isvprodid", nil)
	l.number(2, p+"isvsvn", nil)
	l.number(2, p+"configsvn", say("with KSS; given at launch"))
	l.add(42, p+"reserved4", "zero")
	l.add(16, p+"isvfamilyid", "with KSS")
	l.add(64, p+"reportdata", map[bool]string{true: "SHA-256 of attestation key and authentication data, then zeros", false: "what the enclave wants said"}[p == "qe_report."])
}

func (l *lister) td(v15 bool) {
	const p = "body."
	if b := l.add(16, p+"tee_tcb_svn", ""); b != nil {
		l.note(svnNote(b))
	}
	l.add(48, p+"mrseam", "the TDX module's measurement")
	l.add(48, p+"mrsignerseam", "zero: Intel's module")
	l.add(8, p+"seamattributes", "zero: no debugging of the module")
	l.note(bits(l.add(8, p+"tdattributes", ""), map[int]string{0: "DEBUG", 4: "HGS_PLUS_PROF", 5: "PERF_PROF", 6: "PMT_PROF", 16: "ICSSD", 27: "LASS",
		28: "SEPT_VE_DISABLE", 29: "MIGRATABLE", 30: "PKS", 31: "KL", 62: "TPA", 63: "PERFMON"}))
	l.note(bits(l.add(8, p+"xfam", ""), xfeatures()))
	l.add(48, p+"mrtd", "the TD's measurement at launch")
	l.add(48, p+"mrconfigid", "given at launch: the workload's digest")
	l.add(48, p+"mrowner", "given at launch")
	l.add(48, p+"mrownerconfig", "given at launch")
	for i, note := range []string{"firmware configuration", "kernel and boot loader", "command line, initial RAM disk", "what runs in the TD"} {
		l.add(48, fmt.Sprintf("%srtmr%d", p, i), note)
	}
	l.add(64, p+"reportdata", "what the TD wants said")
	if v15 {
		if b := l.add(16, p+"tee_tcb_svn2", ""); b != nil {
			l.note("of the TCB that runs now: " + svnNote(b))
		}
		l.add(48, p+"mrservicetd", "the service TDs that are bound; zero: none")
	}
}

func svnNote(b []byte) string {
	return fmt.Sprintf("TDX module version %d, SVN %d; microcode SVN %d", b[1], b[0], b[2])
}
