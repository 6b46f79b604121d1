package tpm_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/tpm"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// verify is what a caller does with JSON: evidence that does not parse is malformed.
func verify(v *tpm.Verifier, b []byte, o *format.Options) format.Result {
	e, _, err := tpm.ParseJSON(b)
	if err != nil {
		return format.Result{Checks: []verdict.Check{verdict.Fail(verdict.Form, err.Error(), "TPM evidence")}}
	}
	return v.Verify(e, o)
}

func check(r format.Result, c verdict.Code) verdict.Check {
	for _, k := range r.Checks {
		if k.Code == c {
			return k
		}
	}
	return verdict.Check{}
}

func TestVectors(t *testing.T) {
	vectors := synthetic.TPMVectors()
	v := new(tpm.Verifier)
	for _, c := range vectors {
		r := verify(v, c.Evidence, &format.Options{At: c.At, Collateral: c.Collateral, SimulatedRoots: c.Roots})
		if c.Code == "" {
			for _, k := range r.Checks {
				if k.Status != c.Status {
					t.Errorf("%s: %+v", c.Name, k)
				}
			}
			if q := r.Claims.TPM; q.Endorsed != "certificate" || !*q.Restricted || !r.Claims.Root.Simulated || len(q.PCRs) == 0 || string(r.Claims.Nonce) != "a nonce of 16 by" {
				t.Errorf("%s: claims %+v, %+v", c.Name, r.Claims, q)
			}
			continue
		}
		if k := check(r, c.Code); k.Status != c.Status {
			t.Errorf("%s: wanted %s %s, found %+v", c.Name, c.Code, c.Status, r.Checks)
		}
		want := verdict.CannotTell
		if c.Status == verdict.Failed {
			want = verdict.NotGenuine
		}
		if got := verdict.Conclude(r.Checks); got != want {
			t.Errorf("%s: %s, wanted %s: %+v", c.Name, got, want, r.Checks)
		}
	}
	t.Logf("%d vectors", len(vectors))
}

// snpClaims are made up: whether a report is genuine is not this package's question.
func snpClaims(reportData [64]byte, vmpl uint32) *claims.Claims {
	return &claims.Claims{TEE: claims.SNP, ReportData: reportData[:], SNP: &claims.SNPClaims{VMPL: vmpl}}
}

