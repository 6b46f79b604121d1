package snp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// sample is good synthetic evidence.
type sample struct {
	a      *synthetic.AMD
	key    *synthetic.AMDKey
	report []byte
	set    *collateral.Set
}

func newSample(t testing.TB, o synthetic.AMDOptions) *sample {
	t.Helper()
	a, err := synthetic.NewAMD(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &sample{a: a}
	r := a.Report(5)
	if s.key, err = a.Endorse(a.VCEK(r)); err != nil {
		t.Fatal(err)
	}
	s.report = synthetic.EncodeSNPReport(r)
	if err := s.key.Sign(s.report); err != nil {
		t.Fatal(err)
	}
	if s.set, err = a.Collateral(s.key); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sample) options(set *collateral.Set) *format.Options {
	return &format.Options{At: s.a.At, Collateral: set, SimulatedRoots: []pki.Hash{s.a.Root()}}
}

func TestManyJunkCertificates(t *testing.T) {
	s := newSample(t, synthetic.AMDOptions{})
	// As many intermediates and roots of the right names as fit, each with a key of its
	// own: the number of signatures that are tried has a bound.
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := &collateral.Set{Lists: s.set.Lists}
	junk := func(real, parent *synthetic.AMDAuthority, serial int) *synthetic.AMDAuthority {
		tmpl := *real.Certificate
		tmpl.SerialNumber, tmpl.PublicKey, tmpl.SubjectKeyId, tmpl.AuthorityKeyId = big.NewInt(int64(serial)), nil, nil, nil
		out, err := s.a.Issue(&tmpl, parent, k)
		if err != nil {
			t.Fatal(err)
		}
		set.Certificates = append(set.Certificates, out.Certificate)
		return out
	}
	for i := range 100 {
		junk(s.a.ASK, junk(s.a.ARK, nil, 1000+i), 2000+i)
	}
	set.Certificates = append(set.Certificates, s.set.Certificates...)
	var v snp.Verifier
	res := v.Verify(s.report, s.options(set))
	if c := check(res, verdict.Chain); c.Status != verdict.Failed || !strings.Contains(c.Found, "more than 48 certificates to try") {
		t.Errorf("found %+v, wanted a bound that was met", c)
	}
	// Beside as many machines' as a bench of developers has, whose names are the same, the
	// right ones are found.
	few := &collateral.Set{Lists: s.set.Lists, Certificates: append(slices.Clone(set.Certificates[:40]), s.set.Certificates...)}
	if got := verdict.Conclude(new(snp.Verifier).Verify(s.report, s.options(few)).Checks); got != verdict.Admitted {
		t.Errorf("beside 20 others: found %s, wanted admitted", got)
	}
	// With the right ones first the junk does no harm.
	slices.Reverse(set.Certificates)
	if got := verdict.Conclude(v.Verify(s.report, s.options(set)).Checks); got != verdict.Admitted {
		t.Errorf("found %s, wanted admitted", got)
	}
}

func check(res format.Result, code verdict.Code) verdict.Check {
	for _, c := range res.Checks {
		if c.Code == code {
			return c
		}
	}
	return verdict.Check{}
}

// TestHugeRSA: an intermediate that came along must not choose how long a
// verification takes.
func TestHugeRSA(t *testing.T) {
	s := newSample(t, synthetic.AMDOptions{})
	n := new(big.Int).Lsh(big.NewInt(1), 16383)
	huge := &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 1<<31 - 1}
	tmpl := *s.a.ASK.Certificate
	tmpl.PublicKey, tmpl.SubjectKeyId, tmpl.AuthorityKeyId = nil, nil, nil
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, s.a.ARK.Certificate, huge, s.a.ARK.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Skipf("crypto/x509 refuses it already: %v", err)
	}
	err = pki.VerifyChain([]*x509.Certificate{s.key.Certificate, c, s.a.ARK.Certificate}, nil)
	if err == nil || !strings.Contains(err.Error(), "16384 bits") {
		t.Errorf("found %v, wanted a bound on the key", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := newSample(t, synthetic.AMDOptions{})
	bad := bytes.Clone(s.report)
	bad[0x90] ^= 1
	var v snp.Verifier
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if got := verdict.Conclude(v.Verify(s.report, s.options(s.set)).Checks); got != verdict.Admitted {
					t.Errorf("found %s, wanted admitted", got)
				}
				if got := verdict.Conclude(v.Verify(bad, s.options(s.set)).Checks); got != verdict.NotGenuine {
					t.Errorf("found %s, wanted not_genuine", got)
				}
			}
		})
	}
	wg.Wait()
}

