//go:build linux

package connect

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// A keep is a server that proves itself with simulated silicon. What comes behind the
// attestation is serve's.
type keep struct {
	t         testing.TB
	addr      string
	silicon   *silicon.Silicon
	guest     *silicon.Guest
	workload  [32]byte
	claims    evidence.Claims
	tls       *tls.Config
	busy      atomic.Int32 // how many proofs are refused as busy
	attested  atomic.Int32
	handshake atomic.Int32
	serve     func(*tls.Conn)
}

// silicons: a processor takes some keys to make, and no test changes one.
var silicons = sync.OnceValues(func() (*silicon.Silicon, error) {
	dir, err := os.MkdirTemp("", "donjon-connect-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return silicon.Open(dir)
})

func newKeep(t testing.TB, serve func(*tls.Conn)) *keep {
	t.Helper()
	s, err := silicons()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	k := &keep{t: t, silicon: s, workload: sha256.Sum256([]byte("workload")), serve: serve}
	k.guest = s.Guest(silicon.Launch{HostData: k.workload}, func() [48]byte { return [48]byte{1} })
	k.claims = evidence.Claims{PubkeyHash: sha256.Sum256(spki), WorkloadDigest: k.workload, Purpose: evidence.PurposeConnect, Instance: [16]byte{1}}
	k.tls = (&atls.Server{}).TLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.addr = l.Addr().String()
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer raw.Close()
				conn := tls.Server(raw, k.tls)
				k.handshake.Add(1)
				if _, err := (&atls.Server{Prover: k}).Attest(context.Background(), conn); err != nil {
					return
				}
				k.attested.Add(1)
				k.serve(conn)
			})
		}
	})
	return k
}

func (k *keep) Prove(_ context.Context, nonce, exporter []byte) (atls.Proof, error) {
	if k.busy.Add(-1) >= 0 {
		return atls.Proof{}, fmt.Errorf("%w: as the test wants it", atls.ErrBusy)
	}
	c := k.claims
	c.Nonce, c.TLSExporter = nonce, exporter
	b, err := c.Encode()
	if err != nil {
		return atls.Proof{}, err
	}
	r, err := k.guest.Report(evidence.ReportData(b))
	if err != nil {
		return atls.Proof{}, err
	}
	e, err := evidence.Evidence{Report: r, Certs: k.guest.Certs(), Claims: b}.Encode()
	return atls.Proof{Evidence: e}, err
}

// dialer demands this very Keep.
func (k *keep) dialer() *Dialer {
	return k.dialerFor(k.workload)
}

func (k *keep) dialerFor(workload [32]byte) *Dialer {
	k.t.Helper()
	p, err := policy.Parse(fmt.Appendf(nil, "version = 1\nworkloads = [%q]\nsimulated_roots = [%q]\nallow_simulated = true\n[snp]\nlaunch_digests = [%q]\n",
		hex.EncodeToString(workload[:]), k.silicon.RootFingerprint(), fmt.Sprintf("01%094d", 0)))
	if err != nil {
		k.t.Fatal(err)
	}
	return &Dialer{Address: k.addr, Config: atls.Config{Verifier: &attest.Verifier{}, Options: attest.Options{Policy: p}, Timeout: 30 * time.Second}}
}

// served is a proxy that runs.
type served struct {
	addr   net.Addr
	failed chan error
	end    func()
}

func serve(t *testing.T, p *Proxy, place string) *served {
	t.Helper()
	at, err := ParsePlace(place)
	if err != nil {
		t.Fatal(err)
	}
	l, err := at.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{addr: l.Addr(), failed: make(chan error, 100)}
	p.Failed = func(_ net.Addr, err error) { s.failed <- err }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	s.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(s.end)
	return s
}

// try connects; one that is refused may be reset before the kernel has said so.
func (s *served) try(t *testing.T) (net.Conn, error) {
	c, err := net.Dial(s.addr.Network(), s.addr.String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.SetDeadline(time.Now().Add(time.Minute))
}

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := s.try(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
