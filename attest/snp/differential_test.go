package snp_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	oracledata "github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// subject is evidence that both verifiers accept, to be changed.
type subject struct {
	name   string
	report []byte
	key    []byte // DER
	vlek   bool
	at     time.Time
	roots  map[string][]*trust.AMDRootCerts
	named  []pki.Hash
	others []*x509.Certificate // intermediates and root, where they are synthetic
}

// oracle is go-sev-guest's answer: its verification and, for what it compares there,
// its validation with every guest policy allowed.
func (s *subject) oracle(report, key []byte) error {
	r, err := abi.ReportToProto(report)
	if err != nil {
		return err
	}
	chain := &sevsnp.CertificateChain{VcekCert: key, Extras: map[string][]byte{}}
	if s.vlek {
		chain = &sevsnp.CertificateChain{VlekCert: key, Extras: map[string][]byte{}}
	}
	a := &sevsnp.Attestation{Report: r, CertificateChain: chain}
	if err := verify.SnpAttestation(a, &verify.Options{DisableCertFetching: true, Now: s.at, TrustedRoots: s.roots}); err != nil {
		return err
	}
	return validate.SnpAttestation(a, &validate.Options{
		GuestPolicy:    abi.SnpPolicy{SMT: true, MigrateMA: true, Debug: true, CXLAllowed: true},
		MinimumVersion: 0, PermitProvisionalFirmware: true, MinimumTCB: kds.TCBParts{}})
}

// wide is a policy that allows everything which the oracle is told to allow.
const wide = `version = 1
[snp]
products = ["Milan", "Genoa", "Turin"]
allow_debug = true
allow_migration = true
guest_policy_allowed = ["smt", "single_socket", "cxl", "mem_aes_256_xts", "rapl_dis", "ciphertext_hiding_dram", "page_swap_disable"]
vmpl = [0, 1, 2, 3]
[snp.floors]
Milan = { snp = 0 }
Genoa = { snp = 0 }
`

// ours is whether we find evidence genuine and its platform in order, whatever is
// missing beside it that go-sev-guest does not look at.
func (s *subject) ours(v *snp.Verifier, p *policy.Policy, report, key []byte) (bool, []verdict.Check) {
	set := &collateral.Set{Certificates: s.others}
	if c, err := x509.ParseCertificate(key); err == nil {
		set.Certificates = append(set.Certificates[:len(s.others):len(s.others)], c)
	}
	res := v.Verify(report, &format.Options{At: s.at, Collateral: set, SimulatedRoots: s.named})
	if res.Claims != nil {
		res.Add(p.Appraise(res.Claims, policy.Demand{At: s.at, PlatformOnly: true})...)
	}
	ok := true
	for _, c := range res.Checks {
		ok = ok && (c.Status == verdict.Passed || c.Code == verdict.RootCRL && c.Status == verdict.NotMade || c.Informal)
	}
	return ok, res.Checks
}

func oracleRoots(t testing.TB, product string, ark, ask, asvk *x509.Certificate) map[string][]*trust.AMDRootCerts {
	t.Helper()
	r := trust.AMDRootCertsProduct(product)
	r.ProductCerts = &trust.ProductCerts{Ark: ark, Ask: ask, Asvk: asvk}
	return map[string][]*trust.AMDRootCerts{product: {r}}
}

func milanSubjects(t testing.TB) []*subject {
	products, err := snp.Products()
	if err != nil {
		t.Fatal(err)
	}
	roots := oracleRoots(t, snp.Milan, products[0].ARK, products[0].ASK, products[0].ASVK)
	at := func(y int) time.Time { return time.Date(y, 6, 1, 12, 0, 0, 0, time.UTC) }
	out := []*subject{{name: "go-sev-guest's Milan", report: oracledata.AttestationBytes, key: oracledata.VcekBytes, at: at(2023), roots: roots}}
	if r, k := published.Find(t, "snp/milan-v2.report.bin"), published.Find(t, "snp/milan-v2.vcek.der"); r != nil && k != nil {
		out = append(out, &subject{name: "Milan, VCEK", report: r, key: k, at: at(2024), roots: roots})
	}
	if r, k := published.Find(t, "snp/milan-v3-vlek.report.bin"), published.Find(t, "snp/milan-v3-vlek.vlek.der"); r != nil && k != nil {
		out = append(out, &subject{name: "Milan, VLEK", report: r, key: k, vlek: true, at: at(2025), roots: roots})
	}
	if len(out) < 3 {
		t.Log("no published evidence here: go-sev-guest's own alone")
	}
	return out
}