// TestCacheForgetsNothingOfTime: what a cache knows is signatures; time and revocation
// are looked at anew.
func TestCacheForgetsNothingOfTime(t *testing.T) {
	s := newSample(t, synthetic.AMDOptions{})
	var v snp.Verifier
	if got := verdict.Conclude(v.Verify(s.report, s.options(s.set)).Checks); got != verdict.Admitted {
		t.Fatalf("found %s, wanted admitted", got)
	}
	late := s.options(s.set)
	late.At = late.At.AddDate(10, 0, 0)
	res := v.Verify(s.report, late)
	if check(res, verdict.CertificateValidity).Status != verdict.NotMade || check(res, verdict.RootCRL).Status != verdict.NotMade {
		t.Errorf("ten years later: %+v", res.Checks)
	}
	unnamed := s.options(s.set)
	unnamed.SimulatedRoots = nil
	if c := check(v.Verify(s.report, unnamed), verdict.TrustedRoot); c.Status != verdict.Failed {
		t.Errorf("no longer named: %+v", c)
	}
	l, err := s.a.CRL(synthetic.AMDList{Revoked: []*big.Int{s.a.ASK.Certificate.SerialNumber}})
	if err != nil {
		t.Fatal(err)
	}
	revoked := *s.set
	revoked.Lists = append(slices.Clone(revoked.Lists), l)
	if c := check(v.Verify(s.report, s.options(&revoked)), verdict.RootCRL); c.Status != verdict.Failed {
		t.Errorf("revoked since: %+v", c)
	}
	aged := s.options(s.set)
	aged.MaxAge = 24 * 3600e9
	if c := check(v.Verify(s.report, aged), verdict.RootCRL); c.Status != verdict.NotMade {
		t.Errorf("a list of a month where a day is allowed: %+v", c)
	}
}

func TestNilOptions(t *testing.T) {
	s := newSample(t, synthetic.AMDOptions{})
	var v snp.Verifier
	if got := verdict.Conclude(v.Verify(s.report, nil).Checks); got != verdict.CannotTell {
		t.Errorf("no options: found %s", got)
	}
	if got := verdict.Conclude(v.Verify(s.report, &format.Options{Collateral: s.set, SimulatedRoots: []pki.Hash{s.a.Root()}}).Checks); got != verdict.CannotTell {
		t.Errorf("no time: found %s", got)
	}
	if got := verdict.Conclude(v.Chain(nil, nil).Checks); got != verdict.NotGenuine {
		t.Errorf("no chain: found %s", got)
	}
}

func TestVCEKURL(t *testing.T) {
	for product, want := range map[string]string{
		snp.Genoa: "https://kdsintf.amd.com/vcek/v1/Genoa/c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff?blSPL=10&teeSPL=00&snpSPL=25&ucodeSPL=84",
		snp.Turin: "https://kdsintf.amd.com/vcek/v1/Turin/c0c1c2c3c4c5c6c7?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81",
	} {
		a := &synthetic.AMD{Product: product}
		r := a.Report(5)
		if got := r.VCEKURL(); got != want {
			t.Errorf("%s: found %s", product, got)
		}
		r.ChipID = [64]byte{}
		if got := r.VCEKURL(); got != "" {
			t.Errorf("%s, hidden: found %s", product, got)
		}
		if got := a.Report(2).VCEKURL(); got != "" {
			t.Errorf("%s, version 2: found %s", product, got)
		}
	}
}

func TestProductOf(t *testing.T) {
	for _, c := range []struct {
		family, model byte
		want          string
	}{{0x19, 0, snp.Milan}, {0x19, 1, snp.Milan}, {0x19, 0x0f, snp.Milan}, {0x19, 0x10, snp.Genoa}, {0x19, 0x11, snp.Genoa}, {0x19, 0x1f, snp.Genoa},
		{0x19, 0x20, ""}, {0x19, 0x9f, ""}, {0x19, 0xa0, snp.Genoa}, {0x19, 0xaf, snp.Genoa}, {0x19, 0xb0, ""},
		{0x1a, 0, snp.Turin}, {0x1a, 2, snp.Turin}, {0x1a, 0x11, snp.Turin}, {0x1a, 0x12, ""}, {0x1a, 0x50, ""}, {0x17, 1, ""}, {0x18, 0, ""}, {0, 0, ""}} {
		if got := snp.ProductOf(c.family, c.model); got != c.want {
			t.Errorf("family %#x model %#x: found %q, wanted %q", c.family, c.model, got, c.want)
		}
	}
}

