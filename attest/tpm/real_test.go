package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// check is the first check with that code; the zero Check where there is none.
func check(r format.Result, c verdict.Code) verdict.Check {
	for _, k := range r.Checks {
		if k.Code == c {
			return k
		}
	}
	return verdict.Check{}
}

func statuses(t *testing.T, r format.Result, want map[verdict.Code]verdict.Status) {
	t.Helper()
	for c, s := range want {
		if got := check(r, c); got.Status != s {
			t.Errorf("%s: found %+v, wanted %s", c, got, s)
		}
	}
}

func TestRealQuote(t *testing.T) {
	e, form, err := ParseJSON(published.Read(t, "tpm/quote.json"))
	if err != nil || form != FormQuote {
		t.Fatal(form, err)
	}
	r := new(Verifier).Verify(e, &format.Options{At: time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)})
	statuses(t, r, map[verdict.Code]verdict.Status{
		verdict.Form: verdict.Passed, verdict.Signature: verdict.Passed, verdict.PCRDigest: verdict.Passed,
		verdict.AKEndorsed: verdict.NotMade, verdict.AKRestricted: verdict.NotMade,
	})
	if got := verdict.Conclude(r.Checks); got != verdict.CannotTell {
		t.Errorf("found %s, wanted %s: nothing vouches for the key", got, verdict.CannotTell)
	}
	c := r.Claims
	if c.TEE != claims.TPM || len(c.Nonce) != 64 || c.HostData != nil || c.TPM.Bank != "sha256" || len(c.TPM.PCRs) != 24 || c.TPM.Endorsed != "" || !c.TPM.ClockSafe || c.TPM.ResetCount != 2 {
		t.Errorf("claims %+v, %+v", c, c.TPM)
	}
	for i := range e.Message {
		bad := e
		bad.Message = bytes.Clone(e.Message)
		bad.Message[i] ^= 1 << (i % 8)
		if r := new(Verifier).Verify(bad, &format.Options{}); verdict.Conclude(r.Checks) != verdict.NotGenuine {
			t.Errorf("a flipped bit in the message at %d: %s", i, verdict.Conclude(r.Checks))
		}
	}
	for i := range e.Signature {
		bad := e
		bad.Signature = bytes.Clone(e.Signature)
		bad.Signature[i] ^= 1 << (i % 8)
		if r := new(Verifier).Verify(bad, &format.Options{}); verdict.Conclude(r.Checks) != verdict.NotGenuine {
			t.Errorf("a flipped bit in the signature at %d: %s", i, verdict.Conclude(r.Checks))
		}
	}
	for i := range e.PCRs {
		bad := e
		bad.PCRs = append([][]byte{}, e.PCRs...)
		bad.PCRs[i] = bytes.Repeat([]byte{7}, 32)
		if r := new(Verifier).Verify(bad, &format.Options{}); check(r, verdict.PCRDigest).Status != verdict.Failed || r.Claims.TPM.PCRs != nil {
			t.Errorf("PCR %d changed: %+v", i, check(r, verdict.PCRDigest))
		}
	}
}

// snpClaims are what a verifier of the report would give; the signature is checked
// here so that the test does not rest on an unsigned report.
func snpClaims(t *testing.T, c *Composite) *claims.Claims {
	t.Helper()
	report, err := snp.ParseReport(c.Report)
	if err != nil {
		t.Fatal(err)
	}
	vcek, err := x509.ParseCertificate(c.VCEK)
	if err != nil {
		t.Fatal(err)
	}
	if err := snp.Verify(c.Report, vcek.PublicKey.(*ecdsa.PublicKey)); err != nil {
		t.Fatal(err)
	}
	return &claims.Claims{TEE: claims.SNP, ReportData: report.ReportData[:], HostData: report.HostData[:], SNP: &claims.SNPClaims{VMPL: report.VMPL, LaunchDigest: report.Measurement[:]}}
}

