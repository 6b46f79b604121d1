package collateral

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func root(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(published.Read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestT25Verified(t *testing.T) {
	intel, milan := root(t, "sgx/intel-root.der"), root(t, "snp/roots/milan-ark.der")
	s := add(t, published.Read(t, "tdx/quote-v4.collateral.json"))
	if got := counts(Verified(s, []*x509.Certificate{intel}, nil)); got != [5]int{3, 2, 1, 1} {
		t.Errorf("Intel's collateral under Intel's root: found %v", got)
	}
	if got := counts(Verified(s, []*x509.Certificate{milan}, nil)); got != [5]int{} {
		t.Errorf("Intel's collateral under AMD's root: found %v", got)
	}
	for _, bad := range []func(*Set){
		func(s *Set) { s.TCBInfos[0].Body = append([]byte(" "), s.TCBInfos[0].Body...) },
		func(s *Set) { s.TCBInfos[0].Signature = s.QEIdentities[0].Signature },
		func(s *Set) { s.TCBInfos[0].Signature = nil },
	} {
		s := add(t, published.Read(t, "tdx/quote-v4.collateral.json"))
		bad(s)
		if got := counts(Verified(s, []*x509.Certificate{intel}, nil)); got[2] != 0 || got[3] != 1 {
			t.Errorf("a changed TCB info: found %v", got)
		}
	}
	// A key and its chain: in any order, and nothing without the one between.
	amd := &Set{}
	for _, n := range []string{"snp/milan-v2.vcek.der", "snp/milan-v2.vcek-wrong-signer.der", "snp/roots/milan-ark.der", "snp/roots/milan-ask.der"} {
		if err := amd.Add(n, published.Read(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := counts(Verified(amd, []*x509.Certificate{milan}, nil)); got != [5]int{3} {
		t.Errorf("VCEK, ASK, ARK and a VCEK by another signer: found %v, wanted three certificates", got)
	}
	if got := counts(Verified(add(t, published.Read(t, "snp/milan-v2.vcek.der")), []*x509.Certificate{milan}, nil)); got != [5]int{} {
		t.Errorf("a VCEK alone: found %v", got)
	}
	if got := counts(Verified(nil, nil, nil)); got != [5]int{} {
		t.Error(got)
	}
}

func document(tee, fmspc string, eval int) *Set {
	body := fmt.Sprintf(`{"id":%q,"issueDate":"2025-06-19T10:16:03Z","nextUpdate":"2025-07-19T10:16:03Z","fmspc":%q,"tcbEvaluationDataNumber":%d}`, tee, fmspc, eval)
	return &Set{TCBInfos: []Document{{Body: []byte(body)}}}
}

// crl is a list under a name of its own issuer's, signed by a key made for it.
func crl(t *testing.T, issuer string, number int64, thisUpdate time.Time) *Set {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}, SubjectKeyId: []byte(issuer), KeyUsage: x509.KeyUsageCRLSign}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: thisUpdate, NextUpdate: thisUpdate.AddDate(0, 1, 0)}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Set{Lists: []*x509.RevocationList{l}}
}

// HighWater looks at what its caller has verified; signatures are not its matter, so
// the sets here need none.
func TestT25Rollback(t *testing.T) {
	const fmspc, other = "b0c06f000000", "00606a000000"
	seen := &HighWater{}
	seen.Raise(document("TDX", fmspc, 17))
	seen.Raise(document("TDX", fmspc, 16)) // does not lower
	seen.Raise(crl(t, "A", 1, day))
	seen.Raise(crl(t, "B", 7, day))
	for _, c := range []struct {
		name string
		set  *Set
		want verdict.Status
		why  string
	}{
		{"the same", document("TDX", fmspc, 17), verdict.Passed, ""},
		{"newer", document("TDX", fmspc, 18), verdict.Passed, ""},
		{"older", document("TDX", fmspc, 16), verdict.Failed, "evaluation number 16"},
		{"older, other spelling", document("TDX", strings.ToUpper(fmspc), 16), verdict.Failed, "16"},
		{"older, beside the newest", Merge(document("TDX", fmspc, 16), document("TDX", fmspc, 17)), verdict.Passed, ""},
		{"another platform", document("TDX", other, 1), verdict.Passed, ""},
		{"another TEE", document("SGX", fmspc, 1), verdict.Passed, ""},
		{"list, the same", crl(t, "A", 1, day), verdict.Passed, ""},
		{"list, same number and older", crl(t, "A", 1, day.Add(-time.Second)), verdict.Failed, "from 2025"},
		{"list, lower number", crl(t, "B", 6, day.Add(time.Hour)), verdict.Failed, `number "6"`},
		{"list, higher number", crl(t, "B", 10, day.Add(time.Hour)), verdict.Passed, ""},
		{"list, other issuer", crl(t, "C", 1, day.AddDate(-1, 0, 0)), verdict.Passed, ""},
		{"nothing", &Set{}, verdict.NotMade, "no collateral"},
		{"nil", nil, verdict.NotMade, "no collateral"},
	} {
		got := Rollback(c.set, seen)
		if len(got) != 1 || got[0].Status != c.want || got[0].Code != verdict.CollateralRollback || !strings.Contains(got[0].Found, c.why) {
			t.Errorf("%s: found %+v, wanted %s", c.name, got, c.want)
		}
	}
	if verdict.Conclude(Rollback(nil, seen)) != verdict.Admitted {
		t.Error("evidence without collateral is kept out for want of any")
	}
	if verdict.Conclude(Rollback(document("TDX", fmspc, 16), seen)) != verdict.NotGenuine {
		t.Error("older collateral is let in")
	}
	if Rollback(document("TDX", fmspc, 16), nil) != nil {
		t.Error("a check without a memory")
	}
	seen.Slack = time.Minute
	if got := Rollback(crl(t, "A", 1, day.Add(-time.Minute)), seen); got[0].Status != verdict.Passed {
		t.Errorf("within the slack: %+v", got)
	}
	seen.Slack = 0

	saved, err := seen.Save()
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadHighWater(saved)
	if err != nil {
		t.Fatal(err)
	}
	if got := Rollback(crl(t, "B", 6, day), back); got[0].Status != verdict.Failed {
		t.Errorf("after saving and loading: %+v", got)
	}
	if again, err := back.Save(); err != nil || string(again) != string(saved) {
		t.Errorf("saved again: %s, %v", again, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "cut short": string(saved[:len(saved)/2]), "version": strings.Replace(string(saved), `"version": 1`, `"version": 2`, 1),
		"number": strings.Replace(string(saved), `"7"`, `"07"`, 1), "field": strings.Replace(string(saved), `"number"`, `"nombre"`, 1),
		"large": strings.Repeat(" ", maxMarkFile+1),
	} {
		if _, err := LoadHighWater([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestT25MarksAreBounded(t *testing.T) {
	h := &HighWater{}
	for i := range maxMarks + 10 {
		h.Raise(document("TDX", fmt.Sprintf("%012x", i), 1))
	}
	if len(h.marks) != maxMarks {
		t.Errorf("found %d, wanted %d", len(h.marks), maxMarks)
	}
}