func TestCertTableCollateral(t *testing.T) {
	s := newSample(t, synthetic.AMDOptions{})
	table := snp.EncodeCertTable([]snp.CertEntry{{GUID: snp.GUIDVCEK, Data: s.key.Certificate.Raw}, {GUID: snp.GUID{1}, Data: []byte("x")}, {GUID: snp.GUIDASK}})
	set, err := snp.CertTableCollateral(table)
	if err != nil || len(set.Certificates) != 1 || len(set.Ignored) != 2 {
		t.Fatalf("found %+v, %v", set, err)
	}
	for name, data := range map[string][]byte{"junk": []byte("x"), "a byte behind": append(bytes.Clone(s.key.Certificate.Raw), 0), "cut": s.key.Certificate.Raw[:100]} {
		if _, err := snp.CertTableCollateral(snp.EncodeCertTable([]snp.CertEntry{{GUID: snp.GUIDVCEK, Data: data}})); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for n := range table {
		if _, err := snp.CertTableCollateral(table[:n]); err == nil {
			t.Fatalf("%d of %d bytes: accepted", n, len(table))
		}
	}
}

// FuzzVerify changes report, certificate and table together. Nothing that the key did
// not sign is ever genuine.
func FuzzVerify(f *testing.F) {
	s := newSample(f, synthetic.AMDOptions{})
	f.Add(s.report, s.key.Certificate.Raw, s.a.Table(s.key, false))
	f.Add(s.report, []byte{}, []byte{})
	var v snp.Verifier
	f.Fuzz(func(t *testing.T, report, key, table []byte) {
		set := &collateral.Set{Lists: s.set.Lists, Certificates: []*x509.Certificate{s.a.ARK.Certificate, s.a.ASK.Certificate}}
		if c, err := x509.ParseCertificate(key); err == nil {
			set.Certificates = append(set.Certificates, c)
		}
		more, err := snp.CertTableCollateral(table)
		if err == nil {
			set = collateral.Merge(set, more)
		}
		res := v.Verify(report, s.options(set))
		if verdict.Conclude(res.Checks) == verdict.Admitted && !bytes.Equal(report[:snp.SignedSize], s.report[:snp.SignedSize]) {
			t.Errorf("a report that nobody signed is genuine: %x", report)
		}
		if fields, err := snp.Layout(report); (err == nil) != (len(report) == snp.ReportSize) || err == nil && len(fields) == 0 {
			t.Errorf("layout: %v", err)
		}
		_, _ = snp.TableLayout(table)
		_ = v.Chain(set.Certificates[:min(len(set.Certificates), 9)], s.options(set))
	})
}

// FuzzEndorsement reads extensions of AMD's arc: arcs and values, each with a length.
func FuzzEndorsement(f *testing.F) {
	s := newSample(f, synthetic.AMDOptions{})
	var seed []byte
	for _, x := range s.key.Certificate.Extensions {
		if len(x.Id) > 8 {
			seed = append(seed, byte(len(x.Id)-8))
			for _, n := range x.Id[8:] {
				seed = append(seed, byte(n))
			}
			seed = append(append(seed, byte(len(x.Value))), x.Value...)
		}
	}
	f.Add(seed)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &x509.Certificate{PublicKey: &key.PublicKey}
		for len(b) > 0 && len(c.Extensions) < 32 {
			n := min(int(b[0]), len(b)-1)
			id := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
			for _, x := range b[1 : 1+n] {
				id = append(id, int(x))
			}
			b = b[1+n:]
			var value []byte
			if len(b) > 0 {
				n = min(int(b[0]), len(b)-1)
				value, b = b[1:1+n], b[1+n:]
			}
			c.Extensions = append(c.Extensions, pkix.Extension{Id: id, Value: value})
		}
		e, err := snp.ParseEndorsement(c)
		if err == nil && ((e.HWID == nil) == (e.CSP == "") || e.HWID != nil && len(e.HWID) != 8 && len(e.HWID) != 64) {
			t.Errorf("accepted %+v", e)
		}
	})
}