// genoa is a hierarchy with AMD's names, which go-sev-guest insists on.
func genoa(t testing.TB) (*synthetic.AMD, map[string][]*trust.AMDRootCerts) {
	a, err := synthetic.NewAMD(synthetic.AMDOptions{AMDNames: true})
	if err != nil {
		t.Fatal(err)
	}
	return a, oracleRoots(t, snp.Genoa, a.ARK.Certificate, a.ASK.Certificate, a.ASVK.Certificate)
}

func genoaSubject(t testing.TB, a *synthetic.AMD, roots map[string][]*trust.AMDRootCerts, r snp.Report, e synthetic.AMDEndorsement) (*subject, *synthetic.AMDKey) {
	k, err := a.Endorse(e)
	if err != nil {
		t.Fatal(err)
	}
	b := synthetic.EncodeSNPReport(r)
	if err := k.Sign(b); err != nil {
		t.Fatal(err)
	}
	return &subject{name: "Genoa", report: b, key: k.Certificate.Raw, vlek: e.CSP != "", at: a.At, roots: roots, named: []pki.Hash{a.Root()},
		others: []*x509.Certificate{a.ARK.Certificate, a.ASK.Certificate, a.ASVK.Certificate}}, k
}

// divergence names why the two differ; "": they may not. Ours is in each the answer
// that the specification, or a real certificate, gives.
func divergence(report, key []byte, ours bool) string {
	r, err := snp.ParseReport(report)
	if ours {
		if err == nil && r.CPUStepping > 0xf {
			// See below: here it is signed, and the report it encodes anew is another.
			return "the upper half of the stepping"
		}
		if err == nil && r.Version >= 3 && !knownFMS(r) {
			// It knows three values of family, model and stepping; real ones of Genoa
			// (models 0xa0) and Turin are not among them.
			return "a model or stepping that go-sev-guest does not know"
		}
		return ""
	}
	if err != nil {
		le := binary.LittleEndian
		switch version := le.Uint32(report); {
		case le.Uint32(report[0x30:]) > 3:
			return "a VMPL over 3"
		case version < 5 && !allZero(report[0x1f8:0x208]):
			// Reserved before version 5.
			return "mitigation vectors before version 5"
		}
		return ""
	}
	if r.Version >= 3 && r.CPUStepping > 0xf {
		// It keeps four bits of the stepping and encodes the report anew with them, so
		// that the other four can be changed under the signature.
		return "the upper half of the stepping"
	}
	if tcbReserved(r) {
		return "reserved bytes of a TCB"
	}
	if committed, reported := r.CommittedTCB, r.ReportedTCB; over(reported, committed) {
		// Firmware reports at most what is committed; it compares with the current one.
		return "a reported TCB over the committed one"
	}
	c, err := x509.ParseCertificate(key)
	if err != nil {
		return ""
	}
	e, err := snp.ParseEndorsement(c)
	if err != nil {
		// Reserved levels that are not zero, a later structure: what they say about the
		// TCB would be lost.
		return "extensions that are not understood"
	}
	if r.Version >= 3 && e.ProductLine() != r.Product() {
		// It looks at the certificate's product for version 2 alone.
		return "a certificate for another product than the processor's"
	}
	return ""
}

// over says whether any component of a is higher than b's.
func over(a, b snp.TCB) bool {
	for i := 0; i < 64; i += 8 {
		if byte(a>>i) > byte(b>>i) {
			return true
		}
	}
	return false
}

