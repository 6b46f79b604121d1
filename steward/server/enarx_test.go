package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
)

func published(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("DONJON_EVIDENCE")
	if dir == "" {
		dir = "../../../shared/evidence"
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("no published evidence here (see docs/testing.md): %v", err)
	}
	return b
}

// enarxTOML is the policy of the published requests, in Enarx's form.
const enarxTOML = `[sgx]
signer = ["7a49a07df0f8e90a6e1d9a63e3c696d9c844f0e3f8739b21daa640f99facc48a"]
hash = ["4046ea255f0455131a024e1265ac1ebd131fdbd1240f1712a00381f6f04e8c15"]
features = ["Debug"]
allowed_advisories = ["INTEL-SA-00289", "INTEL-SA-00381", "INTEL-SA-00389", "INTEL-SA-00477", "INTEL-SA-00586", "INTEL-SA-00614", "INTEL-SA-00615", "INTEL-SA-00617", "INTEL-SA-00657"]
[snp]
signer = ["7dc22240a8344fce6ba5f22ffbedabc52d4123ae0ba1c59796e521b953916b503f223b15c4429e7d8c5489ad71f1e193"]
id_key_digest = ["d71a4d1da440d515cd69fbb1314acf4221726e82768a8bf6e4a4063ed542ac78349c8145b4666a4242a91a374387b473"]
hash = ["ff717ae719840c93c1fca3b7db96488454c3c21b43531488eecff51cfed3febcd91da8be87a4cbcbc52a3bae770987c3"]
abi = ">=1.51"
`

