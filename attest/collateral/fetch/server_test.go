package fetch

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
)

// Everything in this file is synthetic: hierarchies with the vendors' names and
// forms, but keys made for the test, and servers of the test's own.

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (a *authority) issue(t *testing.T, cn string, ca bool, extensions ...pkix.Extension) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(7, 0, 0),
		BasicConstraintsValid: true, IsCA: ca, SubjectKeyId: []byte(cn), ExtraExtensions: extensions}
	if ca {
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	parent, signer := c, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}
}

func (a *authority) list(t *testing.T, from time.Time, days int) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, days)}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sign wraps a document as Intel's server does.
func (a *authority) sign(t *testing.T, wrapper, body string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return fmt.Sprintf(`{%q:%s,"signature":"%x"}`, wrapper, body, sig)
}

func chainOf(as ...*authority) []byte {
	var out []byte
	for _, a := range as {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return out
}

func vcekExtensions(t *testing.T, hwid []byte, tcb claims.SNPTCB) []pkix.Extension {
	t.Helper()
	arc := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	der := func(v any, params string) []byte {
		b, err := asn1.MarshalWithParams(v, params)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	at := func(sub ...int) asn1.ObjectIdentifier { return append(append(asn1.ObjectIdentifier{}, arc...), sub...) }
	out := []pkix.Extension{{Id: at(1), Value: der(0, "")}, {Id: at(2), Value: der("Milan-B0", "ia5")}, {Id: at(4), Value: hwid}}
	for n, v := range map[int]uint8{1: tcb.BootLoader, 2: tcb.TEE, 3: tcb.SNP, 8: tcb.Microcode} {
		out = append(out, pkix.Extension{Id: at(3, n), Value: der(int(v), "")})
	}
	if tcb.FMC != nil {
		out = append(out, pkix.Extension{Id: at(3, 9), Value: der(int(*tcb.FMC), "")})
	}
	return out
}

const fmspc = "b0c06f000000"

func tcbBody(tee string, eval int, issued time.Time) string {
	return fmt.Sprintf(`{"id":%q,"version":3,"issueDate":%q,"nextUpdate":%q,"fmspc":%q,"pceId":"0000","tcbType":0,"tcbEvaluationDataNumber":%d,"tcbLevels":[]}`,
		tee, issued.Format(time.RFC3339), issued.AddDate(0, 0, 30).Format(time.RFC3339), fmspc, eval)
}

func qeBody(id string, issued time.Time) string {
	return fmt.Sprintf(`{"id":%q,"version":2,"issueDate":%q,"nextUpdate":%q,"tcbEvaluationDataNumber":18,"miscselect":"00000000","mrsigner":"00"}`,
		id, issued.Format(time.RFC3339), issued.AddDate(0, 0, 30).Format(time.RFC3339))
}

// vendor is one server that plays all of them, by path.
type vendor struct {
	t   *testing.T
	srv *httptest.Server

	mu     sync.Mutex
	count  map[string]int
	answer map[string]http.HandlerFunc // by path, query included

	ark, ask, asvk                      *authority
	intel, platform, processor, signing *authority
	chip                                []byte
	tcb                                 claims.SNPTCB
}

func (v *vendor) set(path string, f http.HandlerFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer[path] = f
}

func (v *vendor) asked(path string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count[path]
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.RequestURI()
	v.mu.Lock()
	v.count[path]++
	f := v.answer[path]
	v.mu.Unlock()
	if f == nil {
		http.Error(w, "no such thing", http.StatusNotFound)
		return
	}
	f(w, r)
}

func body(b []byte, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		_, _ = w.Write(b)
	}
}

const (
	chainPath = "/vcek/v1/Milan/cert_chain"
	crlPath   = "/vcek/v1/Milan/crl"
	tcbPath   = "/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard"
	qePath    = "/tdx/certification/v4/qe/identity?update=standard"
	pckPath   = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
	rootPath  = "/IntelSGXRootCA.der"
)

func (v *vendor) vcekPath() string {
	return fmt.Sprintf("/vcek/v1/Milan/%x?blSPL=03&teeSPL=00&snpSPL=10&ucodeSPL=169", v.chip)
}

// tcbInfo makes the server give a TCB info.
func (v *vendor) tcbInfo(signer *authority, eval int, issued time.Time) {
	v.set(tcbPath, body([]byte(signer.sign(v.t, "tcbInfo", tcbBody("TDX", eval, issued))), "TCB-Info-Issuer-Chain", url.PathEscape(string(chainOf(signer, v.intel)))))
}

func newVendor(t *testing.T) *vendor {
	t.Helper()
	v := &vendor{t: t, count: map[string]int{}, answer: map[string]http.HandlerFunc{}, chip: bytes.Repeat([]byte{0xc5}, 64),
		tcb: claims.SNPTCB{BootLoader: 3, SNP: 10, Microcode: 169}}
	var none *authority
	v.ark = none.issue(t, "ARK-Milan", true)
	v.ask, v.asvk = v.ark.issue(t, "SEV-Milan", true), v.ark.issue(t, "SEV-VLEK-Milan", true)
	v.intel = none.issue(t, "Intel SGX Root CA", true)
	v.platform, v.processor = v.intel.issue(t, "Intel SGX PCK Platform CA", true), v.intel.issue(t, "Intel SGX PCK Processor CA", true)
	v.signing = v.intel.issue(t, "Intel SGX TCB Signing", false)

	v.set(chainPath, body(chainOf(v.ask, v.ark)))
	v.set("/vlek/v1/Milan/cert_chain", body(chainOf(v.asvk, v.ark)))
	v.set(crlPath, body(v.ark.list(t, start.AddDate(0, -1, 0), 365)))
	v.set(v.vcekPath(), body(v.ask.issue(t, "SEV-VCEK", false, vcekExtensions(t, v.chip, v.tcb)...).cert.Raw))
	v.tcbInfo(v.signing, 18, start.AddDate(0, 0, -2))
	v.set(qePath, body([]byte(v.signing.sign(t, "enclaveIdentity", qeBody("TD_QE", start.AddDate(0, 0, -2)))), "SGX-Enclave-Identity-Issuer-Chain", url.PathEscape(string(chainOf(v.signing, v.intel)))))
	v.set(pckPath, body(v.platform.list(t, start.AddDate(0, 0, -2), 30), "SGX-PCK-CRL-Issuer-Chain", url.PathEscape(string(chainOf(v.platform, v.intel)))))
	v.set(rootPath, body(v.intel.list(t, start.AddDate(0, -1, 0), 365)))

	v.srv = httptest.NewTLSServer(v)
	t.Cleanup(v.srv.Close)
	return v
}

// clock is a time that sleeping moves on.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	slept []time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept, c.now = append(c.slept, d), c.now.Add(d)
	return ctx.Err()
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// client asks v for everything, with a cache of its own.
func (v *vendor) client(t *testing.T) (*Client, *clock) {
	t.Helper()
	k := &clock{now: start}
	pool := x509.NewCertPool()
	pool.AddCert(v.srv.Certificate())
	return &Client{HTTP: NewHTTP(pool, nil), Cache: Dir(t.TempDir()), Now: k.Now, Sleep: k.Sleep,
		Roots:   []*x509.Certificate{v.ark.cert, v.intel.cert},
		KDSBase: v.srv.URL, PCSBase: v.srv.URL, IntelCABase: v.srv.URL}, k
}

func must(t *testing.T) func(r Request, err error) Request {
	return func(r Request, err error) Request {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func (v *vendor) snpClaims() *claims.Claims {
	return &claims.Claims{TEE: claims.SNP, SNP: &claims.SNPClaims{Product: "Milan", SigningKey: "vcek", ChipID: v.chip, Reported: v.tcb}}
}

func tdxClaims() *claims.Claims {
	return &claims.Claims{TEE: claims.TDX, TDX: &claims.TDXClaims{}, Intel: &claims.IntelPlatform{FMSPC: []byte{0xb0, 0xc0, 0x6f, 0, 0, 0}, SGXType: 1}}
}

func counts(s *collateral.Set) [4]int {
	return [4]int{len(s.Certificates), len(s.Lists), len(s.TCBInfos), len(s.QEIdentities)}
}

// patient waits for the beginning of an answer however long it takes, so that a busy
// machine cannot end a try before its answer begins; the answer's body ends with the
// try, as always.
type patient struct{ Doer }

func (p patient) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	resp, err := p.Doer.Do(r.WithContext(ctx))
	if err == nil {
		context.AfterFunc(r.Context(), cancel)
	} else {
		cancel()
	}
	return resp, err
}
