package snp

import (
	"strings"
	"testing"
)

func TestLayoutHasNoGaps(t *testing.T) {
	fields, err := Layout(minimal(5))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, f := range fields {
		if f.Offset != at || f.Size <= 0 {
			t.Errorf("%s: found offset %#x, wanted %#x", f.Name, f.Offset, at)
		}
		at = f.Offset + f.Size
	}
	if at != ReportSize {
		t.Errorf("the fields end at %#x, wanted %#x", at, ReportSize)
	}
	if _, err := Layout(make([]byte, ReportSize-1)); err == nil {
		t.Error("a report that is too short: no error")
	}
}

func TestLayoutReal(t *testing.T) {
	for name, want := range map[string][]string{
		"turin-v5.report.bin": {
			"VERSION 5 ", "POLICY 0x3001f ABI 0.31, SMT, reserved, 1", "CURRENT_TCB 5100000004010101 FMC 1, BOOT_LOADER 1, TEE 1, SNP 4, MICROCODE 81",
			"PLATFORM_INFO 0x65 SMT_EN, ECC_EN, ALIAS_CHECK_COMPLETE, IOMMU_WRITE_SAFE", "KEY_INFO 0x0 SIGNING_KEY vcek, no bit set",
			"CPUID_FAM_ID 0x1a Turin", "LAUNCH_MIT_VECTOR 0x3f ", "CURRENT_MAJOR 1 ", "CURRENT_MINOR 55 ", "CURRENT_BUILD 65 "},
		"milan-v3-vlek.report.bin": {
			"VMPL 1 ", "KEY_INFO 0x4 SIGNING_KEY vlek, no bit set", "REPORTED_TCB d918000000000004 BOOT_LOADER 4, TEE 0, SNP 24, MICROCODE 217",
			"CHIP_ID " + strings.Repeat("00", 64) + " hidden by the host", "LAUNCH_MIT_VECTOR 0x0 reserved before version 5"},
		"milan-v2.report.bin": {"CPUID_FAM_ID 0x0 reserved before version 3", "GUEST_SVN 4 "},
	} {
		fields, err := Layout(evidence(t, name))
		if err != nil {
			t.Fatal(err)
		}
		lines := map[string]bool{}
		for _, f := range fields {
			lines[f.Name+" "+f.Value+" "+f.Note] = true
		}
		for _, w := range want {
			if !lines[w] {
				t.Errorf("%s: no line %q in %v", name, w, fields)
			}
		}
	}
}

func TestTableLayout(t *testing.T) {
	b := EncodeCertTable([]CertEntry{{GUIDVCEK, []byte("vcek")}, {GUIDARK, []byte("ark")}})
	fields, err := TableLayout(b)
	if err != nil || len(fields) != 9 {
		t.Fatalf("found %+v, %v", fields, err)
	}
	covered := 0
	for _, f := range fields {
		covered += f.Size
		if f.Offset+f.Size > len(b) {
			t.Errorf("%+v reaches over the end", f)
		}
	}
	if covered != len(b) {
		t.Errorf("the fields cover %d of %d bytes", covered, len(b))
	}
	if last := fields[8]; last.Name != "ENTRY[1].ARK" || last.Value != "61726b" {
		t.Errorf("found %+v", last)
	}
	if _, err := TableLayout(b[:10]); err == nil {
		t.Error("a cut table: no error")
	}
}