func composite(t testing.TB) (q synthetic.TPMQuote, runtime []byte) {
	t.Helper()
	k, err := synthetic.NewTPMKey(tpm.AlgRSASSA, tpm.AlgSHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime, err = synthetic.RuntimeData(k, []byte("user data"))
	if err != nil {
		t.Fatal(err)
	}
	return synthetic.TPMQuote{Key: k, Nonce: []byte("nonce"), Bank: tpm.AlgSHA256, PCRs: synthetic.Registers(tpm.AlgSHA256, synthetic.BootEvents()...)}, runtime
}

func TestComposite(t *testing.T) {
	q, runtime := composite(t)
	report := bytes.Repeat([]byte{0xab}, 1184)
	data := synthetic.RuntimeReportData(runtime)
	other, err := synthetic.NewTPMKey(tpm.AlgRSASSA, tpm.AlgSHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	wrongTail := data
	wrongTail[32] = 1
	replace := func(old, new string) []byte { return bytes.Replace(runtime, []byte(old), []byte(new), 1) }
	for _, c := range []struct {
		name    string
		runtime []byte
		snp     *claims.Claims
		signer  *synthetic.TPMKey
		code    verdict.Code
		status  verdict.Status
	}{
		{"good", runtime, snpClaims(data, 0), nil, verdict.AKEndorsed, verdict.Passed},
		{"VMPL 1", runtime, snpClaims(data, 1), nil, verdict.VMPL, verdict.Failed},
		{"VMPL 3", runtime, snpClaims(data, 3), nil, verdict.RuntimeData, verdict.Failed},
		{"report data with a tail", runtime, snpClaims(wrongTail, 0), nil, verdict.RuntimeData, verdict.Failed},
		{"other report data", runtime, snpClaims([64]byte{}, 0), nil, verdict.RuntimeData, verdict.Failed},
		{"no report", runtime, nil, nil, verdict.RuntimeData, verdict.Failed},
		{"claims of another TEE", runtime, &claims.Claims{TEE: claims.TDX, ReportData: data[:]}, nil, verdict.RuntimeData, verdict.Failed},
		{"signed by another key", runtime, snpClaims(data, 0), other, verdict.Signature, verdict.Failed},
		{"no key of that name", replace("HCLAkPub", "HCLEkPub"), nil, nil, verdict.Form, verdict.Failed},
		{"member twice", replace(`"kid":`, `"kid":"HCLEkPub","kid":`), nil, nil, verdict.Form, verdict.Failed},
		{"exponent 1", replace("AQAB", "AQ"), nil, nil, verdict.Form, verdict.Failed},
		{"exponent of 5 bytes", replace("AQAB", "AQAAAAE"), nil, nil, verdict.Form, verdict.Failed},
		{"not RSA", replace(`"kty":"RSA"`, `"kty":"EC"`), nil, nil, verdict.Form, verdict.Failed},
		{"small modulus", replace(`"n":"`, `"n":"AQAB","x":"`), nil, nil, verdict.Form, verdict.Failed},
		{"user data that is no hexadecimal", replace(`"user-data":"`, `"user-data":"x`), nil, nil, verdict.Form, verdict.Failed},
		{"no JSON", []byte("x"), nil, nil, verdict.Form, verdict.Failed},
		{"zeros after JSON", append(bytes.Clone(runtime), 0), nil, nil, verdict.Form, verdict.Failed},
	} {
		for version := range uint32(2) {
			q := q
			q.Signer = c.signer
			b, err := q.AzureJSON(synthetic.HCL(version+1, report, c.runtime), []byte{0x30, 0})
			if err != nil {
				t.Fatal(err)
			}
			e, form, err := tpm.ParseJSON(b)
			if err != nil || form != tpm.FormAzure || !bytes.Equal(e.Composite.Report, report) {
				t.Fatalf("%s: %v", c.name, err)
			}
			r := new(tpm.Verifier).VerifyComposite(e, c.snp, &format.Options{})
			if k := check(r, c.code); k.Status != c.status {
				t.Errorf("%s: wanted %s %s, found %+v", c.name, c.code, c.status, r.Checks)
			}
			want := verdict.NotGenuine
			if c.status == verdict.Passed {
				want = verdict.CannotTell // ak-restricted
			}
			if got := verdict.Conclude(r.Checks); got != want {
				t.Errorf("%s: %s, wanted %s", c.name, got, want)
			}
		}
	}
}

func TestHCLHeader(t *testing.T) {
	_, runtime := composite(t)
	good := synthetic.HCL(1, make([]byte, 1184), runtime)
	if _, err := tpm.ParseHCL(good); err != nil {
		t.Fatal(err)
	}
	end := 32 + 1184 + 20 + len(runtime)
	for at, name := range map[int]string{0: "signature", 4: "version", 8: "report_size", 12: "request_type", 16: "status",
		32 + 1184: "data_size", 32 + 1188: "data version", 32 + 1192: "report_type", 32 + 1196: "hash type", 32 + 1200: "variable_data_size", end: "padding", len(good) - 1: "last byte"} {
		bad := bytes.Clone(good)
		bad[at] ^= 0x80
		if _, err := tpm.ParseHCL(bad); err == nil {
			t.Errorf("another %s parses", name)
		}
	}
	for n := range end {
		if _, err := tpm.ParseHCL(good[:n]); err == nil {
			t.Fatalf("%d bytes parse", n)
		}
	}
	if _, err := tpm.ParseHCL(make([]byte, 100<<10)); err == nil {
		t.Error("a large report parses")
	}
}

func TestStartupLocality(t *testing.T) {
	events := append([]synthetic.LogEvent{{Index: 0, Type: 3, Data: []byte("StartupLocality\x00\x03")}}, synthetic.BootEvents()...)
	r, err := tpm.Replay(synthetic.EventLog([]tpm.Algorithm{tpm.AlgSHA256}, events...))
	if err != nil {
		t.Fatal(err)
	}
	plain := synthetic.Registers(tpm.AlgSHA256, events...)
	if got := r.Banks["sha256"]; bytes.Equal(got[0], plain[0]) || !bytes.Equal(got[4], plain[4]) {
		t.Errorf("PCR 0 %s and PCR 4 %s", got[0], got[4])
	}
}

func BenchmarkVerify(b *testing.B) {
	q, runtime := composite(b)
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	b.Run("quote", func(b *testing.B) {
		doc, err := q.JSON()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if r := verify(&tpm.Verifier{}, doc, &format.Options{At: at}); check(r, verdict.PCRDigest).Status != verdict.Passed {
				b.Fatal(r.Checks)
			}
		}
	})
	b.Run("composite without its report", func(b *testing.B) {
		doc, err := q.AzureJSON(synthetic.HCL(1, make([]byte, 1184), runtime), []byte{0x30, 0})
		if err != nil {
			b.Fatal(err)
		}
		c := snpClaims(synthetic.RuntimeReportData(runtime), 0)
		b.ReportAllocs()
		for b.Loop() {
			e, _, err := tpm.ParseJSON(doc)
			if err != nil {
				b.Fatal(err)
			}
			if r := new(tpm.Verifier).VerifyComposite(e, c, &format.Options{At: at}); check(r, verdict.AKEndorsed).Status != verdict.Passed {
				b.Fatal(r.Checks)
			}
		}
	})
	b.Run("event log", func(b *testing.B) {
		log := synthetic.EventLog([]tpm.Algorithm{tpm.AlgSHA256}, synthetic.BootEvents()...)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tpm.Replay(log); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What a running system extends after the boot fails nothing, and is told.
func TestRunningSystemExtends(t *testing.T) {
	events := append(synthetic.BootEvents(), synthetic.LogEvent{Index: 11, Type: 0xd, Data: []byte("stub")})
	log := synthetic.EventLog([]tpm.Algorithm{tpm.AlgSHA256}, events...)
	for _, c := range []struct {
		index  uint32
		status verdict.Status
		found  string
	}{
		{10, verdict.Passed, "replays to"}, // not in the log at all
		{11, verdict.Passed, "the running system extended further: PCR 11"},
		{9, verdict.Failed, "PCR 9 replays to"},
		{4, verdict.Failed, "PCR 4 replays to"},
	} {
		pcrs := map[int]claims.Hex{}
		for i, v := range synthetic.Registers(tpm.AlgSHA256, append(events, synthetic.LogEvent{Index: c.index, Type: 0xd, Data: []byte("later")})...) {
			pcrs[i] = v
		}
		if k := tpm.CheckPCRs(log, "sha256", pcrs); k.Status != c.status || !strings.Contains(k.Found, c.found) {
			t.Errorf("PCR %d: found %+v", c.index, k)
		}
	}
	if k := tpm.CheckPCRs(log, "sha256", map[int]claims.Hex{16: make(claims.Hex, 32)}); k.Status != verdict.NotMade {
		t.Errorf("nothing to compare: %+v", k)
	}
}
