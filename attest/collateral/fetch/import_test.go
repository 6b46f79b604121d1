package fetch

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/published"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func keyOf(i int) string { return fmt.Sprintf("%064x", i) }

func collateralOf(t *testing.T, b []byte) *collateral.Set {
	t.Helper()
	s := &collateral.Set{}
	if err := s.Add("file", b); err != nil || len(s.Ignored) > 0 {
		t.Fatal(err, s.Ignored)
	}
	return s
}

func TestImport(t *testing.T) {
	v := newVendor(t)
	c, k := v.client(t)
	var b collateral.Bundle
	for _, cl := range []*claims.Claims{v.snpClaims(), tdxClaims()} {
		reqs, err := Requests(cl, Standard)
		if err != nil {
			t.Fatal(err)
		}
		set, _, err := c.All(context.Background(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		b.Add(set, start)
	}
	// What the cache holds is what was got.
	keys, err := c.Cache.(Dir).Keys()
	if err != nil || len(keys) != 7 {
		t.Fatalf("found %d entries, %v; wanted 7", len(keys), err)
	}
	all, bad := c.Bundle(keys)
	if bad != 0 || len(all.Items) != len(b.Items) {
		t.Errorf("found %d items and %d bad ones, wanted %d", len(all.Items), bad, len(b.Items))
	}

	off := &Client{Cache: Dir(t.TempDir()), Now: k.Now, Sleep: k.Sleep, Roots: c.Roots, Offline: true}
	got, err := off.Import(&b)
	if err != nil || len(got) != 7 {
		t.Fatalf("found %d, %v", len(got), err)
	}
	for _, i := range got {
		if !i.Kept {
			t.Errorf("%s: %s", i.Request.What, i.Why)
		}
	}
	for _, cl := range []*claims.Claims{v.snpClaims(), tdxClaims()} {
		reqs, _ := Requests(cl, Standard)
		for _, r := range reqs {
			if res, err := off.Get(context.Background(), r); err != nil || !res.Fetched.Equal(start) || res.Problem != nil {
				t.Errorf("after the import: %s: %v %v", r.What, err, res.Problem)
			}
		}
	}
	if got, err = off.Import(&b); err != nil {
		t.Fatal(err)
	}
	for _, i := range got {
		if i.Kept || i.Err != nil {
			t.Errorf("again: %s: kept %v, %v", i.Request.What, i.Kept, i.Err)
		}
	}
	// Older than what is there, forged, without its chain, from the future.
	old := &collateral.Bundle{}
	old.Add(collateralOf(t, []byte(v.signing.sign(t, "tcbInfo", tcbBody("TDX", 17, start)))), start)
	old.Add(collateralOf(t, chainOf(v.signing)), start)
	forged := &collateral.Bundle{}
	forged.Add(collateralOf(t, (*authority)(nil).issue(t, "ARK-Milan", true).list(t, start, 300)), start)
	chainless := &collateral.Bundle{}
	chainless.Add(collateralOf(t, []byte(v.signing.sign(t, "tcbInfo", tcbBody("TDX", 19, start)))), start)
	for name, x := range map[string]struct {
		b   *collateral.Bundle
		why string
	}{"older": {old, "as new"}, "forged": {forged, "does not hold"}, "chainless": {chainless, "certificates at hand"}} {
		got, err := off.Import(x.b)
		if err != nil || len(got) != 1 || got[0].Kept || !strings.Contains(got[0].Why, x.why) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	future := &collateral.Bundle{}
	future.Add(collateralOf(t, v.ark.list(t, start.Add(time.Hour), 3000)), start.AddDate(8, 0, 0))
	if got, err := off.Import(future); err != nil || len(got) != 1 || !got[0].Kept {
		t.Fatalf("%+v, %v", got, err)
	}
	if res, err := off.Get(context.Background(), must(t)(AMDList("Milan"))); err != nil || res.Fetched.After(k.Now()) {
		t.Errorf("got at %s, and it is %s: %v", res.Fetched, k.Now(), err)
	}
	// A key alone: its chain is in the cache.
	alone := &collateral.Bundle{}
	alone.Add(collateralOf(t, v.ask.issue(t, "SEV-VCEK", false, vcekExtensions(t, []byte(strings.Repeat("z", 64)), v.tcb)...).cert.Raw), start)
	if got, err := off.Import(alone); err != nil || len(got) != 1 || !got[0].Kept {
		t.Errorf("a key alone: %+v, %v", got, err)
	}
}

// The vendors' own files go through the cache: identified, verified, found again.
func TestRealFiles(t *testing.T) {
	s := &collateral.Set{}
	var roots []*x509.Certificate
	for _, n := range []string{"sgx/intel-root.der", "snp/roots/milan-ark.der", "snp/roots/turin-ark.der"} {
		roots = append(roots, collateralOf(t, published.Read(t, n)).Certificates...)
	}
	for _, n := range []string{"snp/roots/milan-ark.der", "snp/roots/milan-ask.der", "snp/milan-v2.vcek.der", "snp/milan-v2.vcek-wrong-signer.der", "snp/milan-v2.vcek-wrong-tcb.der",
		"snp/roots/turin-ark.der", "snp/roots/turin-ask.der", "snp/turin-v5.vcek.pem",
		"sgx/quote-v3.collateral.json", "tdx/live.tcbinfo.json", "tdx/live.qeidentity.json", "tdx/live.pck-platform-crl.der", "tdx/live.root-ca-crl.der"} {
		if err := s.Add(n, published.Read(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 3, 30, 20, 0, 0, 0, time.UTC)
	k := &clock{now: at}
	c := &Client{Cache: Dir(t.TempDir()), Now: k.Now, Sleep: k.Sleep, Roots: roots, Offline: true}
	var b collateral.Bundle
	b.Add(s, at)
	got, err := c.Import(&b)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, i := range got {
		t.Logf("%s: kept %v %s", i.Request.URL, i.Kept, i.Why)
		kept[i.Request.URL] = kept[i.Request.URL] || i.Kept
	}
	for _, want := range []string{
		"https://kdsintf.amd.com/vcek/v1/Milan/cert_chain",
		"https://kdsintf.amd.com/vcek/v1/Turin/cert_chain",
		"https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard",
		"https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?update=standard",
		"https://api.trustedservices.intel.com/sgx/certification/v4/qe/identity?update=standard",
		"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
		"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
	} {
		if !kept[want] {
			t.Errorf("%s: not kept", want)
		}
	}
	// The issuer of the platform list is not among the files.
	if kept["https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der"] {
		t.Error("a list without its issuer was kept")
	}
	report := published.Read(t, "snp/turin-v5.report.bin")
	chip := report[0x1a0:0x1e0]
	fmc := report[0x180]
	tcb := claims.SNPTCB{FMC: &fmc, BootLoader: report[0x181], TEE: report[0x182], SNP: report[0x183], Microcode: report[0x187]}
	r := must(t)(VCEK("Turin", chip, tcb))
	if want := fmt.Sprintf("https://kdsintf.amd.com/vcek/v1/Turin/%x?fmcSPL=%02d&blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", chip[:8], fmc, report[0x181], report[0x182], report[0x183], report[0x187]); r.URL != want {
		t.Errorf("found %s, wanted %s", r.URL, want)
	}
	if res, err := c.Get(context.Background(), r); err != nil || len(res.Set.Certificates) != 1 {
		t.Errorf("the key of the Turin report: %v", err)
	}
}

func TestRequestsAreMadeOfCheckedParts(t *testing.T) {
	chip, fm := make([]byte, 64), uint8(1)
	chip[0] = 1
	for name, f := range map[string]func() (Request, error){
		"product":         func() (Request, error) { return VCEK("Milan/../x", chip, claims.SNPTCB{}) },
		"short chip":      func() (Request, error) { return VCEK("Milan", chip[:8], claims.SNPTCB{}) },
		"hidden chip":     func() (Request, error) { return VCEK("Milan", make([]byte, 64), claims.SNPTCB{}) },
		"Turin, no FMC":   func() (Request, error) { return VCEK("Turin", chip, claims.SNPTCB{}) },
		"Milan, with FMC": func() (Request, error) { return VCEK("Milan", chip, claims.SNPTCB{FMC: &fm}) },
		"chain":           func() (Request, error) { return AMDChain("Rome", true) },
		"list":            func() (Request, error) { return AMDList("") },
		"FMSPC":           func() (Request, error) { return TCBInfo("sgx", make([]byte, 5), "") },
		"TEE":             func() (Request, error) { return TCBInfo("snp", make([]byte, 6), "") },
		"update":          func() (Request, error) { return QEIdentity("tdx", "late&x=y") },
		"authority":       func() (Request, error) { return PCKList("platform&x=y") },
	} {
		if r, err := f(); err == nil {
			t.Errorf("%s: %s", name, r.URL)
		}
	}
	for name, x := range map[string]struct {
		c    *claims.Claims
		n    int
		fail bool
	}{
		"nothing":       {nil, 0, true},
		"no TEE":        {&claims.Claims{}, 0, true},
		"Nitro":         {&claims.Claims{Nitro: &claims.NitroClaims{}}, 0, false},
		"VLEK":          {&claims.Claims{SNP: &claims.SNPClaims{Product: "Milan", SigningKey: "vlek"}}, 2, false},
		"hidden chip":   {&claims.Claims{SNP: &claims.SNPClaims{Product: "Genoa", SigningKey: "vcek", ChipID: make([]byte, 64)}}, 2, true},
		"no product":    {&claims.Claims{SNP: &claims.SNPClaims{SigningKey: "vcek"}}, 0, true},
		"bad product":   {&claims.Claims{SNP: &claims.SNPClaims{SigningKey: "vcek", Product: "../x"}}, 0, true},
		"no platform":   {&claims.Claims{SGX: &claims.SGXClaims{}}, 0, true},
		"SGX, standard": {&claims.Claims{SGX: &claims.SGXClaims{}, Intel: &claims.IntelPlatform{FMSPC: make([]byte, 6)}}, 4, false},
	} {
		reqs, err := Requests(x.c, "")
		if len(reqs) != x.n || (err != nil) != x.fail {
			t.Errorf("%s: found %d requests, %v; wanted %d, error %v", name, len(reqs), err, x.n, x.fail)
		}
	}
}
