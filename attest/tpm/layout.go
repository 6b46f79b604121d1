package tpm

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/donjon-tee/donjon/attest/layout"
)

// fields collects fields of a structure that parses; sizes come from the bytes.
type fields struct {
	b   []byte
	at  int
	big bool
	out []layout.Field
}

func (f *fields) bytes(n int, name, note string) []byte {
	b := f.b[f.at : f.at+n]
	f.out = append(f.out, layout.Field{Offset: f.at, Size: n, Name: name, Value: hex.EncodeToString(b), Note: note})
	f.at += n
	return b
}

func (f *fields) number(n int, name, note string) uint64 {
	r := &reader{b: f.b[f.at : f.at+n], big: f.big}
	v := r.number(n, name)
	f.out = append(f.out, layout.Field{Offset: f.at, Size: n, Name: name, Value: strconv.FormatUint(v, 10), Note: note})
	f.at += n
	return v
}

func (f *fields) sized(name string) {
	n := int(f.number(2, name+".size", ""))
	if n > 0 {
		f.bytes(n, name, "")
	}
}

// LayoutAttest gives the fields of a TPMS_ATTEST that ParseAttest reads.
func LayoutAttest(b []byte) ([]layout.Field, error) {
	a, err := ParseAttest(b)
	if err != nil {
		return nil, err
	}
	f := &fields{b: b, big: true}
	f.bytes(4, "magic", "TPM_GENERATED_VALUE")
	f.bytes(2, "type", "TPM_ST_ATTEST_QUOTE")
	f.sized("qualifiedSigner")
	f.sized("extraData")
	f.number(8, "clockInfo.clock", "milliseconds")
	f.number(4, "clockInfo.resetCount", "")
	f.number(4, "clockInfo.restartCount", "")
	f.number(1, "clockInfo.safe", "")
	f.bytes(8, "firmwareVersion", "")
	for i := range f.number(4, "attested.pcrSelect.count", "") {
		name := fmt.Sprintf("attested.pcrSelect[%d].", i)
		h := Algorithm(f.b[f.at])<<8 | Algorithm(f.b[f.at+1])
		f.bytes(2, name+"hash", h.String())
		n := int(f.number(1, name+"sizeofSelect", ""))
		note := ""
		for _, s := range a.Selections {
			if s.Bank == h {
				note = fmt.Sprint("PCRs ", s.PCRs)
			}
		}
		f.bytes(n, name+"pcrSelect", note)
	}
	f.sized("attested.pcrDigest")
	return f.out, nil
}

// LayoutHCL gives the fields of an HCL report that ParseHCL reads; those of the
// report inside are package snp's, at offset 32.
func LayoutHCL(b []byte) ([]layout.Field, error) {
	c, err := ParseHCL(b)
	if err != nil {
		return nil, err
	}
	f := &fields{b: b}
	f.bytes(4, "signature", "HCLA")
	f.number(4, "version", "")
	f.number(4, "report_size", "")
	f.number(4, "request_type", "AK certificate")
	f.number(4, "status", "")
	f.bytes(12, "reserved", "")
	f.bytes(reportSize, "hw_report", "an SEV-SNP ATTESTATION_REPORT")
	size := f.number(4, "data_size", "")
	f.number(4, "data_version", "")
	f.number(4, "report_type", "SEV-SNP")
	f.number(4, "report_data_hash_type", "SHA-256")
	n := f.number(4, "variable_data_size", "")
	if size > dataHeader+n {
		f.bytes(4, "capabilities", "")
	}
	f.out = append(f.out, layout.Field{Offset: f.at, Size: int(n), Name: "variable_data", Value: string(c.RuntimeData), Note: "what the report data is the hash of"})
	f.at += int(n)
	if f.at < len(b) {
		f.bytes(len(b)-f.at, "padding", "")
	}
	return f.out, nil
}

// LayoutLog gives an event log's events, one field each with its digests as value.
func LayoutLog(b []byte) ([]layout.Field, error) {
	l, err := ParseLog(b)
	if err != nil {
		return nil, err
	}
	first := layout.Field{Size: l.First, Name: "event[0]", Note: "Spec ID Event03"}
	for i, a := range l.Algorithms {
		if i > 0 {
			first.Value += " "
		}
		first.Value += a.Algorithm.String()
	}
	out := []layout.Field{first}
	end := l.First
	for _, e := range l.Events {
		f := layout.Field{Offset: e.Offset, Size: e.Size, Name: fmt.Sprintf("event[%d]", e.Number), Note: fmt.Sprintf("register %d, %s", e.Index, e.name())}
		for i, d := range e.Digests {
			if i > 0 {
				f.Value += " "
			}
			f.Value += d.Algorithm.String() + ":" + hex.EncodeToString(d.Value)
		}
		out = append(out, f)
		end = e.Offset + e.Size
	}
	if l.Padding > 0 {
		out = append(out, layout.Field{Offset: end, Size: l.Padding, Name: "padding", Value: hex.EncodeToString(b[end : end+1]), Note: "this value throughout"})
	}
	return out, nil
}
