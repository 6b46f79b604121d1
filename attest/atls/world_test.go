package atls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// A keep is what a genuine Keep is to the protocol, on SIMULATED silicon: a TLS key that
// it alone has, and a prover that chooses every claim but nonce and exporter.
type keep struct {
	guest    *silicon.Guest
	workload [32]byte
	instance [16]byte
	cert     tls.Certificate
	key      [32]byte // SHA-256 of the SubjectPublicKeyInfo
	// edit, where it is not nil, changes the claims before they are signed: such a Keep is
	// not genuine, though its silicon is.
	edit func(*evidence.Claims)
	// bind, where it is not nil, gives other report data.
	bind func(claims []byte) [64]byte
}

// program is the measurement of the one program that policies here admit.
func program() [48]byte { return [48]byte{9} }

func newSilicon(t testing.TB) *silicon.Silicon {
	t.Helper()
	s, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKeep(t testing.TB, s *silicon.Silicon, workload byte) *keep {
	t.Helper()
	k := &keep{workload: [32]byte{workload}, cert: newCertificate(t)}
	k.guest = s.Guest(silicon.Launch{HostData: k.workload}, program)
	k.key = newKey(k.cert)
	rand.Read(k.instance[:])
	return k
}

// newCertificate is one with a key of its own, as anybody can make it.
func newCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// show makes evidence over the claims of this Keep.
func (k *keep) show(c evidence.Claims) ([]byte, error) {
	c.PubkeyHash, c.WorkloadDigest, c.Instance = k.key, k.workload, k.instance
	if k.edit != nil {
		k.edit(&c)
	}
	claims, err := c.Encode()
	if err != nil {
		return nil, err
	}
	data := evidence.ReportData(claims)
	if k.bind != nil {
		data = k.bind(claims)
	}
	report, err := k.guest.Report(data)
	if err != nil {
		return nil, err
	}
	return evidence.Evidence{Report: report, Certs: k.guest.Certs(), Claims: claims}.Encode()
}

// Prove implements Prover.
func (k *keep) Prove(_ context.Context, nonce, exporter []byte) (Proof, error) {
	b, err := k.show(evidence.Claims{Nonce: nonce, Purpose: evidence.PurposeConnect, TLSExporter: exporter})
	return Proof{Evidence: b}, err
}

func (k *keep) server() *Server { return &Server{Prover: k} }

// tls is the Keep's configuration for any client.
func (k *keep) tls() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{k.cert}} }

// proverFunc is a prover that is no genuine Keep's.
type proverFunc func(ctx context.Context, nonce, exporter []byte) (Proof, error)

func (f proverFunc) Prove(ctx context.Context, nonce, exporter []byte) (Proof, error) {
	return f(ctx, nonce, exporter)
}

// admits is a client whose policy names one Keep's workload, program and root.
func admits(t testing.TB, s *silicon.Silicon, k *keep) Config {
	t.Helper()
	like := *k
	like.edit, like.bind = nil, nil
	b, err := like.show(evidence.Claims{Nonce: []byte("12345678"), Purpose: evidence.PurposeFile})
	if err != nil {
		t.Fatal(err)
	}
	root, err := hex.DecodeString(s.RootFingerprint())
	if err != nil {
		t.Fatal(err)
	}
	v := new(attest.Verifier)
	text, err := attest.Fit(v, b, attest.Options{At: time.Now(), Nonce: []byte("12345678"), SimulatedRoots: []pki.Hash{pki.Hash(root)}}, policy.Draft{})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Verifier: v, Options: attest.Options{Policy: p}, Timeout: 20 * time.Second}
}

// connected gives both ends of a connection of this machine.
func connected(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

// An end is what one end of a connection has come to.
type end struct {
	conn *Conn
	err  error
}

// meet lets a client and a server meet; config is what the server shows.
func meet(t testing.TB, client Config, server *Server, config *tls.Config) (c, s end) {
	t.Helper()
	near, far := connected(t)
	return between(t, near, far, client, server, config)
}

// between does so over what is given.
func between(t testing.TB, near, far net.Conn, client Config, server *Server, config *tls.Config) (c, s end) {
	t.Helper()
	done := make(chan end, 1)
	go func() {
		conn := tls.Server(&uncut{Conn: far}, server.TLS(config))
		out, err := server.Attest(context.Background(), conn)
		if err != nil {
			_ = conn.Close()
		}
		done <- end{out, err}
	}()
	c.conn, c.err = client.Client(context.Background(), near)
	s = <-done
	return c, s
}

// failedCodes are the codes of the checks that failed, once each, in order; "" where err
// is no verdict.
func failedCodes(err error) string {
	var v *verdict.Error
	if !errors.As(err, &v) {
		return ""
	}
	var out []string
	for _, c := range v.Verdict.Checks {
		if c.Status == verdict.Failed && !slices.Contains(out, string(c.Code)) {
			out = append(out, string(c.Code))
		}
	}
	return strings.Join(out, " ")
}

// outcome is a refusal's; "" where err is no verdict.
func outcome(err error) verdict.Outcome {
	var v *verdict.Error
	if !errors.As(err, &v) {
		return ""
	}
	return v.Verdict.Outcome
}

func newKey(c tls.Certificate) [32]byte { return sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo) }

// judged is a judge that admits, with the checks that it is given.
func judged(edit func(*verdict.Verdict)) func(context.Context, Proof, attest.Options) (*verdict.Verdict, error) {
	return func(_ context.Context, _ Proof, o attest.Options) (*verdict.Verdict, error) {
		v := &verdict.Verdict{At: o.At, Outcome: verdict.Admitted}
		edit(v)
		return v, nil
	}
}

// looksAway admits everybody, as no judge should.
func looksAway(ctx context.Context, p Proof, o attest.Options) (*verdict.Verdict, error) {
	return judged(func(v *verdict.Verdict) {
		v.Checks = []verdict.Check{verdict.Pass(verdict.ChannelBinding, "not looked at"), verdict.Pass(verdict.KeyBinding, "not looked at")}
	})(ctx, p, o)
}

func none(context.Context, Proof, attest.Options) (*verdict.Verdict, error) { return nil, nil }

// listen is a server of k's on this machine. serve gets every byte that TLS gives it, of
// the protocol too: it is below Attest.
func listen(t *testing.T, k *keep, serve func(io.ReadWriter)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn := tls.Server(raw, k.server().TLS(k.tls()))
				defer conn.Close()
				if conn.Handshake() != nil {
					return
				}
				state := conn.ConnectionState()
				var head bytes.Buffer
				_, b, err := read(io.TeeReader(conn, &head), kindRequest)
				if err != nil {
					return
				}
				q, _ := decodeRequest(b)
				_ = prove(context.Background(), k, conn, &state, q.Nonce, RoleServer, kindEvidence, nil)
				serve(struct {
					io.Reader
					io.Writer
				}{io.MultiReader(&head, conn), conn})
			}()
		}
	}()
	return l.Addr().String()
}