func TestRealComposite(t *testing.T) {
	e, form, err := ParseJSON(published.Read(t, "tpm/azure-snp-vtpm.json"))
	if err != nil || form != FormAzure {
		t.Fatal(form, err)
	}
	c := snpClaims(t, e.Composite)
	r := new(Verifier).VerifyComposite(e, c, &format.Options{})
	statuses(t, r, map[verdict.Code]verdict.Status{
		verdict.Form: verdict.Passed, verdict.RuntimeData: verdict.Passed, verdict.AKEndorsed: verdict.Passed,
		verdict.Signature: verdict.Passed, verdict.PCRDigest: verdict.Passed, verdict.AKRestricted: verdict.NotMade, verdict.VMPL: "",
	})
	q := r.Claims.TPM
	if r.Claims.SNP != c.SNP || r.Claims.TEE != claims.SNP || q.Endorsed != "report" || len(q.PCRs) != 24 || len(q.UserData) != 64 || q.Facts["secure-boot"] != true || len(r.Claims.Nonce) != 48 {
		t.Errorf("claims %+v, %+v", r.Claims, q)
	}
	if c.TPM != nil || c.Nonce != nil {
		t.Error("the claims given were changed")
	}

	// The report says nothing about this data, or somebody above VMPL 0 made it.
	bad := e
	other := *e.Composite
	other.RuntimeData = bytes.Replace(other.RuntimeData, []byte(`"secure-boot":true`), []byte(`"secure-boot": true`), 1)
	bad.Composite = &other
	r = new(Verifier).VerifyComposite(bad, c, &format.Options{})
	statuses(t, r, map[verdict.Code]verdict.Status{verdict.RuntimeData: verdict.Failed, verdict.AKEndorsed: verdict.NotMade})
	vmpl := *c
	vmpl.SNP = &claims.SNPClaims{VMPL: 1}
	r = new(Verifier).VerifyComposite(e, &vmpl, &format.Options{})
	statuses(t, r, map[verdict.Code]verdict.Status{verdict.RuntimeData: verdict.Failed, verdict.VMPL: verdict.Failed})
	tail := *c
	tail.ReportData = bytes.Clone(c.ReportData)
	tail.ReportData[63] = 1
	r = new(Verifier).VerifyComposite(e, &tail, &format.Options{})
	statuses(t, r, map[verdict.Code]verdict.Status{verdict.RuntimeData: verdict.Failed})
	r = new(Verifier).Verify(e, &format.Options{})
	statuses(t, r, map[verdict.Code]verdict.Status{verdict.RuntimeData: verdict.Failed})
}

// rtmrs are a TDX 1.0 quote's RTMR0 to RTMR3: at offset 328 of the TD report body,
// which follows the header of 48 bytes.
func rtmrs(quote []byte) (out [4]claims.Hex) {
	for i := range out {
		out[i] = quote[48+328+48*i : 48+328+48*(i+1)]
	}
	return out
}

func TestRealCCEL(t *testing.T) {
	log := published.Read(t, "tdx/quote-v4-live.ccel.bin")
	signed := rtmrs(published.Read(t, "tdx/quote-v4-live.bin"))
	k := CheckRTMRs(log, signed)
	if k.Status != verdict.Passed || k.Found != "replays to RTMR0, RTMR1, RTMR2" {
		t.Fatalf("found %+v", k)
	}
	l, err := ParseLog(log)
	if err != nil || len(l.Events) != 20 || l.Padding != 65536-2120 {
		t.Fatalf("found %d events, %d bytes of padding, %v", len(l.Events), l.Padding, err)
	}
	// Any digest changed is told by its register; data whose hash is its digest by its event.
	for _, e := range l.Events {
		bad := bytes.Clone(log)
		bad[e.Offset+14] ^= 1
		k := CheckRTMRs(bad, signed)
		if k.Status != verdict.Failed || !strings.Contains(k.Found, "replays to") {
			t.Errorf("event %d's digest: %+v", e.Number, k)
		}
		bad = bytes.Clone(log)
		bad[e.Offset+e.Size-1] ^= 1
		k = CheckRTMRs(bad, signed)
		if named := strings.Contains(k.Found, "event "+strconv.Itoa(e.Number)+" at offset "+strconv.Itoa(e.Offset)); named != e.selfHashed() || (k.Status == verdict.Failed) != e.selfHashed() {
			t.Errorf("event %d's data (%s): %+v", e.Number, e.name(), k)
		}
	}
	// An event left out, the log of nobody, padding that is none.
	short := append(bytes.Clone(log[:l.Events[3].Offset]), log[l.Events[4].Offset:]...)
	if k := CheckRTMRs(short, signed); k.Status != verdict.Failed {
		t.Errorf("an event left out: %+v", k)
	}
	for _, at := range []int{2120, 40000, len(log) - 1} {
		bad := bytes.Clone(log)
		bad[at] = 1
		if _, err := ParseLog(bad); err == nil {
			t.Errorf("padding with another byte at %d parses", at)
		}
	}
	for _, pad := range [][]byte{nil, {0xff}, bytes.Repeat([]byte{0}, 40), {0, 0}} {
		if k := CheckRTMRs(append(bytes.Clone(log[:2120]), pad...), signed); k.Status != verdict.Passed {
			t.Errorf("padding %x: %+v", pad, k)
		}
	}
	for n := range 2120 {
		if got, err := ParseLog(log[:n]); err == nil {
			last := l.First
			if k := len(got.Events); k > 0 {
				last = got.Events[k-1].Offset + got.Events[k-1].Size
			}
			if last+got.Padding != n { // cut between two events, or inside what looks like padding
				t.Errorf("%d bytes parse", n)
			}
		}
	}
	if k := CheckRTMRs(nil, signed); k.Status != verdict.Failed {
		t.Errorf("no log: %+v", k)
	}
	if k := CheckRTMRs(log, [4]claims.Hex{signed[0], signed[1], signed[0], signed[3]}); k.Status != verdict.Failed || !strings.Contains(k.Found, "RTMR2") {
		t.Errorf("another RTMR2: %+v", k)
	}
}
