package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(evidence(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// realList is one of the AMD lists inside a published Enarx request.
func realList(t testing.TB, off, n int) *x509.RevocationList {
	t.Helper()
	b := evidence(t, "../steward/milan.csr.der")
	l, err := x509.ParseRevocationList(b[off : off+n])
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func genoaList(t testing.TB) *x509.RevocationList { return realList(t, 1603, 890) }
func milanList(t testing.TB) *x509.RevocationList { return realList(t, 2540, 866) }

func on(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// statuses prints checks as code=status, so that a test can compare all of them.
func statuses(checks []verdict.Check) string {
	var out []string
	for _, c := range checks {
		s := string(c.Code) + "=" + string(c.Status)
		if c.Informal {
			s += "(informal)"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func find(checks []verdict.Check, code verdict.Code) verdict.Check {
	for _, c := range checks {
		if c.Code == code {
			return c
		}
	}
	return verdict.Check{}
}

func TestVerifyReal(t *testing.T) {
	const good = "form=passed endorsement-key=passed trusted-root=passed chain=passed certificate-validity=passed root-crl=not_made intermediate-crl=not_made(informal) key-to-report=passed signature=passed"
	var v Verifier
	for _, c := range []struct {
		name, report string
		keys         []string
		at           string
		list         bool
		want         string
		outcome      verdict.Outcome
		product      string
	}{
		{"milan", "milan-v2.report.bin", []string{"milan-v2.vcek.der"}, "2024-01-01T12:00:00Z", false, good, verdict.CannotTell, "Milan"},
		{"milan, current list", "milan-v2.report.bin", []string{"milan-v2.vcek.der"}, "2023-02-01T12:00:00Z", true,
			strings.Replace(good, "root-crl=not_made", "root-crl=passed", 1), verdict.Admitted, "Milan"},
		{"milan, list of last year", "milan-v2.report.bin", []string{"milan-v2.vcek.der"}, "2024-01-01T12:00:00Z", true, good, verdict.CannotTell, "Milan"},
		{"milan vlek", "milan-v3-vlek.report.bin", []string{"milan-v3-vlek.vlek.der"}, "2025-06-01T12:00:00Z", false, good, verdict.CannotTell, "Milan"},
		{"turin", "turin-v5.report.bin", []string{"turin-v5.vcek.pem"}, "2026-03-01T12:00:00Z", false, good, verdict.CannotTell, "Turin"},
		{"vlek expired", "milan-v3-vlek.report.bin", []string{"milan-v3-vlek.vlek.der"}, "2026-01-01T12:00:00Z", false,
			strings.Replace(good, "certificate-validity=passed", "certificate-validity=not_made", 1), verdict.CannotTell, "Milan"},
		{"wrong tcb", "milan-v2.report.bin", []string{"milan-v2.vcek-wrong-tcb.der"}, "2024-01-01T12:00:00Z", false, "", verdict.NotGenuine, "Milan"},
		{"wrong signer", "milan-v2.report.bin", []string{"milan-v2.vcek-wrong-signer.der"}, "2024-01-01T12:00:00Z", false, "", verdict.NotGenuine, "Milan"},
		{"several keys", "milan-v2.report.bin", []string{"milan-v2.vcek-wrong-tcb.der", "turin-v5.vcek.pem", "milan-v2.vcek-wrong-signer.der", "milan-v3-vlek.vlek.der", "milan-v2.vcek.der"},
			"2024-01-01T12:00:00Z", false, good, verdict.CannotTell, "Milan"},
		{"another product's key", "turin-v5.report.bin", []string{"milan-v2.vcek.der", "milan-v3-vlek.vlek.der"}, "2026-03-01T12:00:00Z", false,
			"form=passed endorsement-key=not_made key-to-report=not_made signature=not_made", verdict.CannotTell, "Turin"},
		{"turin's key for milan", "milan-v3-vlek.report.bin", []string{"turin-v5.vcek.pem"}, "2026-03-01T12:00:00Z", false,
			"form=passed endorsement-key=not_made key-to-report=not_made signature=not_made", verdict.CannotTell, "Milan"},
		{"no key", "turin-v5.report.bin", nil, "2026-03-01T12:00:00Z", false,
			"form=passed endorsement-key=not_made key-to-report=not_made signature=not_made", verdict.CannotTell, "Turin"},
		{"vcek for a vlek's report", "milan-v3-vlek.report.bin", []string{"milan-v2.vcek.der"}, "2025-06-01T12:00:00Z", false, "", verdict.NotGenuine, "Milan"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := &collateral.Set{}
			for _, k := range c.keys {
				set.Certificates = append(set.Certificates, certificate(t, k))
			}
			if c.list {
				set.Lists = append(set.Lists, genoaList(t), milanList(t))
			}
			for round := range 2 { // the second time from the cache
				res := v.Verify(evidence(t, c.report), &format.Options{At: on(c.at), Collateral: set})
				if got := statuses(res.Checks); c.want != "" && got != c.want {
					t.Errorf("round %d: found %s\nwanted %s", round, got, c.want)
				}
				if got := verdict.Conclude(res.Checks); got != c.outcome {
					t.Errorf("round %d: found %s, wanted %s: %+v", round, got, c.outcome, res.Checks)
				}
				if got := res.Claims.SNP.Product; got != c.product {
					t.Errorf("found product %q, wanted %q", got, c.product)
				}
			}
		})
	}
}

func TestRevokedIntermediate(t *testing.T) {
	var path asn1.RawValue
	if _, err := asn1.Unmarshal(evidence(t, "genoa-revoked-ask.pkipath"), &path); err != nil {
		t.Fatal(err)
	}
	var certs []*x509.Certificate
	for rest := path.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(one.FullBytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	var v Verifier
	for _, at := range []string{"2022-12-01T12:00:00Z", "2026-01-01T12:00:00Z"} { // revoked stays revoked
		res := v.Chain(certs, &format.Options{At: on(at), Collateral: &collateral.Set{Lists: []*x509.RevocationList{milanList(t), genoaList(t)}}})
		if got := find(res.Checks, verdict.RootCRL); got.Status != verdict.Failed || !strings.Contains(got.Found, "131073") {
			t.Errorf("%s: found %+v, wanted revoked", at, got)
		}
		if verdict.Conclude(res.Checks) != verdict.NotGenuine {
			t.Errorf("%s: found %s", at, statuses(res.Checks))
		}
	}
	// Without the list the old intermediate is not believed, waived or not.
	res := v.Chain(certs, &format.Options{At: on("2022-12-01T12:00:00Z")})
	for i := range res.Checks {
		res.Checks[i].Waived = "no list here"
	}
	if got := verdict.Conclude(res.Checks); got != verdict.CannotTell {
		t.Errorf("without a list: found %s: %s", got, statuses(res.Checks))
	}
	// The one that is built in, by itself, with the list.
	products, err := Products()
	if err != nil {
		t.Fatal(err)
	}
	res = v.Chain([]*x509.Certificate{products[1].ASK}, &format.Options{At: on("2022-12-01T12:00:00Z"), Collateral: &collateral.Set{Lists: []*x509.RevocationList{genoaList(t)}}})
	if got := verdict.Conclude(res.Checks); got != verdict.Admitted {
		t.Errorf("the built-in ASK: found %s: %+v", got, res.Checks)
	}
	if res := v.Chain([]*x509.Certificate{products[0].ASK, products[1].ASK}, &format.Options{}); verdict.Conclude(res.Checks) != verdict.NotGenuine {
		t.Errorf("two leaves: %s", statuses(res.Checks))
	}
}

func TestFlippedReal(t *testing.T) {
	var v Verifier
	for _, c := range []struct{ report, key, at string }{
		{"milan-v2.report.bin", "milan-v2.vcek.der", "2023-02-01T12:00:00Z"},
		{"milan-v3-vlek.report.bin", "milan-v3-vlek.vlek.der", "2025-06-01T12:00:00Z"},
		{"turin-v5.report.bin", "turin-v5.vcek.pem", "2026-03-01T12:00:00Z"},
	} {
		raw := evidence(t, c.report)
		set := &collateral.Set{Certificates: []*x509.Certificate{certificate(t, c.key)}}
		o := &format.Options{At: on(c.at), Collateral: set}
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << (i % 8)
			if res := v.Verify(bad, o); verdict.Conclude(res.Checks) != verdict.NotGenuine {
				t.Errorf("%s, byte %#x flipped: %s", c.report, i, statuses(res.Checks))
			}
		}
		for n := range raw {
			if res := v.Verify(raw[:n], o); statuses(res.Checks) != "form=failed" || res.Claims != nil {
				t.Fatalf("%s, %d bytes: %s", c.report, n, statuses(res.Checks))
			}
		}
		der := evidence(t, c.key)
		for i := range der {
			bad := bytes.Clone(der)
			bad[i] ^= 1 << (i % 8)
			cert, err := x509.ParseCertificate(bad)
			if err != nil {
				continue
			}
			res := v.Verify(raw, &format.Options{At: on(c.at), Collateral: &collateral.Set{Certificates: []*x509.Certificate{cert}}})
			for j := range res.Checks {
				res.Checks[j].Waived = "all that can be"
			}
			if got := verdict.Conclude(res.Checks); got != verdict.NotGenuine && got != verdict.CannotTell {
				t.Errorf("%s, byte %#x flipped: %s: %s", c.key, i, got, statuses(res.Checks))
			}
		}
	}
}
