package server

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
	"github.com/donjon-tee/donjon/workload"
)

// measured is the launch digest of the Keeps here.
var measured = [48]byte{9, 9, 9}

const theSecret = "s3cret\n"

// ring is the sealer of the command line, in short.
type ring struct{ *sealing.Ring }

func (r ring) Seal(k store.SecretKey, version uint64, policy audit.Digest, plain []byte) ([]byte, string, error) {
	return r.Ring.Seal(plain, sealing.AAD(k.Workload, k.Name, version, policy))
}
func (r ring) Open(s store.Secret) ([]byte, error) {
	return r.Ring.Open(s.Sealed, sealing.AAD(s.Workload, s.Name, s.Version, s.Policy))
}
func (r ring) Confirm(k store.SecretKey, version uint64, policy audit.Digest) (store.Confirmation, error) {
	sum, id, err := r.MAC(sealing.Confirmation(k.Workload, k.Name, version, policy))
	return store.Confirmation{Policy: policy, MAC: sum, KeyID: id}, err
}
func (r ring) Confirmed(s store.Secret, c store.Confirmation) error {
	return r.VerifyMAC(sealing.Confirmation(s.Workload, s.Name, s.Version, c.Policy), c.KeyID, c.MAC)
}

// A steward is a Server on a port of its own, over a real database.
type steward struct {
	t       testing.TB
	dir     string
	store   store.Store
	auth    *authority.Authority
	server  *Server
	addr    string
	token   string
	log     *logs
	mu      sync.Mutex
	offset  time.Duration // of its clock
	silicon *silicon.Silicon
	stop    func()
}

func (s *steward) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset)
}

