package attest

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// gather reads collateral files; "file#field,field" takes those fields of a JSON
// object alone.
func gather(t testing.TB, names ...string) *collateral.Set {
	t.Helper()
	set := &collateral.Set{}
	for _, n := range names {
		file, only, _ := strings.Cut(n, "#")
		one := &collateral.Set{}
		if err := one.Add(file, published.Read(t, file)); err != nil {
			t.Fatal(err)
		}
		switch only {
		case "certs":
			one = &collateral.Set{Certificates: one.Certificates}
		case "certs+rootcrl":
			one = &collateral.Set{Certificates: one.Certificates, Lists: one.Lists}
		}
		set = collateral.Merge(set, one)
	}
	return set
}

func day(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// publishedRow is evidence that real hardware signed, with the verdict that it must
// get: by the defaults without a policy, and by the policy that is written for it.
type publishedRow struct {
	name       string
	evidence   string
	collateral []string
	at         string

	outcome    verdict.Outcome // platform only, by the defaults
	codes      string          // the checks that decide it, sorted
	tcb        string
	advisories string          // of Intel's matched levels
	fitting    verdict.Outcome // by the policy that Generate writes for it; "": none is written
}

func publishedRows() []publishedRow {
	return []publishedRow{
		{"milan v2", "snp/milan-v2.report.bin", []string{"snp/milan-v2.vcek.der"}, "2024-01-01T12:00:00Z", verdict.Refused, "product tcb-floor", "", "", verdict.Admitted},
		{"milan v2, VCEK of another TCB", "snp/milan-v2.report.bin", []string{"snp/milan-v2.vcek-wrong-tcb.der"}, "2024-01-01T12:00:00Z", verdict.NotGenuine, "", "", "", ""},
		{"milan v2, VCEK of another signer", "snp/milan-v2.report.bin", []string{"snp/milan-v2.vcek-wrong-signer.der"}, "2024-01-01T12:00:00Z", verdict.NotGenuine, "", "", "", ""},
		{"milan v2, all three VCEKs", "snp/milan-v2.report.bin", []string{"snp/milan-v2.vcek-wrong-signer.der", "snp/milan-v2.vcek-wrong-tcb.der", "snp/milan-v2.vcek.der", "snp/turin-v5.vcek.pem"}, "2024-01-01T12:00:00Z", verdict.Refused, "product tcb-floor", "", "", verdict.Admitted},
		{"milan v2, no VCEK", "snp/milan-v2.report.bin", nil, "2024-01-01T12:00:00Z", "", "", "", "", ""},
		{"milan v3, VLEK", "snp/milan-v3-vlek.report.bin", []string{"snp/milan-v3-vlek.vlek.der"}, "2025-06-01T12:00:00Z", verdict.Refused, "", "", "", verdict.Admitted},
		{"milan v3, VLEK ended", "snp/milan-v3-vlek.report.bin", []string{"snp/milan-v3-vlek.vlek.der"}, "2026-01-01T12:00:00Z", verdict.Refused, "", "", "", ""},
		{"turin v5", "snp/turin-v5.report.bin", []string{"snp/turin-v5.vcek.pem"}, "2026-03-01T12:00:00Z", verdict.CannotTell, "", "", "", verdict.Admitted},
		{"turin v5, beside Intel's collateral alone", "snp/turin-v5.report.bin", []string{"sgx/quote-v3.collateral.json"}, "2026-03-01T12:00:00Z", verdict.CannotTell, "endorsement-key key-to-report signature", "", "", ""},
		{"Enarx, milan", "steward/milan.csr.der", nil, "2023-02-01T12:00:00Z", verdict.Refused, "", "", "", verdict.Admitted},
		// No QE identity came along: no policy is written that does without (TestFitNeedsIntelsWord).
		{"Enarx, Ice Lake", "steward/icelake-xeon.csr.der", nil, "2023-02-01T12:00:00Z", verdict.Refused, "", "OutOfDate", "INTEL-SA-00586 INTEL-SA-00614 INTEL-SA-00615 INTEL-SA-00657", ""},
		{"Enarx, Ice Lake, with a later QE identity", "steward/icelake-xeon.csr.der", []string{"sgx/icx.qeidentity.json", "sgx/quote-v3.collateral.json#certs"}, "2023-02-01T12:00:00Z", verdict.Refused, "", "OutOfDate", "-", verdict.Admitted},
		{"SGX v3", "sgx/quote-v3.bin", []string{"sgx/quote-v3.collateral.json"}, "2025-06-20T12:00:00Z", verdict.Refused, "", "ConfigurationAndSWHardeningNeeded", "INTEL-SA-00289 INTEL-SA-00615", verdict.Admitted},
		{"SGX v3, Ice Lake", "sgx/quote-v3-icx.hex", []string{"sgx/icx.tcbinfo.json", "sgx/icx.qeidentity.json", "sgx/icx.pck-platform-crl.der", "sgx/quote-v3.collateral.json#certs+rootcrl"}, "2025-08-20T12:00:00Z", verdict.Refused, "", "SWHardeningNeeded", "INTEL-SA-00615", verdict.Admitted},
		{"SGX v3, encrypted PPID", "sgx/quote-v3-certtype3.bin", nil, "2025-08-20T12:00:00Z", verdict.NotGenuine, "", "", "", ""},
		{"TDX v4", "tdx/quote-v4.bin", []string{"tdx/quote-v4.collateral.json"}, "2025-06-20T12:00:00Z", verdict.Admitted, "", "UpToDate", "", verdict.Admitted},
		{"TDX v4, live", "tdx/quote-v4-live.bin", []string{"tdx/live.tcbinfo.json", "tdx/live.qeidentity.json", "tdx/live.pck-platform-crl.der", "tdx/live.root-ca-crl.der", "sgx/quote-v3.collateral.json#certs"}, "2026-03-30T20:00:00Z", verdict.Admitted, "", "UpToDate", "", verdict.Admitted},
		{"TDX v5, level not supported", "tdx/quote-v5-unsupported-level.bin", []string{"tdx/quote-v5-unsupported-level.collateral.json"}, "2026-02-20T12:00:00Z", verdict.Refused, "tcb-status", "NotSupported", "", ""},
		{"TDX v4, Granite out of date", "tdx/quote-v4-granite-outofdate.bin", []string{"tdx/granite.tcbinfo.json", "tdx/granite.qeidentity.json", "tdx/granite.pck-platform-crl.der", "sgx/quote-v3.collateral.json#certs+rootcrl"}, "2025-11-01T12:00:00Z", verdict.Refused, "", "OutOfDate", "-", verdict.Admitted},
		{"Nitro", "nitro/prod.cose", nil, "2021-03-17T22:01:55Z", verdict.Admitted, "", "", "", verdict.Admitted},
		{"Nitro, now", "nitro/prod.cose", nil, "2026-01-01T00:00:00Z", verdict.CannotTell, "certificate-validity", "", "", ""},
		// Its registers are all untouched: nothing was measured, so no policy can name a program.
		{"TPM", "tpm/quote.json", nil, "2026-01-01T00:00:00Z", verdict.CannotTell, "ak-endorsed ak-restricted", "", "", ""},
		{"Nitro, debug", "nitro/debug.cose", nil, "2024-01-24T18:14:25Z", verdict.Refused, "debug", "", "", ""},
		{"Azure SNP vTPM", "tpm/azure-snp-vtpm.json", nil, "2025-06-01T12:00:00Z", verdict.Refused, "product", "", "", verdict.Admitted},
		{"Gramine RA-TLS", "ratls/gramine.pem", nil, "2024-01-01T12:00:00Z", "", "", "", "", ""},
		{"RATS-TLS", "ratls/rats-tls.pem", nil, "2024-01-01T12:00:00Z", "", "", "", "", ""},
	}
}

func TestPublishedEvidence(t *testing.T) {
	var v Verifier
	for _, row := range publishedRows() {
		t.Run(row.name, func(t *testing.T) {
			b := published.Read(t, row.evidence)
			o := Options{At: day(row.at), PlatformOnly: true, Collateral: gather(t, row.collateral...)}
			out := v.Verify(b, o)
			var codes []string
			for _, c := range out.Deciding() {
				codes = append(codes, string(c.Code))
			}
			slices.Sort(codes)
			if row.outcome != "" && out.Outcome != row.outcome || row.codes != "" && strings.Join(codes, " ") != row.codes {
				t.Errorf("by the defaults: found %s by %v, wanted %s by %s\n%s", out.Outcome, codes, row.outcome, row.codes, out.Text(nil))
			}
			if out.TCBStatus != row.tcb {
				t.Errorf("TCB status %q, wanted %q", out.TCBStatus, row.tcb)
			}
			if row.advisories != "-" && out.Claims != nil && out.Claims.Intel != nil {
				if got := strings.Join(out.Claims.Intel.AdvisoryIDs, " "); got != row.advisories {
					t.Errorf("advisories %q, wanted %q", got, row.advisories)
				}
			}
			for _, c := range out.Checks {
				if c.Found == "" && c.Status != verdict.Passed {
					t.Errorf("%s %s says nothing of what was found", c.Code, c.Status)
				}
			}
			if row.fitting == "" {
				return
			}
			text, err := Fit(&v, b, o, policy.Draft{})
			if err != nil {
				t.Fatalf("no policy could be written: %+v", err)
			}
			p, err := policy.Parse(text)
			if err != nil {
				t.Fatalf("the policy that was written: %v\n%s", err, text)
			}
			o.Policy, o.PlatformOnly = p, false
			if got := v.Verify(b, o); got.Outcome != row.fitting {
				t.Errorf("by the policy written for it: %s, wanted %s\n%s\n%s", got.Outcome, row.fitting, got.Text(nil), text)
			}
		})
	}
}

// Published RA-TLS certificates: quote, claims and key hold; collateral is lacking.
func TestPublishedRATLS(t *testing.T) {
	var v Verifier
	for _, name := range []string{"ratls/gramine.pem", "ratls/rats-tls.pem"} {
		b := published.Read(t, name)
		out := v.Verify(b, Options{At: day("2024-01-01T12:00:00Z"), PlatformOnly: true})
		want := map[verdict.Code]verdict.Status{verdict.ReportData: verdict.Passed, verdict.KeyBinding: verdict.Passed, verdict.Signature: verdict.Passed,
			verdict.Chain: verdict.Passed, verdict.SelfSignature: verdict.Passed, verdict.QEReport: verdict.Passed, verdict.AttestationKey: verdict.Passed}
		for _, c := range out.Checks {
			if c.Status == verdict.Failed && c.Code != verdict.Debug && c.Code != verdict.Attributes {
				t.Errorf("%s: %s failed: found %s, wanted %s", name, c.Code, c.Found, c.Wanted)
			}
			if s, ok := want[c.Code]; ok && c.Status == s {
				delete(want, c.Code)
			}
		}
		if len(want) > 0 {
			t.Errorf("%s: not passed: %v\n%s", name, want, out.Text(nil))
		}
		// The same quote under another key's certificate is not genuine.
		p, _ := pem.Decode(b)
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		bad := []byte(string(p.Bytes))
		i := strings.Index(string(bad), string(c.RawSubjectPublicKeyInfo)) + len(c.RawSubjectPublicKeyInfo) - 1
		bad[i] ^= 1
		if got := v.Verify(bad, Options{At: day("2024-01-01T12:00:00Z"), PlatformOnly: true}); got.Outcome != verdict.NotGenuine {
			t.Errorf("%s with another key: %s\n%s", name, got.Outcome, got.Text(nil))
		}
	}
}
