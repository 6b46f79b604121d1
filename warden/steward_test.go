//go:build linux

package warden

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/protocol"
)

// A ca is one authority of a test.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (c ca) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// sign completes a template with a serial number and a validity, where it has none.
func (c *ca) sign(t testing.TB, tmpl *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	serial := make([]byte, 8)
	rand.Read(serial)
	serial[0] &= 0x7f
	tmpl.SerialNumber = new(big.Int).SetBytes(serial)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	}
	parent := tmpl
	if c.cert != nil {
		parent = c.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, c.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func testKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// authority makes a root (by nil) or an intermediate of by.
func authority(t testing.TB, name string, by *ca, ext ...pkix.Extension) *ca {
	t.Helper()
	c := &ca{key: testKey(t)}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, ExtraExtensions: ext}
	if by == nil {
		by = &ca{key: c.key}
	}
	c.cert = by.sign(t, tmpl, &c.key.PublicKey)
	return c
}

func marker(t testing.TB) pkix.Extension {
	t.Helper()
	v, err := asn1.MarshalWithParams(protocol.MarkerValue, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: protocol.MarkerOID, Value: v}
}

// serverLeaf is a certificate for 127.0.0.1 and steward.example.
func serverLeaf() *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "steward"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"steward.example"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// A fakeSteward does what the protocol says with attest's verifier, and lies where a
// test tells it to.
type fakeSteward struct {
	t                        testing.TB
	root, servers, workloads *ca
	srv                      *httptest.Server
	lifetime                 time.Duration // of certificates: 1 h
	renewAfter               time.Duration // of the answer: half of it
	secrets                  protocol.Secrets

	// The lies, set before it starts.
	tls       func(*tls.Config)
	leaf      func() tls.Certificate
	challenge func(http.ResponseWriter, *http.Request) bool // true: it has answered
	answer    func(http.ResponseWriter, *protocol.EnrolResponse, request) bool
	judge     func(*attest.Options)
	policy    string // beside the workload's own
	certify   func(*x509.Certificate)

	mu       sync.Mutex
	root2    []byte // of the simulated processor
	enrolled []enrolled
	given    [][]byte // challenges
	down     bool     // refuses with 503
}

// A request is what came in, as far as it is judged.
type request struct {
	protocol.EnrolRequest
	csr       *x509.CertificateRequest
	challenge []byte
	binding   protocol.Binding
}

// enrolled is what was seen of a Keep that was admitted.
type enrolled struct {
	spki, instance []byte
	sealing        []byte
	leaf           *x509.Certificate
}

func newFakeSteward(t testing.TB) *fakeSteward {
	t.Helper()
	f := &fakeSteward{t: t, lifetime: time.Hour, secrets: protocol.Secrets{"db": []byte("s3cret"), "other": []byte("not declared")}}
	f.root = authority(t, "root", nil)
	f.servers = authority(t, "servers", f.root, marker(t))
	f.workloads = authority(t, "workloads", f.root)
	return f
}

// under gives a leaf with its key and the issuer's certificate.
func (f *fakeSteward) under(by *ca, tmpl *x509.Certificate) tls.Certificate {
	k := testKey(f.t)
	c := by.sign(f.t, tmpl, &k.PublicKey)
	return tls.Certificate{Certificate: [][]byte{c.Raw, by.cert.Raw}, PrivateKey: k, Leaf: c}
}

func (f *fakeSteward) start() *fakeSteward {
	f.t.Helper()
	if f.leaf == nil {
		f.leaf = func() tls.Certificate { return f.under(f.servers, serverLeaf()) }
	}
	f.srv = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	conf := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{f.leaf()}}
	if f.tls != nil {
		f.tls(conf)
	}
	f.srv.TLS = conf
	f.srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of lies there are many
	f.srv.StartTLS()
	f.t.Cleanup(f.srv.Close)
	return f
}

func (f *fakeSteward) dial() (net.Conn, error) {
	return net.Dial("tcp", f.srv.Listener.Addr().String())
}

func (f *fakeSteward) config(more string) string {
	return fmt.Sprintf("steward = %q\nsteward_ca = \"ca.pem\"\n%s", f.srv.URL, more)
}

// host is a host that carries the Keep's connection to this Steward.
func (f *fakeSteward) host(more string) *host {
	h := &host{config: f.config(more), layers: [][]byte{f.root.pem()}, steward: f.dial}
	var err error
	if h.processor, err = silicon.Open(f.t.TempDir()); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.root2 = h.processor.Root()
	return h
}