func (s *steward) step(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// theSilicon is one SIMULATED processor for all tests: to make one takes a second.
var theSilicon = sync.OnceValues(func() (*silicon.Silicon, error) {
	dir, err := os.MkdirTemp("", "silicon-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return silicon.Open(dir)
})

// newSteward starts one that admits what is simulated, on a state of its own.
func newSteward(t testing.TB, change ...func(*Options)) *steward {
	return newStewardAt(t, time.Time{}, change...)
}

// newStewardAt is newSteward with a clock that starts at a time; zero: now.
func newStewardAt(t testing.TB, at time.Time, change ...func(*Options)) *steward {
	t.Helper()
	s := &steward{t: t, dir: t.TempDir(), log: &logs{}}
	if !at.IsZero() {
		s.offset = time.Until(at)
	}
	var err error
	if s.silicon, err = theSilicon(); err != nil {
		t.Fatal(err)
	}
	if s.auth, err = authority.Open(authority.Options{Dir: filepath.Join(s.dir, "keys"), Clock: s.now}); err != nil {
		t.Fatal(err)
	}
	if s.store, err = store.OpenSQLite(context.Background(), filepath.Join(s.dir, "steward.db"), store.Options{Guard: storetest.Guard{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.start(change...)
	text, tok := NewToken("test", AllScopes(), time.Time{})
	s.token = text
	if err := s.store.PutToken(context.Background(), tok, store.Actor{Who: "test", At: s.now()}); err != nil {
		t.Fatal(err)
	}
	return s
}

// start serves; stop ends it.
func (s *steward) start(change ...func(*Options)) {
	t := s.t
	t.Helper()
	keys, err := sealing.Open(sealing.Config{Dir: filepath.Join(s.dir, "sealing")})
	if err != nil {
		t.Fatal(err)
	}
	names, err := authority.OwnNames([]string{"steward.example"})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Store: s.store, Authority: s.auth, Names: names, Seal: ring{keys}, AllowSimulated: true, Clock: s.now,
		Log: slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&o)
	}
	if s.server, err = New(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ctx, l, time.Second) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(s.stop)
}

func (s *steward) roots() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range s.auth.Roots() {
		p.AddCert(c)
	}
	return p
}

// admin asks an administrators' route.
func (s *steward) admin(method, path string, body any, into any) int {
	s.t.Helper()
	return s.adminAs(s.token, method, path, body, into)
}

func (s *steward) adminAs(token, method, path string, body any, into any) int {
	s.t.Helper()
	var r io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		r, kind = bytes.NewReader(b), "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "https://"+s.addr+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(), Time: s.now}, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	switch into := into.(type) {
	case nil:
	case *[]byte:
		*into = b
	default:
		if err := json.Unmarshal(b, into); err != nil {
			s.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return resp.StatusCode
}

// policyFor admits the Keeps of this machine's silicon.
func (s *steward) policyFor(w testWorkload, grant string) string {
	return "version = 1\nworkloads = [\"" + strings.TrimPrefix(w.subject(), "sha256:") + "\"]\nsimulated_roots = [\"" + s.silicon.RootFingerprint() +
		"\"]\nallow_simulated = true\n[snp]\nlaunch_digests = [\"" + hex.EncodeToString(measured[:]) + "\"]\n[steward]\n" + grant
}

func (s *steward) platforms() string {
	return "platforms = [\"simulated:" + s.silicon.RootFingerprint() + "\"]\n"
}

// allow makes a workload known with its secret.
func (s *steward) allow(w testWorkload, grant string) {
	s.t.Helper()
	if code := s.admin("PUT", "/v1/admin/workloads/"+w.subject(), WorkloadPut{Name: "app", Manifest: w.manifest, Policy: s.policyFor(w, grant)}, nil); code != 200 {
		s.t.Fatalf("allowing: status %d", code)
	}
	if strings.Contains(string(w.config), "db-password") {
		if code := s.admin("PUT", "/v1/admin/secrets/"+w.subject()+"/db-password", []byte(theSecret), nil); code != 200 {
			s.t.Fatalf("setting the secret: status %d", code)
		}
	}
}

type testWorkload struct {
	manifest, config []byte
	digest           [32]byte
}

func (w testWorkload) subject() string { return "sha256:" + hex.EncodeToString(w.digest[:]) }

const secretConfig = "steward = \"https://steward.example\"\nsteward_ca = \"ca.pem\"\n[[secrets]]\nname = \"db-password\"\nenv = \"DB\"\n"

func newWorkload(config string) testWorkload {
	module := []byte("\x00asm\x01\x00\x00\x00")
	m := workload.Manifest{Config: workload.Descriptor{MediaType: workload.MediaConfig, Digest: sha256.Sum256([]byte(config)), Size: int64(len(config))},
		Layers: []workload.Descriptor{{MediaType: workload.MediaWasm, Digest: sha256.Sum256(module), Size: int64(len(module))}}}
	w := testWorkload{manifest: m.Encode(), config: []byte(config)}
	w.digest = sha256.Sum256(w.manifest)
	return w
}

// A keep enrols as the warden does, on SIMULATED silicon; what it sends can be
// changed at each step.
type keep struct {
	steward  *steward
	silicon  *silicon.Silicon
	work     testWorkload
	host     [32]byte // zero: the workload's digest
	measured [48]byte
	policy   uint64   // guest policy, 0: the default
	instance [16]byte // zero: random

	// Steps that a test may change.
	claims  func(*evidence.Claims)
	request func(*x509.CertificateRequest)
	body    func(*protocol.EnrolRequest)
}

func (s *steward) keep(w testWorkload) *keep {
	return &keep{steward: s, silicon: s.silicon, work: w, measured: measured}
}

// A session is one connection to the Steward.
type session struct {
	k         *keep
	client    *http.Client
	state     tls.ConnectionState
	challenge []byte
	key       *ecdsa.PrivateKey
	sealing   *ecdh.PrivateKey
	spki      []byte
	close     func()
}

// connect opens a connection and asks for a challenge on it.
func (k *keep) connect() *session {
	t := k.steward.t
	t.Helper()
	conn, err := tls.Dial("tcp", k.steward.addr, &tls.Config{RootCAs: k.steward.roots(), MinVersion: tls.VersionTLS13, Time: k.steward.now, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{k: k, state: conn.ConnectionState(), close: func() { _ = conn.Close() }}
	used := false
	s.client = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, io.ErrClosedPipe
		}
		used = true
		return conn, nil
	}}, Timeout: 30 * time.Second}
	var c protocol.ChallengeResponse
	if code, _ := s.post(protocol.PathChallenge, struct{}{}, &c); code != http.StatusOK {
		t.Fatalf("asking for a challenge: status %d", code)
	}
	s.challenge = c.Challenge
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if s.sealing, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if s.spki, err = x509.MarshalPKIXPublicKey(&s.key.PublicKey); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *session) post(path string, body any, into any) (int, *protocol.Problem) {
	t := s.k.steward.t
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Post("https://"+s.k.steward.addr+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		var p protocol.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
			t.Fatalf("%s: status %d without a problem: %s", path, resp.StatusCode, b)
		}
		return resp.StatusCode, &p
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, nil
}

// enrolment makes the request for this session.
func (s *session) enrolment() *protocol.EnrolRequest {
	t, k := s.k.steward.t, s.k
	t.Helper()
	exporter, err := protocol.Exporter(&s.state, s.challenge)
	if err != nil {
		t.Fatal(err)
	}
	steward := sha256.Sum256(s.state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	seal := sha256.Sum256(s.sealing.PublicKey().Bytes())
	host := k.host
	if host == [32]byte{} {
		host = k.work.digest
	}
	c := evidence.Claims{PubkeyHash: sha256.Sum256(s.spki), Nonce: s.challenge, WorkloadDigest: host, Purpose: evidence.PurposeEnrol,
		Instance: k.instance, TLSExporter: exporter, StewardKey: steward[:], SealingKey: seal[:]}
	if c.Instance == [16]byte{} {
		rand.Read(c.Instance[:])
	}
	if k.claims != nil {
		k.claims(&c)
	}
	body := &protocol.EnrolRequest{Request: k.csr(s, c, host), Manifest: k.work.manifest, Config: k.work.config, SealingKey: s.sealing.PublicKey().Bytes()}
	if k.body != nil {
		k.body(body)
	}
	return body
}

func (k *keep) csr(s *session, c evidence.Claims, host [32]byte) []byte {
	t := k.steward.t
	t.Helper()
	raw, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	g := k.silicon.Guest(silicon.Launch{HostData: host, Policy: k.policy}, func() [48]byte { return k.measured })
	report, err := g.Report(evidence.ReportData(raw))
	if err != nil {
		t.Fatal(err)
	}
	list, err := evidence.CertificateExtensions(evidence.Evidence{Report: report, Certs: g.Certs(), Claims: raw})
	if err != nil {
		t.Fatal(err)
	}
	var cmw []pkix.Extension
	for _, x := range list {
		if x.Id.Equal(authority.CMWOID) {
			cmw = append(cmw, x)
		}
	}
	tmpl := &x509.CertificateRequest{ExtraExtensions: cmw}
	if k.request != nil {
		k.request(tmpl)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// enrol goes all the way.
func (k *keep) enrol() (*session, *protocol.EnrolResponse, *protocol.Problem) {
	k.steward.t.Helper()
	s := k.connect()
	defer s.close()
	var out protocol.EnrolResponse
	_, p := s.post(protocol.PathEnrol, s.enrolment(), &out)
	if p != nil {
		return s, nil, p
	}
	return s, &out, nil
}

// secrets opens what came.
func (s *session) secrets(r *protocol.EnrolResponse) (protocol.Secrets, error) {
	return protocol.Open(s.sealing, protocol.Binding{Challenge: s.challenge, SPKI: s.spki, Steward: s.state.PeerCertificates[0].RawSubjectPublicKeyInfo}, r.Sealed)
}

// peerOf is the connection of a session, as the handler gives it to the service.
func peerOf(s *session) enrol.Peer {
	return enrol.Peer{Address: "192.0.2.1:1", Request: "race", Exporter: func(c []byte) ([]byte, error) { return protocol.Exporter(&s.state, c) }}
}

// postRaw posts anything and gives the status and the body.
func (s *steward) postRaw(method, path, kind string, body []byte) (int, []byte, http.Header) {
	s.t.Helper()
	req, err := http.NewRequest(method, "https://"+s.addr+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(), Time: s.now}, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, b, resp.Header
}
