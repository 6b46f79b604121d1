package platform

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// docs/hardware.md is the table of known.go and nothing else.
func TestHardwarePage(t *testing.T) {
	const page = "../docs/hardware.md"
	want := KnownMarkdown(Known())
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what known.go says: go test ./platform -run Hardware -update", page)
	}
}

func TestKnownRows(t *testing.T) {
	tees := map[string]int{}
	seen := map[string]bool{}
	for _, p := range Known() {
		tees[p.TEE]++
		if seen[p.TEE+p.Product] {
			t.Errorf("%s is there twice", p.Product)
		}
		seen[p.TEE+p.Product] = true
		if p.Product == "" || p.Codename == "" || p.Firmware == "" || p.HostKernel == "" || len(p.Sources) == 0 {
			t.Errorf("%+v: a row needs product, codename, firmware, host kernel and sources", p)
		}
		for _, s := range append([]string{p.Notes, p.Product, p.Firmware}, p.Sources...) {
			if strings.ContainsAny(s, "\n|") {
				t.Errorf("%q breaks the table", s)
			}
		}
	}
	for _, tee := range []string{"snp", "tdx", "sgx", "pef"} {
		if tees[tee] == 0 {
			t.Errorf("no row for %s", tee)
		}
	}
}
