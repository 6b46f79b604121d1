package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/platform"
)

func platformApp() (*app, *bytes.Buffer, *bytes.Buffer) {
	var out, err bytes.Buffer
	return &app{stdin: strings.NewReader(""), stdout: &out, stderr: &err, getenv: func(string) string { return "" }}, &out, &err
}

func TestPlatformOutput(t *testing.T) {
	a, out, _ := platformApp()
	r := platform.Report{
		System: platform.System{OS: "linux", Kernel: "6.12", Arch: "amd64", CPU: "cpu"},
		Backends: []platform.Backend{
			{Name: "snp", Title: "AMD SEV-SNP", TEE: true, Checks: []platform.Check{
				{Title: "met", Status: platform.Passed, Required: true, Found: "yes", Wanted: "yes", Hint: "not printed"},
				{Title: "missed", Status: platform.Failed, Required: true, Found: "no", Wanted: "yes", Hint: "do this"},
				{Title: "nice to have", Status: platform.Failed, Found: "no"},
				{Title: "unknown", Status: platform.NotMade, Required: true, Found: "nobody knows", Hint: "not printed"},
			}},
			{Name: "sim", Title: "sandboxed process", Note: "not a TEE: for development", Ready: true},
		},
	}
	if err := a.printPlatform(r); err != nil {
		t.Fatal(err)
	}
	want := `
✗ snp: AMD SEV-SNP
  ✔ met: yes
  ✗ missed: no; wanted yes
      do this
  ✗ (optional) nice to have: no
  - unknown: nobody knows

✔ sim: sandboxed process
  not a TEE: for development
`
	_, body, _ := strings.Cut(out.String(), "\n")
	if !strings.HasPrefix(body, want) {
		t.Errorf("found\n%s\nwanted\n%s", body, want)
	}
}

// THREATS T30: what a host says about itself cannot forge lines or steer the
// terminal.
func TestT30PlatformEscapes(t *testing.T) {
	a, out, _ := platformApp()
	hostile := "x\n  ✔ SEV-SNP: yes\x1b[2J\u202e"
	r := platform.Report{
		System:   platform.System{OS: "linux", Kernel: hostile, CPU: hostile},
		Backends: []platform.Backend{{Name: "snp", Checks: []platform.Check{{Title: "cpu", Status: platform.Failed, Found: hostile}}}},
	}
	if err := a.printPlatform(r); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.ContainsAny(s, "\x1b\u202e") || strings.Contains(s, "\n  ✔ SEV-SNP") {
		t.Errorf("found %q", s)
	}
}

func TestPlatformJSON(t *testing.T) {
	a, out, errs := platformApp()
	if status := a.run([]string{"platform", "--json"}); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	var got struct {
		Donjon   versionInfo
		System   platform.System
		Backends []platform.Backend
	}
	d := json.NewDecoder(out)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if len(got.Backends) != 6 || got.System.Kernel == "" || got.Donjon.Version == "" {
		t.Errorf("found %d backends, kernel %q, version %q", len(got.Backends), got.System.Kernel, got.Donjon.Version)
	}
}

// The command and the page show the same rows.
func TestPlatformKnown(t *testing.T) {
	page, err := os.ReadFile("../../docs/hardware.md")
	if err != nil {
		t.Fatal(err)
	}
	a, out, errs := platformApp()
	if status := a.run([]string{"platform", "--known", "--json"}); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	var rows []platform.Product
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	text, textOut, _ := platformApp()
	if status := text.run([]string{"platform", "--known"}); status != 0 {
		t.Fatal(status)
	}
	for _, p := range rows {
		row := "| " + p.Product + " (" + p.Codename + ") | " + p.TEE + " | " + p.Firmware + " | " + p.HostKernel + " |"
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/hardware.md has not %q", row)
		}
		if !strings.Contains(textOut.String(), p.TEE+": "+p.Product+" ("+p.Codename+")\n") {
			t.Errorf("--known does not name %s", p.Product)
		}
	}
	if n := strings.Count(string(page), "\n| ") - 1; n != len(rows) {
		t.Errorf("docs/hardware.md has %d rows, --known %d", n, len(rows))
	}
}

func TestPlatformTakesNoArguments(t *testing.T) {
	a, _, _ := platformApp()
	if status := a.run([]string{"platform", "snp"}); status != statusUsage {
		t.Errorf("status %d, wanted %d", status, statusUsage)
	}
}
