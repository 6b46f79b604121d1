//go:build linux

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/published"
)

// Vendor data counts as cache: it is listed, and cleaned away.
func TestCacheHoldsCollateral(t *testing.T) {
	dir := t.TempDir()
	if status, out, errs := at(t, dir, "cache", "list"); status != 0 || !strings.Contains(out, "vendor data for verifying: 0 files") {
		t.Fatalf("an empty cache: found status %d\n%s%s", status, out, errs)
	}
	for _, name := range []string{"donjon/collateral/key.json", "donjon/other/file"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, out, _ := at(t, dir, "cache", "list"); !strings.Contains(out, "vendor data for verifying: 1 files, 2 bytes") {
		t.Errorf("one file of 2 bytes:\n%s", out)
	}
	if status, _, errs := at(t, dir, "cache", "clean"); status != 0 {
		t.Errorf("clean: found status %d, %s", status, errs)
	}
	if _, out, _ := at(t, dir, "cache", "list"); !strings.Contains(out, "vendor data for verifying: 0 files") {
		t.Errorf("after clean:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "donjon/other/file")); err != nil {
		t.Errorf("clean took what is no cache: %v", err)
	}
}

// file is the path of a published file.
func file(t *testing.T, name string) string {
	published.Read(t, name)
	return filepath.Join(published.Dir(t), name)
}

// at runs a command line with a cache of its own.
func at(t *testing.T, cache string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(k string) string {
		return map[string]string{"XDG_CACHE_HOME": cache}[k]
	}}
	status = a.run(args)
	return status, out.String(), errs.String()
}

// vendorServer plays vendors with what they published: it is simulated, its answers
// are real.
type vendorServer struct {
	mu      sync.Mutex
	answers map[string]func(http.ResponseWriter)
	asked   map[string]int
}

func (v *vendorServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked[r.URL.RequestURI()]++
	if f := v.answers[r.URL.RequestURI()]; f != nil {
		f(w)
		return
	}
	http.NotFound(w, r)
}

func gives(b []byte, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], url.PathEscape(header[i+1]))
		}
		_, _ = w.Write(b)
	}
}

func newVendorServer() *vendorServer {
	return &vendorServer{answers: map[string]func(http.ResponseWriter){}, asked: map[string]int{}}
}