// tcbReserved says whether a byte is set that Milan and Genoa reserve.
func tcbReserved(r snp.Report) bool {
	return (r.CurrentTCB|r.ReportedTCB|r.CommittedTCB|r.LaunchTCB)&0x0000ffffffff0000 != 0
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// knownFMS says whether go-sev-guest knows the processor.
func knownFMS(r snp.Report) bool {
	fms := uint32(r.CPUStepping&0xf) | uint32(r.CPUModel&0xf)<<4 | 0xf<<8 | uint32(r.CPUModel>>4)<<16 | uint32(r.CPUFamily-0xf)<<20
	return kds.ProductLineFromFms(fms) != "Unknown"
}

// TestDifferential changes reports and certificates and compares the verdict with
// go-sev-guest's.
func TestDifferential(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var v snp.Verifier
	p, err := policy.Parse([]byte(wide))
	if err != nil {
		t.Fatal(err)
	}
	p.AllowSimulated = true
	counts := map[string]int{}
	compare := func(s *subject, what string, at int, report, key []byte) {
		t.Helper()
		oracleErr := s.oracle(report, key)
		ok, checks := s.ours(&v, p, report, key)
		counts["inputs"]++
		if ok {
			counts["accepted"]++
		}
		if ok == (oracleErr == nil) {
			return
		}
		why := divergence(report, key, ok)
		if why == "" {
			t.Errorf("%s, %s changed at %#x: we say %v, go-sev-guest %v: %+v", s.name, what, at, ok, oracleErr, checks)
		}
		counts["diverging: "+why]++
	}
	a, roots := genoa(t)
	g, k := genoaSubject(t, a, roots, a.Report(3), a.VCEK(a.Report(3)))
	subjects := append(milanSubjects(t), g)
	for _, s := range subjects {
		if err := s.oracle(s.report, s.key); err != nil {
			t.Fatalf("%s: go-sev-guest refuses the evidence itself: %v", s.name, err)
		}
		if ok, checks := s.ours(&v, p, s.report, s.key); !ok {
			t.Fatalf("%s: we refuse the evidence itself: %+v", s.name, checks)
		}
		for i := range s.report {
			b := bytes.Clone(s.report)
			b[i] ^= byte(1 + rng.IntN(255))
			compare(s, "the report", i, b, s.key)
		}
		for i := range s.key {
			b := bytes.Clone(s.key)
			b[i] ^= byte(1 + rng.IntN(255))
			compare(s, "the certificate", i, s.report, b)
		}
		for _, other := range subjects {
			compare(s, "the key is "+other.name+"'s,", 0, s.report, other.key)
		}
	}
	// Changed and signed anew: what the signature does not catch.
	for range 3 {
		for i := range snp.SignedSize {
			b := bytes.Clone(g.report)
			b[i] ^= byte(1 + rng.IntN(255))
			if err := k.Sign(b); err != nil {
				t.Fatal(err)
			}
			compare(g, "the signed report", i, b, g.key)
		}
	}
	for i := range 64 {
		r := a.Report(3)
		r.ReportedTCB ^= 1 << i
		s, _ := genoaSubject(t, a, roots, r, a.VCEK(r))
		compare(s, "the TCB of both", i, s.report, s.key)
		e := a.VCEK(a.Report(3))
		e.TCB ^= 1 << i
		s, _ = genoaSubject(t, a, roots, a.Report(3), e)
		compare(s, "the key's TCB", i, s.report, s.key)
		e = a.VCEK(a.Report(3))
		e.HWID = bytes.Clone(e.HWID)
		e.HWID[i] ^= 1
		s, _ = genoaSubject(t, a, roots, a.Report(3), e)
		compare(s, "the key's chip", i, s.report, s.key)
	}
	for i, x := range []struct {
		arcs  []int
		value []byte
	}{{[]int{1}, []byte{2, 1, 1}}, {[]int{1}, []byte{2, 1, 2}}, {[]int{3, 4}, []byte{2, 1, 1}}, {[]int{3, 5}, []byte{2, 1, 1}}, {[]int{3, 10}, []byte{2, 1, 0}},
		{[]int{2}, []byte("\x16\x08Genoa-B1")}, {[]int{2}, []byte("\x16\x05Genoa")}, {[]int{2}, []byte("\x16\x08Milan-B0")}, {[]int{2}, []byte("\x0c\x08Genoa-B0")},
		{[]int{3, 1}, []byte{2, 2, 0, 10}}, {[]int{3, 1}, []byte{4, 1, 10}}, {[]int{5}, []byte("\x16\x01x")}, {[]int{6}, []byte{5, 0}}, {[]int{4}, make([]byte, 8)}} {
		e := a.VCEK(a.Report(3))
		e.Extensions = func(all []pkix.Extension) []pkix.Extension {
			id := append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, x.arcs...)
			for i := range all {
				if all[i].Id.Equal(id) {
					all[i].Value = x.value
					return all
				}
			}
			return append(all, pkix.Extension{Id: id, Value: x.value})
		}
		s, _ := genoaSubject(t, a, roots, a.Report(3), e)
		compare(s, "the key's extensions", i, s.report, s.key)
	}
	for version := uint32(0); version < 8; version++ {
		r := a.Report(version)
		s, _ := genoaSubject(t, a, roots, r, a.VCEK(r))
		compare(s, "the version", int(version), s.report, s.key)
	}
	if counts["inputs"] < 3000 || counts["accepted"] < 100 {
		t.Errorf("found %v, wanted 3000 inputs and 100 accepted", counts)
	}
	t.Logf("%v", counts)
}
