package server

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// carrying are the extensions of a certificate that hold evidence, by identifier.
func carrying(c *x509.Certificate) map[string][]byte {
	out := map[string][]byte{}
	for _, x := range c.Extensions {
		if id := x.Id.String(); id == "1.3.6.1.5.5.7.1.35" || id == "2.23.133.5.4.9" {
			out[id] = x.Value
		}
	}
	return out
}

// What the Steward certifies carries the evidence that it judged, in both forms, and
// whoever reads it comes to the same verdict without the Steward.
func TestCertificateCarriesTheEvidence(t *testing.T) {
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, s.platforms())
	var request []byte
	k := s.keep(w)
	k.request = func(c *x509.CertificateRequest) { request = c.ExtraExtensions[0].Value }
	session, out, p := k.enrol()
	if p != nil {
		t.Fatal(p)
	}
	leaf, err := x509.ParseCertificate(out.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	ext := carrying(leaf)
	if len(ext) != 2 || !bytes.Equal(ext["1.3.6.1.5.5.7.1.35"], request) {
		t.Fatalf("found %d extensions with evidence, wanted two, the first as in the request", len(ext))
	}
	e, err := evidence.FromCertificate(leaf) // both hold the same, or it fails (T26)
	if err != nil {
		t.Fatal(err)
	}
	c, err := evidence.ParseClaims(e.Claims)
	if err != nil || c.Purpose != evidence.PurposeEnrol || c.Instance == [16]byte{} || !bytes.Equal(c.Nonce, session.challenge) {
		t.Errorf("the claims: found %+v, %v", c, err)
	}
	var file []byte
	for _, der := range out.Certificates {
		file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	text, _, _ := strings.Cut(s.policyFor(w, s.platforms()), "[steward]")
	demand, err := policy.Parse([]byte("freshness = \"none\"\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	var v attest.Verifier
	if got := v.Verify(file, attest.Options{At: s.now(), Policy: demand}); got.Outcome != verdict.Admitted {
		t.Errorf("the chain in a file: %s", got.Text(nil))
	}
	// The evidence of one key in another's certificate is nobody's.
	forged := s.recertify(leaf)
	if got := v.Verify(forged, attest.Options{At: s.now(), Policy: demand}); got.Outcome != verdict.NotGenuine || !failed(got, verdict.KeyBinding) {
		t.Errorf("with another key: %s", got.Text(nil))
	}
}

func failed(v *verdict.Verdict, code verdict.Code) bool {
	for _, c := range v.Checks {
		if c.Code == code && c.Status == verdict.Failed {
			return true
		}
	}
	return false
}

// recertify puts the evidence of a certificate beside another key.
func (s *steward) recertify(from *x509.Certificate) []byte {
	s.t.Helper()
	other := s.keep(newWorkload("")).connect()
	defer other.close()
	t := &x509.Certificate{SerialNumber: from.SerialNumber, Subject: from.Subject, NotBefore: from.NotBefore, NotAfter: from.NotAfter}
	for _, x := range from.Extensions {
		if len(carrying(&x509.Certificate{Extensions: []pkix.Extension{x}})) == 1 {
			t.ExtraExtensions = append(t.ExtraExtensions, x)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &other.key.PublicKey, other.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return der
}

// stapled puts vendor data and more certificates to the evidence of a request.
func stapled(t *testing.T, change func(*evidence.Evidence)) func(*x509.CertificateRequest) {
	return func(c *x509.CertificateRequest) {
		e, err := evidence.FromCertificate(&x509.Certificate{Extensions: c.ExtraExtensions})
		if err != nil {
			t.Fatal(err)
		}
		change(&e)
		list, err := evidence.CertificateExtensions(e)
		if err != nil {
			t.Fatal(err)
		}
		c.ExtraExtensions = list[:1]
	}
}

// Collateral is for judging: it does not swell the certificate, and what would swell
// it nevertheless is refused.
func TestCertificateStaysSmall(t *testing.T) {
	s := newSteward(t)
	w := newWorkload("")
	s.allow(w, s.platforms())
	bundle, err := (&collateral.Bundle{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	k := s.keep(w)
	k.request = stapled(t, func(e *evidence.Evidence) { e.Collateral = bundle })
	_, out, p := k.enrol()
	if p != nil {
		t.Fatal(p)
	}
	leaf, err := x509.ParseCertificate(out.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	if e, err := evidence.FromCertificate(leaf); err != nil || e.Collateral != nil || len(e.Report) == 0 || len(e.Certs) == 0 {
		t.Errorf("found %d bytes of collateral, %v, wanted none", len(e.Collateral), err)
	}
	if n := len(leaf.Raw); n > 16<<10 {
		t.Errorf("a certificate of %d bytes", n)
	}
	k = s.keep(w)
	k.request = stapled(t, func(e *evidence.Evidence) { e.Certs = append(bytes.Clone(e.Certs), make([]byte, 32<<10)...) })
	if _, _, p := k.enrol(); p == nil || p.Code != "malformed" || !strings.Contains(p.Detail, "in a certificate") {
		t.Errorf("a table of 32 KiB: found %+v", p)
	}
}
