package snp_test

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/snp"
)

// TestRootsAgainstGoSEVGuest compares what is built in with another project's copies.
func TestRootsAgainstGoSEVGuest(t *testing.T) {
	products, err := snp.Products()
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string][2][]byte{snp.Milan: {trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		snp.Genoa: {trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes}, snp.Turin: {trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes}}
	if len(products) != len(theirs) {
		t.Errorf("found %d products, wanted %d", len(products), len(theirs))
	}
	for _, p := range products {
		for i, want := range [][][]byte{{p.ASK.Raw, p.ARK.Raw}, {p.ASVK.Raw, p.ARK.Raw}} {
			rest := theirs[p.Name][i]
			for j, der := range want {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil || !bytes.Equal(block.Bytes, der) {
					t.Errorf("%s, chain %d, certificate %d differs from go-sev-guest's", p.Name, i, j)
				}
			}
		}
	}
}

// TestRootsAreChains: pinning replaces these signatures, and they hold.
func TestRootsAreChains(t *testing.T) {
	products, err := snp.Products()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("roots/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range products {
		if err := p.ASK.CheckSignatureFrom(p.ARK); err != nil {
			t.Errorf("%s: ASK: %v", p.Name, err)
		}
		if err := p.ASVK.CheckSignatureFrom(p.ARK); err != nil {
			t.Errorf("%s: ASVK: %v", p.Name, err)
		}
		if err := p.ARK.CheckSignatureFrom(p.ARK); err != nil {
			t.Errorf("%s: ARK: %v", p.Name, err)
		}
		for role, h := range map[string]pki.Hash{"ark": pki.Fingerprint(p.ARK), "ask": pki.Fingerprint(p.ASK), "asvk": pki.Fingerprint(p.ASVK)} {
			row := "| " + strings.ToLower(p.Name) + "-" + role + ".der | "
			_, rest, ok := strings.Cut(string(readme), row)
			line, _, _ := strings.Cut(rest, "\n")
			if !ok || !strings.Contains(line, hexOf(h)) {
				t.Errorf("roots/README.md: %s: found %q, wanted %s", row, line, hexOf(h))
			}
		}
	}
}

func hexOf(h pki.Hash) string { return hex.EncodeToString(h[:]) }
