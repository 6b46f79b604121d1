package dcap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// evidence is a published file in binary.
func evidence(t testing.TB, name string) []byte {
	t.Helper()
	b := published.Read(t, name)
	if strings.HasSuffix(name, ".hex") {
		return unhex(t, strings.TrimSpace(string(b)))
	}
	return b
}

// vendor is the usual JSON object of collateral.
type vendor struct {
	PCKChain string `json:"pck_crl_issuer_chain"`
	RootCRL  string `json:"root_ca_crl"`
	PCKCRL   string `json:"pck_crl"`
	TCBChain string `json:"tcb_info_issuer_chain"`
	TCBInfo  string `json:"tcb_info"`
	TCBSig   string `json:"tcb_info_signature"`
	QEChain  string `json:"qe_identity_issuer_chain"`
	QE       string `json:"qe_identity"`
	QESig    string `json:"qe_identity_signature"`
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pemCerts(t testing.TB, s string) (out []*x509.Certificate) {
	t.Helper()
	for rest := []byte(s); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return out
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
}

func list(t testing.TB, der []byte) *x509.RevocationList {
	t.Helper()
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func bundle(t testing.TB, name string) *collateral.Set {
	t.Helper()
	var v vendor
	if err := json.Unmarshal(evidence(t, name), &v); err != nil {
		t.Fatal(err)
	}
	return &collateral.Set{
		Certificates: append(pemCerts(t, v.PCKChain), append(pemCerts(t, v.TCBChain), pemCerts(t, v.QEChain)...)...),
		Lists:        []*x509.RevocationList{list(t, unhex(t, v.RootCRL)), list(t, unhex(t, v.PCKCRL))},
		TCBInfos:     []collateral.Document{{Body: []byte(v.TCBInfo), Signature: unhex(t, v.TCBSig)}},
		QEIdentities: []collateral.Document{{Body: []byte(v.QE), Signature: unhex(t, v.QESig)}},
	}
}

func document(t testing.TB, name, key string) collateral.Document {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.Unmarshal(evidence(t, name), &v); err != nil {
		t.Fatal(err)
	}
	var sig string
	if err := json.Unmarshal(v["signature"], &sig); err != nil {
		t.Fatal(err)
	}
	return collateral.Document{Body: v[key], Signature: unhex(t, sig)}
}

// loose puts vendor files together; the TCB signing chain and the root CRL are those
// of the first bundle where a set has none of its own.
func loose(t testing.TB, prefix, rootCRL string) *collateral.Set {
	t.Helper()
	first := bundle(t, "sgx/quote-v3.collateral.json")
	s := &collateral.Set{
		Certificates: first.Certificates,
		Lists:        []*x509.RevocationList{list(t, evidence(t, prefix+".pck-platform-crl.der"))},
		TCBInfos:     []collateral.Document{document(t, prefix+".tcbinfo.json", "tcbInfo")},
		QEIdentities: []collateral.Document{document(t, prefix+".qeidentity.json", "enclaveIdentity")},
	}
	if rootCRL == "" {
		s.Lists = append(s.Lists, first.Lists[0])
	} else {
		s.Lists = append(s.Lists, list(t, evidence(t, rootCRL)))
	}
	return s
}

func noon(s string) time.Time {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil {
			if layout == time.DateOnly {
				at = at.Add(12 * time.Hour)
			}
			return at
		}
	}
	panic(s)
}

// real is every published quote with collateral, and what it comes to.
var real = []struct {
	name, quote, at string
	set             func(testing.TB) *collateral.Set
	tee             string
	platform        string
	module          string
	status          string
	advisories      string
	shortfall       string
}{
	{"sgx v3", "sgx/quote-v3.bin", "2025-06-20", func(t testing.TB) *collateral.Set { return bundle(t, "sgx/quote-v3.collateral.json") },
		claims.SGX, ConfigurationAndSWHardeningNeeded, "", ConfigurationAndSWHardeningNeeded, "INTEL-SA-00289 INTEL-SA-00615", ""},
	{"sgx v3 ice lake", "sgx/quote-v3-icx.hex", "2025-08-20", func(t testing.TB) *collateral.Set { return loose(t, "sgx/icx", "") },
		claims.SGX, SWHardeningNeeded, "", SWHardeningNeeded, "INTEL-SA-00615", ""},
	{"tdx v4", "tdx/quote-v4.bin", "2025-06-20", func(t testing.TB) *collateral.Set { return bundle(t, "tdx/quote-v4.collateral.json") },
		claims.TDX, UpToDate, UpToDate, UpToDate, "", ""},
	{"tdx v4 live", "tdx/quote-v4-live.bin", "2026-03-30T20:00:00Z", func(t testing.TB) *collateral.Set { return loose(t, "tdx/live", "tdx/live.root-ca-crl.der") },
		claims.TDX, UpToDate, UpToDate, UpToDate, "", ""},
	{"tdx v5 unsupported", "tdx/quote-v5-unsupported-level.bin", "2026-02-20", func(t testing.TB) *collateral.Set {
		return bundle(t, "tdx/quote-v5-unsupported-level.collateral.json")
	}, claims.TDX, NotSupported, "", NotSupported, "", "SEAMLDR ACM SVN (sgxtcbcomponents[7]) is 3, wanted at least 5"},
	{"tdx v4 granite", "tdx/quote-v4-granite-outofdate.bin", "2025-11-01", func(t testing.TB) *collateral.Set { return loose(t, "tdx/granite", "") },
		claims.TDX, OutOfDate, UpToDate, OutOfDate, "", ""},
}

func check(r format.Result, code verdict.Code) (out []verdict.Check) {
	for _, c := range r.Checks {
		if c.Code == code {
			out = append(out, c)
		}
	}
	return out
}

func TestRealQuotes(t *testing.T) {
	for _, c := range real {
		t.Run(c.name, func(t *testing.T) {
			v := &Verifier{}
			o := &format.Options{At: noon(c.at), Collateral: c.set(t)}
			for pass := range 2 { // the second is answered from memory
				r := v.Verify(evidence(t, c.quote), o)
				for _, k := range r.Checks {
					if k.Status != verdict.Passed && k.Code != verdict.TCBStatus {
						t.Errorf("pass %d: %s %s: found %s, wanted %s", pass, k.Code, k.Status, k.Found, k.Wanted)
					}
				}
				in := r.Claims.Intel
				if r.Claims.TEE != c.tee || in.PlatformStatus != c.platform || in.ModuleStatus != c.module || in.Status != c.status {
					t.Errorf("found %s platform %s module %s status %s", r.Claims.TEE, in.PlatformStatus, in.ModuleStatus, in.Status)
				}
				if got := strings.Join(in.AdvisoryIDs, " "); got != c.advisories {
					t.Errorf("found advisories %s, wanted %s", got, c.advisories)
				}
				k := check(r, verdict.TCBStatus)
				if c.shortfall == "" && len(k) > 0 {
					t.Errorf("found %v", k)
				}
				if c.shortfall != "" && (len(k) != 1 || k[0].Status != verdict.Failed || !strings.HasPrefix(k[0].Found, "TCB level not supported: ") || !strings.Contains(k[0].Found, c.shortfall)) {
					t.Errorf("found %v, wanted %s", k, c.shortfall)
				}
				if in.CollateralUntil.Before(o.At) || len(r.Claims.ReportData) != 64 {
					t.Errorf("found collateral until %s, report data of %d bytes", in.CollateralUntil, len(r.Claims.ReportData))
				}
			}
		})
	}
}

func TestRealCertType3(t *testing.T) {
	raw := evidence(t, "sgx/quote-v3-certtype3.bin")
	if _, err := ParseQuote(raw); !errors.Is(err, ErrNoPCKChain) {
		t.Errorf("found %v, wanted %v", err, ErrNoPCKChain)
	}
	r := (&Verifier{}).Verify(raw, nil)
	if len(r.Checks) != 1 || r.Checks[0].Code != verdict.Form || r.Checks[0].Status != verdict.Failed || !strings.Contains(r.Checks[0].Found, "carries no PCK chain") || r.Claims != nil {
		t.Errorf("found %v", r.Checks)
	}
}

// The quotes inside RA-TLS certificates come without collateral: chain and
// signatures hold, the rest is not made.
func TestRealRATLS(t *testing.T) {
	for _, name := range []string{"ratls/gramine.pem", "ratls/rats-tls.pem"} {
		b, _ := pem.Decode(evidence(t, name))
		at := bytes.Index(b.Bytes, []byte{3, 0, 2, 0, 0, 0, 0, 0})
		if at < 0 {
			t.Fatalf("%s: no quote", name)
		}
		raw := b.Bytes[at:]
		size := 436 + int(raw[432]) + int(raw[433])<<8
		r := (&Verifier{}).Verify(raw[:size], &format.Options{At: noon("2024-01-01")})
		passed := map[verdict.Code]bool{}
		for _, k := range r.Checks {
			if k.Status == verdict.Failed {
				t.Errorf("%s: %s: %s", name, k.Code, k.Found)
			}
			passed[k.Code] = k.Status == verdict.Passed
		}
		for _, code := range []verdict.Code{verdict.Form, verdict.TrustedRoot, verdict.Chain, verdict.CertificateValidity, verdict.QEReport, verdict.AttestationKey, verdict.Signature} {
			if !passed[code] {
				t.Errorf("%s: %s did not pass", name, code)
			}
		}
		for _, code := range []verdict.Code{verdict.RootCRL, verdict.IntermediateCRL, verdict.TCBInfoMatch, verdict.QEIdentity} {
			if k := check(r, code); len(k) != 1 || k[0].Status != verdict.NotMade {
				t.Errorf("%s: %s: found %v, wanted not made", name, code, k)
			}
		}
		if got := verdict.Conclude(r.Checks); got != verdict.CannotTell {
			t.Errorf("%s: found %s", name, got)
		}
	}
}

func TestPinnedRoot(t *testing.T) {
	c, err := IntelRootCertificate()
	if err != nil {
		t.Fatal(err)
	}
	if got := pki.Fingerprint(c); got != IntelRoot() {
		t.Errorf("found %x, wanted %x", got, IntelRoot())
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		t.Error(err)
	}
}

// The Enarx request holds a quote, revocation lists and a TCB info, and no QE
// identity. The whole request is judged elsewhere.
func TestRealSteward(t *testing.T) {
	csr, err := x509.ParseCertificateRequest(evidence(t, "steward/icelake-xeon.csr.der"))
	if err != nil {
		t.Fatal(err)
	}
	var in struct {
		Quote []byte
		Lists struct {
			Entries []struct {
				URL  string `asn1:"utf8"`
				List asn1.RawValue
			}
		}
		TCB struct {
			Certs  []asn1.RawValue
			Report []byte
		}
	}
	for _, x := range csr.Extensions {
		if x.Id.String() == "1.3.6.1.4.1.58270.1.2" {
			if _, err := asn1.Unmarshal(x.Value, &in); err != nil {
				t.Fatal(err)
			}
		}
	}
	set := &collateral.Set{}
	for _, l := range in.Lists.Entries {
		set.Lists = append(set.Lists, list(t, l.List.FullBytes))
	}
	for _, c := range in.TCB.Certs {
		cert, err := x509.ParseCertificate(c.FullBytes)
		if err != nil {
			t.Fatal(err)
		}
		set.Certificates = append(set.Certificates, cert)
	}
	var report struct {
		TCBInfo   json.RawMessage `json:"tcbInfo"`
		Signature string          `json:"signature"`
	}
	if err := json.Unmarshal(in.TCB.Report, &report); err != nil {
		t.Fatal(err)
	}
	set.TCBInfos = []collateral.Document{{Body: report.TCBInfo, Signature: unhex(t, report.Signature)}}
	r := (&Verifier{}).Verify(in.Quote, &format.Options{At: noon("2023-02-01"), Collateral: set})
	for _, k := range r.Checks {
		if (k.Status != verdict.Passed) != (k.Code == verdict.QEIdentity) {
			t.Errorf("%s %s: found %s, wanted %s", k.Code, k.Status, k.Found, k.Wanted)
		}
	}
	allowed := "INTEL-SA-00289 INTEL-SA-00381 INTEL-SA-00389 INTEL-SA-00477 INTEL-SA-00586 INTEL-SA-00614 INTEL-SA-00615 INTEL-SA-00617 INTEL-SA-00657"
	if r.Claims.Intel.Status != OutOfDate || len(r.Claims.Intel.AdvisoryIDs) == 0 {
		t.Errorf("found %s %v", r.Claims.Intel.Status, r.Claims.Intel.AdvisoryIDs)
	}
	for _, a := range r.Claims.Intel.AdvisoryIDs {
		if !strings.Contains(allowed, a) {
			t.Errorf("the policy of the evidence does not allow %s", a)
		}
	}
	if got := r.Claims.SGX.MRENCLAVE.String(); got != "4046ea255f0455131a024e1265ac1ebd131fdbd1240f1712a00381f6f04e8c15" {
		t.Errorf("found MRENCLAVE %s", got)
	}
	spki := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	if !bytes.Equal(r.Claims.ReportData[:32], spki[:]) {
		t.Errorf("found report data %s, wanted %x", r.Claims.ReportData, spki)
	}
}
