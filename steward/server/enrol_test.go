package server

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/ear"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
)

// A Keep that proves itself gets all of it, and what it gets says what it should.
func TestEnrolment(t *testing.T) {
	s := newSteward(t)
	w := newWorkload(secretConfig)
	s.allow(w, s.platforms()+"dns = [\"App.Example.\"]\nvalidity = \"2h\"\naudience = \"db\"\n")
	session, out, p := s.keep(w).enrol()
	if p != nil {
		t.Fatalf("refused: %v", p)
	}
	got, err := session.secrets(out)
	if err != nil || string(got["db-password"]) != theSecret || len(got) != 1 {
		t.Errorf("secrets: found %q, %v", got, err)
	}
	var chain []*x509.Certificate
	for _, der := range out.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.roots(), Intermediates: between, DNSName: "app.example", CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		t.Errorf("the chain: %v", err)
	}
	if want := fmt.Sprintf("spiffe://%s/workload/%x", s.auth.TrustDomain(), w.digest); len(leaf.URIs) != 1 || leaf.URIs[0].String() != want {
		t.Errorf("SPIFFE ID: found %v, wanted %s", leaf.URIs, want)
	}
	if string(leaf.RawSubjectPublicKeyInfo) != string(session.spki) || len(leaf.DNSNames) != 1 || len(leaf.IPAddresses) != 0 || len(leaf.SerialNumber.Bytes()) != 16 {
		t.Errorf("the leaf: names %v, addresses %v, serial %x", leaf.DNSNames, leaf.IPAddresses, leaf.SerialNumber)
	}
	if d := out.NotAfter.Sub(s.now()); d < 119*time.Minute || d > 2*time.Hour || !leaf.NotAfter.Equal(out.NotAfter) || !out.RenewAfter.Before(out.NotAfter) {
		t.Errorf("validity: found %v until %v, renewal %v", d, leaf.NotAfter, out.RenewAfter)
	}
	ext := map[string][]byte{}
	for _, x := range leaf.Extensions {
		ext[x.Id.String()] = x.Value
	}
	if len(ext[authority.CMWOID.String()]) == 0 || len(ext[authority.VerdictOID.String()]) == 0 {
		t.Errorf("extensions: found %d, wanted the evidence and the verdict's digest", len(ext))
	}
	var text string
	if _, err := asn1.UnmarshalWithParams(ext[authority.AuditHeadOID.String()], &text, "utf8"); err != nil {
		t.Fatal(err)
	}
	head, err := audit.ParseHeadText(text)
	if err != nil || head.Verify(&s.auth.AuditKey().PublicKey) != nil {
		t.Errorf("the audit head: %v", err)
	}
	r, err := ear.Verify(out.Token, &s.auth.TokenKey().PublicKey, s.now(), "db")
	if err != nil {
		t.Fatalf("the token: %v", err)
	}
	if string(r.Key) != string(authority.SPKI(session.spki)) || r.Expires.After(out.NotAfter) {
		t.Errorf("the token: key %x, until %v, wanted the certified key and no later than %v", r.Key, r.Expires, out.NotAfter)
	}
	var rows []DecisionView
	if s.admin("GET", "/v1/admin/decisions", nil, &rows); len(rows) != 1 || rows[0].Outcome != "admitted" || rows[0].Seq != head.Seq || !rows[0].Simulated {
		t.Errorf("decisions: found %+v, wanted the one that the head covers (%d)", rows, head.Seq)
	}
	var one struct {
		Secrets []string `json:"secrets"`
		Serial  string   `json:"serial"`
	}
	if s.admin("GET", fmt.Sprintf("/v1/admin/decisions/%d", head.Seq), nil, &one); strings.Join(one.Secrets, " ") != "db-password@1" || one.Serial != leaf.SerialNumber.Text(16) {
		t.Errorf("the decision: found %+v", one)
	}
	for _, secret := range []string{"s3cret", s.token, out.Token} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}