// The key server: a chain, a key and (from 2022, ended) a list; then it is down.
func TestCollateralOfAMD(t *testing.T) {
	report, raw := file(t, "snp/milan-v2.report.bin"), published.Read(t, "snp/milan-v2.report.bin")
	ask := published.Read(t, "snp/roots/milan-ask.der")
	ark := published.Read(t, "snp/roots/milan-ark.der")
	vcek := published.Read(t, "snp/milan-v2.vcek.der")
	wrong := published.Read(t, "snp/milan-v2.vcek-wrong-tcb.der")
	csr := published.Read(t, "steward/milan.csr.der")
	v := newVendorServer()
	key := "/vcek/v1/Milan/" + hex.EncodeToString(raw[0x1a0:0x1e0]) + "?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115"
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ask}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ark})...)
	v.answers["/vcek/v1/Milan/cert_chain"] = gives(chain)
	v.answers[key] = gives(wrong)
	v.answers["/vcek/v1/Milan/crl"] = gives(csr[2540 : 2540+866])
	srv := httptest.NewServer(v)
	defer srv.Close()

	one, two := t.TempDir(), t.TempDir()
	if status, _, errs := at(t, one, "collateral", "fetch", "--kds", srv.URL, report); status != 1 || !strings.Contains(errs, "--product milan") {
		t.Errorf("version 2 does not say what made it: found status %d, %s", status, errs)
	}
	status, out, errs := at(t, one, "collateral", "fetch", "--kds", srv.URL, "--product", "milan", report)
	if status != 1 || !strings.Contains(out, "✔ chain of VCEK keys") || !strings.Contains(out, "✗ VCEK of a Milan") || !strings.Contains(out, "not what was asked for") ||
		!strings.Contains(out, "✗ revocation list of Milan, ended on 2023-05-09") || !strings.Contains(errs, "2 of 4") {
		t.Errorf("with a wrong key: found status %d\n%s%s", status, out, errs)
	}
	bundle := filepath.Join(two, "bundle.json")
	if status, out, errs = at(t, one, "collateral", "export", "-o", bundle, "--kds", srv.URL, "--product", "milan", report); status != 1 || !strings.Contains(errs, "nothing was written") {
		t.Errorf("an export that lacks the key: found status %d\n%s%s", status, out, errs)
	}
	if _, err := os.Stat(bundle); err == nil {
		t.Error("it was written nevertheless")
	}
	v.answers[key] = gives(vcek)
	// The second key that is asked for in ten seconds would have to wait: another
	// command knows nothing of the first.
	status, out, errs = at(t, one, "collateral", "export", "-o", bundle, "--kds", srv.URL, "--product", "milan", report)
	if status != 0 || !strings.Contains(out, "SEV-VCEK, by SEV-Milan, chip c38427a30d4c7af9") || !strings.Contains(out, "ended on 2023-05-09") || !strings.Contains(errs, "5 pieces written") {
		t.Fatalf("export: found status %d\n%s%s", status, out, errs)
	}
	if n := v.asked["/vcek/v1/Milan/cert_chain"]; n != 1 {
		t.Errorf("the chain was asked for %d times, wanted once", n)
	}

	// On a machine without a network.
	status, out, errs = at(t, two, "collateral", "import", "--json", bundle)
	var imported importReport
	if err := json.Unmarshal([]byte(out), &imported); err != nil || status != 0 || len(imported.Items) != 4 {
		t.Fatalf("import: found status %d, %v\n%s%s", status, err, out, errs)
	}
	for _, i := range imported.Items {
		if !i.Taken || i.Expired != (i.URL == "https://kdsintf.amd.com/vcek/v1/Milan/crl") {
			t.Errorf("%+v", i)
		}
	}
	if status, out, errs = at(t, two, "collateral", "list", "--at", "2023-03-01T00:00:00Z"); status != 0 || strings.Contains(out, "✗") || strings.Count(out, "\n") != 5 {
		t.Errorf("list: found status %d\n%s%s", status, out, errs)
	}
	if status, out, errs = at(t, two, "collateral", "fetch", "--offline", "--product", "Milan", report); status != 1 || !strings.Contains(errs, "1 of 4") {
		t.Errorf("offline: found status %d\n%s%s", status, out, errs)
	}
	a := &app{getenv: func(k string) string { return map[string]string{"XDG_CACHE_HOME": two}[k] }}
	set := a.cachedCollateral(&claims.Claims{SNP: &claims.SNPClaims{Product: "Milan", SigningKey: "vcek", ChipID: raw[0x1a0:0x1e0], Reported: claims.SNPTCB{BootLoader: 3, SNP: 8, Microcode: 115}}})
	if len(set.Certificates) != 3 || len(set.Lists) != 1 {
		t.Errorf("what the cache has for a verifier: found %d certificates and %d lists, wanted 3 and 1", len(set.Certificates), len(set.Lists))
	}
	// A changed bundle is none.
	raw, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, bytes.Replace(raw, []byte(`"crl"`), []byte(`"tcb-info"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := at(t, two, "collateral", "import", bundle); status != 1 || !strings.Contains(errs, "nothing of use") {
		t.Errorf("a changed bundle: found status %d, %s", status, errs)
	}
	// What the vendor never signed does not enter.
	other := file(t, "snp/milan-v2.vcek-wrong-signer.der")
	if status, out, errs := at(t, two, "collateral", "import", other); status != 1 || !strings.Contains(out, "does not hold") {
		t.Errorf("a key by another signer: found status %d\n%s%s", status, out, errs)
	}
}

// A PCCS with a certificate of its own, over TLS. Everything it has has ended.
func TestCollateralOfPCCS(t *testing.T) {
	quote := file(t, "tdx/quote-v4.bin")
	raw := published.Read(t, "tdx/quote-v4.collateral.json")
	var f map[string]string
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	v := newVendorServer()
	v.answers["/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard"] = gives([]byte(`{"tcbInfo":`+f["tcb_info"]+`,"signature":"`+f["tcb_info_signature"]+`"}`), "TCB-Info-Issuer-Chain", f["tcb_info_issuer_chain"])
	v.answers["/tdx/certification/v4/qe/identity?update=standard"] = gives([]byte(`{"enclaveIdentity":`+f["qe_identity"]+`,"signature":"`+f["qe_identity_signature"]+`"}`), "SGX-Enclave-Identity-Issuer-Chain", f["qe_identity_issuer_chain"])
	v.answers["/sgx/certification/v4/pckcrl?ca=platform&encoding=der"] = gives([]byte(f["pck_crl"]), "SGX-PCK-CRL-Issuer-Chain", f["pck_crl_issuer_chain"])
	v.answers["/sgx/certification/v4/rootcacrl"] = gives([]byte(f["root_ca_crl"]))
	srv := httptest.NewTLSServer(v)
	defer srv.Close()
	cache := t.TempDir()

	status, out, errs := at(t, cache, "collateral", "fetch", "-v", "--pccs", srv.URL, quote)
	if status != 1 || strings.Contains(out, "✔") || !strings.Contains(out, "unknown authority") || !strings.Contains(errs, "needs its authority named") {
		t.Errorf("an unknown authority: found status %d\n%s%s", status, out, errs)
	}
	ca := filepath.Join(cache, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(cache, "bundle.json")
	status, out, errs = at(t, cache, "collateral", "export", "-o", bundle, "--json", "--pccs", srv.URL, "--pccs-ca", ca, quote)
	var r collateralReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || len(r.Items) != 7 {
		t.Fatalf("export: found status %d, %d items, %v\n%s%s", status, len(r.Items), err, out, errs)
	}
	// Down: what was got is served, and its end shown.
	clear(v.answers)
	status, out, errs = at(t, cache, "collateral", "fetch", "--pccs", srv.URL, "--pccs-ca", ca, quote)
	if status != 1 || strings.Count(out, "ended on") != 4 || strings.Count(out, "404") != 4 || !strings.Contains(errs, "4 of 4") {
		t.Errorf("down: found status %d\n%s%s", status, out, errs)
	}
}

func TestCollateralUsage(t *testing.T) {
	dir := writeFiles(t, map[string]string{"junk": "junk", "ca.pem": "no certificate"})
	junk := filepath.Join(dir, "junk")
	for _, c := range []struct {
		name   string
		args   []string
		status int
		why    string
	}{
		{"nothing to get", []string{"fetch"}, 2, "EVIDENCE or --product"},
		{"no such product", []string{"fetch", "--product", "rome"}, 2, "milan"},
		{"empty product", []string{"fetch", "--product", ""}, 2, "milan"},
		{"no evidence", []string{"fetch", junk}, 10, "no evidence"},
		{"not there", []string{"fetch", filepath.Join(dir, "none")}, 1, "not found"},
		{"update", []string{"fetch", "--update", "late", "--product", "milan"}, 2, "early"},
		{"age", []string{"fetch", "--max-age", "0s", "--product", "milan"}, 2, "more than 0"},
		{"authority without PCCS", []string{"fetch", "--pccs-ca", junk, "--product", "milan"}, 2, "--pccs is missing"},
		{"authority", []string{"fetch", "--pccs", "https://127.0.0.1:1", "--pccs-ca", filepath.Join(dir, "ca.pem"), "--product", "milan"}, 1, "no certificate"},
		{"plain http", []string{"fetch", "--kds", "http://kds.example", "--product", "milan"}, 1, "have ended"},
		{"offline, empty", []string{"fetch", "--offline", "--product", "genoa"}, 1, "1 of 3"},
		{"no output", []string{"export"}, 2, "-o FILE"},
		{"empty cache", []string{"export", "-o", filepath.Join(dir, "x")}, 1, "empty"},
		{"no place", []string{"export", "-o", filepath.Join(dir, "no/where"), "--offline", "--product", "milan"}, 1, "not in the cache"},
		{"nothing to import", []string{"import"}, 2, "usage"},
		{"no collateral", []string{"import", junk}, 1, "nothing of use"},
		{"bad time", []string{"list", "--at", "today"}, 2, "--at"},
		{"no such file", []string{"list", filepath.Join(dir, "none")}, 1, "not found"},
		{"unknown verb", []string{"burn"}, 2, ""},
	} {
		status, out, errs := at(t, filepath.Join(dir, "cache"), append([]string{"collateral"}, c.args...)...)
		if status != c.status || !strings.Contains(errs, c.why) {
			t.Errorf("%s: found status %d\n%s%s\nwanted status %d and %q", c.name, status, out, errs, c.status, c.why)
		}
	}
	if status, out, errs := at(t, filepath.Join(dir, "cache"), "collateral", "list", "--json"); status != 0 || !strings.Contains(out, `"items": []`) || errs != "" {
		t.Errorf("an empty cache: found status %d\n%s%s", status, out, errs)
	}
}