func withEnarx(t *testing.T, text string, kvm bool) func(*Options) {
	rules := &enrol.Enarx{AllowKVM: kvm}
	if text != "" {
		if err := rules.Parse([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return func(o *Options) { o.Enarx = rules }
}

func (s *steward) postEnarx(kind string, body []byte) (int, []byte, *protocol.Problem) {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(), Time: s.now}, DisableKeepAlives: true}}
	resp, err := c.Post("https://"+s.addr+"/", kind, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode == 200 {
		return 200, b, nil
	}
	var p protocol.Problem
	if err := json.Unmarshal(b, &p); err != nil {
		s.t.Fatalf("status %d: %s", resp.StatusCode, b)
	}
	return resp.StatusCode, nil, &p
}

func (s *steward) pkiPath(der []byte) []*x509.Certificate {
	s.t.Helper()
	var raw []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) > 0 {
		s.t.Fatalf("no PkiPath: %v", err)
	}
	var out []*x509.Certificate
	for _, r := range raw {
		c, err := x509.ParseCertificate(r.FullBytes)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// The published requests get their certificates at their own date, once, under the
// CA of their own.
func TestEnarxPublishedRequests(t *testing.T) {
	requests := [][]byte{published(t, "steward/milan.csr.der"), published(t, "steward/icelake-xeon.csr.der")}
	s := newStewardAt(t, time.Date(2023, 2, 1, 12, 0, 0, 0, time.UTC), withEnarx(t, enarxTOML, false), func(o *Options) { o.AllowSimulated = false })
	for i, der := range requests {
		code, b, p := s.postEnarx("application/pkcs10", der)
		if code != 200 {
			t.Errorf("request %d: status %d, %+v", i, code, p)
			continue
		}
		path := s.pkiPath(b)
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(s.auth.EnarxCertificate())
		if len(path) != 2 || !path[0].Equal(s.auth.EnarxCertificate()) || !bytes.Equal(path[1].RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
			t.Errorf("request %d: not the issuer and the key's certificate", i)
		}
		if _, err := path[1].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		if _, err := path[1].Verify(x509.VerifyOptions{Roots: s.roots(), CurrentTime: s.now()}); err == nil {
			t.Errorf("request %d: good under the Steward's own root", i)
		}
		if len(path[1].URIs)+len(path[1].DNSNames) > 0 {
			t.Errorf("request %d: names %v %v", i, path[1].URIs, path[1].DNSNames)
		}
		if code, _, p := s.postEnarx("application/pkcs10", der); code != 400 || p.Code != "evidence-used" {
			t.Errorf("request %d again: status %d, %+v", i, code, p)
		}
	}
}

func TestEnarxBundleAndDates(t *testing.T) {
	a, b := published(t, "steward/milan.csr.der"), published(t, "steward/icelake-xeon.csr.der")
	bundle, err := asn1.Marshal([]asn1.RawValue{{FullBytes: a}, {FullBytes: b}})
	if err != nil {
		t.Fatal(err)
	}
	s := newStewardAt(t, time.Date(2023, 2, 1, 12, 0, 0, 0, time.UTC), withEnarx(t, enarxTOML, false))
	code, der, p := s.postEnarx(typeBundle, bundle)
	if code != 200 {
		t.Fatalf("status %d, %+v", code, p)
	}
	var out struct{ Chain, Issued []asn1.RawValue }
	if rest, err := asn1.Unmarshal(der, &out); err != nil || len(rest) > 0 || len(out.Chain) != 1 || len(out.Issued) != 2 {
		t.Errorf("the answer: %v, %d and %d", err, len(out.Chain), len(out.Issued))
	}
	now := newSteward(t, withEnarx(t, enarxTOML, false))
	if code, _, p := now.postEnarx("application/pkcs10", a); code != 400 || p.Code == "" {
		t.Errorf("today: status %d, %+v", code, p)
	}
	none := newStewardAt(t, time.Date(2023, 2, 1, 12, 0, 0, 0, time.UTC), withEnarx(t, "", false))
	if code, _, p := none.postEnarx("application/pkcs10", a); code != 400 || p.Code != "refused" {
		t.Errorf("without a policy: status %d, %+v", code, p)
	}
	off := newSteward(t)
	if code, _, _ := off.postRaw("POST", "/", "application/pkcs10", a); code != 404 && code != 405 {
		t.Errorf("without --enarx: status %d", code)
	}
}

func kvmRequest(t *testing.T, more ...pkix.Extension) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		ExtraExtensions: append([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 1, 1}}}, more...)}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestEnarxKVM(t *testing.T) { // T5
	for name, c := range map[string]struct {
		kvm, simulated bool
		status         int
	}{"by name": {true, true, 200}, "not by name": {false, true, 400}, "nothing simulated": {true, false, 400}} {
		s := newSteward(t, withEnarx(t, enarxTOML, c.kvm), func(o *Options) { o.AllowSimulated = c.simulated })
		code, _, p := s.postEnarx("application/pkcs10", kvmRequest(t))
		if code != c.status {
			t.Errorf("%s: status %d, wanted %d: %+v", name, code, c.status, p)
		}
		two := kvmRequest(t, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 58270, 1, 3}, Value: []byte{0x30, 0}})
		if code, _, p := s.postEnarx("application/pkcs10", two); code != 400 || p.Code != "malformed" {
			t.Errorf("%s, two extensions: status %d, %+v", name, code, p)
		}
	}
}

func TestEnarxPolicyImport(t *testing.T) {
	for name, text := range map[string]string{
		"no condition":     "[snp]\nabi = \">=1.51\"\n",
		"signer alone":     "[sgx]\nsigner = [\"7a49a07df0f8e90a6e1d9a63e3c696d9c844f0e3f8739b21daa640f99facc48a\"]\n",
		"unknown key":      enarxTOML + "colour = 1\n",
		"a short hash":     "[snp]\nhash = [\"ff\"]\n",
		"policy flags":     enarxTOML + "policy_flags = [\"SMT\"]\n",
		"provisioning key": "[sgx]\nhash = [\"4046ea255f0455131a024e1265ac1ebd131fdbd1240f1712a00381f6f04e8c15\"]\nfeatures = [\"ProvisioningKey\"]\n",
		"nothing":          "",
	} {
		var e enrol.Enarx
		if err := e.Parse([]byte(text)); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
	var e enrol.Enarx
	if err := e.Parse([]byte(enarxTOML)); err != nil || len(e.Notes) == 0 {
		t.Errorf("found %v, notes %v, wanted what it leaves open to be said", err, e.Notes)
	}
}
