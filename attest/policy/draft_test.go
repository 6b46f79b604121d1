package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// hostile are strings that a certificate, a document or a TPM may hold.
var hostile = []string{
	"plain", "", " ", "a b", `"`, `\`, `\"`, `"]` + "\nallow_debug = true\n#", "a\nallow_simulated = true", "\r\n[tdx]\n", "a\x00b", "\x1b[31mred", "\x7f",
	"\u202egnp\u202c", "\u2066x\u2069", "\u2028", "\u2029", "\u00a0", "\ufeff", "\u200b", "ä€𝄞", "'''", `"""`, "# comment", "a = 1", "]]", "\\u0022", "\\n", "\U000e0001", "\ufffd", strings.Repeat("x", 5000),
}

// What is written for a string reads back as that string, on one line without control
// or bidirectional characters.
func TestHostileText(t *testing.T) {
	for _, s := range hostile {
		w := &writer{}
		w.key("name", text(s), s)
		w.comment("%s", s)
		got := w.b.String()
		for _, r := range got {
			if r != '\n' && verdict.Escape(string(r)) != string(r) {
				t.Errorf("%q is written with %U: %q", s, r, got)
			}
		}
		p, err := Parse([]byte("version = 1\n" + got + "[nitro]\n"))
		if err != nil {
			t.Errorf("%q is written as %q: %v", s, got, err)
			continue
		}
		if p.Name != s || p.AllowSimulated || p.TDX != nil {
			t.Errorf("%q reads back as %q, %+v", s, p.Name, p)
		}
	}
	if got := text("\xff"); got != `"\U0000FFFD"` {
		t.Errorf("what is no UTF-8: %s", got)
	}
}

// parsed is the draft, written and read; nil where reading refused it.
func parsed(t *testing.T, d Draft) *Policy {
	t.Helper()
	text := d.TOML()
	p, err := Parse(text)
	if err != nil {
		return nil
	}
	if len(p.Describe()) == 0 {
		t.Error("there are no words for the draft")
	}
	// Nothing in a claim adds what only a person may add.
	if p.AllowSimulated != d.Claims.Root.Simulated || len(p.Waive) != len(d.Waive) || p.SNP != nil && (p.SNP.AllowDebug || p.SNP.AllowMigration) ||
		p.Nitro != nil && p.Nitro.AllowDebug || (p.TDX != nil) != (d.Claims.TDX != nil) || p.FixedAdvisories != nil {
		t.Errorf("the draft allows what nobody wrote:\n%s", text)
	}
	return p
}

// Strings in claims, each in its place.
func TestHostileClaims(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, s := range hostile {
		c := snpClaims()
		vlek(c)
		c.SNP.CSP = s
		if p := parsed(t, Draft{Claims: c, At: at}); s != "" && (p == nil || !slices.Equal(p.SNP.CSPs, []string{s})) {
			t.Errorf("provider %q: %+v", s, p)
		}
		c.SNP.CSP, c.SNP.Product, c.SNP.SigningKey, c.SNP.CommittedVersion = "", s, s, s
		if p := parsed(t, Draft{Claims: c, At: at}); p != nil {
			t.Errorf("product, kind of key and version %q: admitted", s)
		}
		for _, f := range []func(*claims.Claims){
			func(c *claims.Claims) { c.Intel.AdvisoryIDs = []string{"INTEL-SA-00001", s} },
			func(c *claims.Claims) { c.Intel.Status = s }, // no status of Intel's: nothing is written
		} {
			c := goodEnclave()
			f(c)
			p := parsed(t, Draft{Claims: c, At: at})
			switch {
			case p != nil && c.Intel.AdvisoryIDs != nil && !slices.Equal(p.SGX.Advisories, c.Intel.AdvisoryIDs):
				t.Errorf("advisory %q reads back as %q", s, p.SGX.Advisories)
			case p != nil && c.Intel.AdvisoryIDs == nil && p.SGX.Statuses != nil:
				t.Errorf("status %q reads back as %q", s, p.SGX.Statuses)
			}
		}
		n := nitroClaims(at, false)
		n.Nitro.ModuleID = s
		if p := parsed(t, Draft{Claims: n, At: at}); p == nil {
			t.Errorf("module %q: the draft is refused", s)
		}
		q := tpmClaims(claims.TPM)
		q.TPM.Bank = s
		if p := parsed(t, Draft{Claims: q, At: at}); p != nil && s != "" {
			t.Errorf("bank %q: admitted", s)
		}
		// What a person gives.
		w := Waiver{verdict.RootCRL, s}
		p := parsed(t, Draft{Claims: snpClaims(), At: at, Evidence: s, Compared: s, Waive: []Waiver{w}})
		if empty := strings.TrimSpace(s) == ""; empty != (p == nil) || p != nil && p.Waive[0] != w {
			t.Errorf("waived because of %q: %+v", s, p)
		}
	}
}

// A draft demands of each claim what the claim says, and its words name it.
func TestDraftRoundTrip(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	milan := snpClaims()
	milan.SNP.Product = "Milan"
	both := snpClaims()
	both.TPM = tpmClaims(claims.SNP).TPM
	for name, c := range map[string]*claims.Claims{"snp": snpClaims(), "milan": milan, "tdx": goodTD(), "sgx": goodEnclave(), "nitro": nitroClaims(at, false), "tpm": tpmClaims(claims.TPM), "snp with a tpm": both} {
		d := Draft{Claims: c, At: at}
		first := d.TOML()
		if !slices.Equal(first, d.TOML()) {
			t.Errorf("%s: two drafts of one differ", name)
		}
		p := parsed(t, d)
		if p == nil {
			_, err := Parse(first)
			t.Errorf("%s: %v\n%s", name, err, first)
			continue
		}
		words := strings.Join(p.Describe(), "\n")
		var digests []claims.Hex
		switch {
		case c.SNP != nil:
			digests = append(digests, c.SNP.LaunchDigest, c.SNP.ChipID)
		case c.TDX != nil:
			digests = append(digests, c.TDX.MRTD, c.TDX.RTMR[1], c.TDX.MRSEAM)
		case c.SGX != nil:
			digests = append(digests, c.SGX.MRENCLAVE)
		case c.Nitro != nil:
			digests = append(digests, c.Nitro.PCRs[0])
		}
		for _, h := range digests {
			if !strings.Contains(words, h.String()) {
				t.Errorf("%s: the words do not name %s:\n%s", name, h, words)
			}
		}
		for _, k := range p.Appraise(c, Demand{At: at}) {
			if k.Status == verdict.Failed {
				t.Errorf("%s: its own draft refuses it: %s: found %s, wanted %s\n%s", name, k.Code, k.Found, k.Wanted, first)
			}
		}
	}
}

// What was compared with nothing stands in the file, reads back, and is said in words.
func TestDraftTrust(t *testing.T) {
	for _, trust := range []string{"", TrustFirstUse, TrustFirstUseImage, TrustFirstUseWorkload} {
		d := Draft{Claims: snpClaims(), At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Trust: trust}
		p := parsed(t, d)
		if p == nil || p.Trust != trust || (TrustNote(trust) == "") != (trust == "") {
			t.Errorf("%q: %+v", trust, p)
			continue
		}
		said := strings.Contains(strings.Join(p.Describe(), "\n"), "first use")
		if written := strings.Contains(string(d.TOML()), TrustNote(trust)); said != (trust != "") || !written {
			t.Errorf("%q: in words %v, in the file %v", trust, said, written)
		}
	}
	if _, err := Parse([]byte("version = 1\ntrust = \"always\"\n[snp]\n")); err == nil {
		t.Error("a trust that nobody knows is read")
	}
}