func (f *fakeSteward) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down {
		f.refuse(w, 503, protocol.Problem{Code: "busy", Detail: "come again"})
		return
	}
	switch {
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json":
		f.t.Errorf("found %s %s with %q", r.Method, r.URL, r.Header)
	case r.URL.Path == protocol.PathChallenge:
		if f.challenge != nil && f.challenge(w, r) {
			return
		}
		c := make([]byte, 60)
		rand.Read(c)
		f.mu.Lock()
		f.given = append(f.given, c)
		f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(protocol.ChallengeResponse{Challenge: c, Expires: time.Now().Add(time.Minute)})
	case r.URL.Path == protocol.PathEnrol:
		f.enrol(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeSteward) refuse(w http.ResponseWriter, status int, p protocol.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	p.Status = status
	_ = json.NewEncoder(w).Encode(p)
}

func (f *fakeSteward) enrol(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, protocol.MaxRequest))
	if err != nil {
		f.t.Error(err)
		return
	}
	var q request
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&q.EnrolRequest); err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	q.challenge = f.given[len(f.given)-1]
	simulated := sha256.Sum256(f.root2)
	f.mu.Unlock()
	if q.csr, err = x509.ParseCertificateRequest(q.Request); err == nil {
		err = q.csr.CheckSignature()
	}
	if err != nil {
		f.t.Error(err)
		return
	}
	leaf, err := x509.ParseCertificate(f.srv.TLS.Certificates[0].Certificate[0])
	if err != nil {
		f.t.Error(err)
		return
	}
	digest := sha256.Sum256(q.Manifest)
	measurement := [48]byte{7}
	p, err := policy.Parse(fmt.Appendf(nil, "version = 1\nfreshness = \"nonce\"\nallow_simulated = true\nworkloads = [\"%x\"]\nsimulated_roots = [\"%x\"]\n%s\n[snp]\nlaunch_digests = [\"%x\"]\n",
		digest, simulated, f.policy, measurement))
	if err != nil {
		f.t.Error(err)
		return
	}
	o := attest.Options{At: time.Now(), Policy: p, Nonce: q.challenge, Purpose: "enrol"}
	if f.judge != nil {
		f.judge(&o)
	}
	var v attest.Verifier
	got := v.Verify(q.Request, o)
	if got.Outcome != verdict.Admitted {
		f.refuse(w, 403, protocol.Problem{Code: "refused", Title: "no", Detail: "the evidence is not admitted", Checks: got.Checks})
		return
	}
	exporter, err := protocol.Exporter(r.TLS, q.challenge)
	if err != nil {
		f.t.Error(err)
		return
	}
	stewardKey, sealingKey := sha256.Sum256(leaf.RawSubjectPublicKeyInfo), sha256.Sum256(q.SealingKey)
	keep := got.Claims.Keep
	for what, ok := range map[string]bool{
		"tls-exporter": bytes.Equal(keep.Exporter, exporter), "steward-key": bytes.Equal(keep.StewardKey, stewardKey[:]),
		"sealing-key": bytes.Equal(keep.SealingKey, sealingKey[:]), "the configuration": bytes.Contains(q.Manifest, []byte(hex.EncodeToString(sum(q.Config)))),
	} {
		if !ok {
			f.refuse(w, 403, protocol.Problem{Code: "binding", Detail: what + " is of another connection"})
			return
		}
	}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "keep"}, DNSNames: []string{"keep.example"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Second), NotAfter: time.Now().Add(f.lifetime)}
	if f.certify != nil {
		f.certify(tmpl)
	}
	issued := f.workloads.sign(f.t, tmpl, q.csr.PublicKey)
	q.binding = protocol.Binding{Challenge: q.challenge, SPKI: q.csr.RawSubjectPublicKeyInfo, Steward: leaf.RawSubjectPublicKeyInfo}
	sealed, err := protocol.Seal(q.SealingKey, q.binding, f.secrets)
	if err != nil {
		f.t.Error(err)
		return
	}
	after := f.renewAfter
	if after == 0 {
		after = f.lifetime / 2
	}
	out := protocol.EnrolResponse{Certificates: [][]byte{issued.Raw, f.workloads.cert.Raw}, Token: "token", Sealed: sealed, NotAfter: issued.NotAfter, RenewAfter: time.Now().Add(after)}
	if f.answer != nil && f.answer(w, &out, q) {
		return
	}
	f.mu.Lock()
	f.enrolled = append(f.enrolled, enrolled{q.csr.RawSubjectPublicKeyInfo, keep.Instance, q.SealingKey, issued})
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func (f *fakeSteward) seen() []enrolled {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]enrolled(nil), f.enrolled...)
}

var errNobody = errors.New("connecting to 127.0.0.1:1: connection refused")
