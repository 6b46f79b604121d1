//go:build linux

package warden

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func wardenAt(t testing.TB, now func() time.Time) *warden {
	t.Helper()
	w := &warden{Options: Options{Now: now, TEE: "sim"}, proved: make(chan struct{})}
	var err error
	if w.identity, err = newIdentity(newProcessor(t, digest), digest, w.now); err != nil {
		t.Fatal(err)
	}
	return w
}

// T10: the host's clock cannot take the Keep behind its release.
func TestT10ClockFloor(t *testing.T) {
	at := time.Time{}
	w := &warden{Options: Options{Now: func() time.Time { return at }}}
	for _, c := range []struct {
		name string
		host time.Time
		want time.Time
	}{
		{"ten years back", released.AddDate(-10, 0, 0), released},
		{"the epoch", time.Unix(0, 0), released},
		{"before the epoch", time.Unix(-1<<40, 0), released},
		{"no time", time.Time{}, released},
		{"the release", released, released},
		{"a day later", released.Add(24 * time.Hour), released.Add(24 * time.Hour)},
		{"a day back again", released, released},
		{"ten years on", released.AddDate(10, 0, 0), released.AddDate(10, 0, 0)},
		{"frozen there", released.AddDate(10, 0, 0), released.AddDate(10, 0, 0)},
	} {
		at = c.host
		if got := w.now(); !got.Equal(c.want) {
			t.Errorf("%s: found %s, wanted %s", c.name, got, c.want)
		}
	}
}

// issuer makes an authority and a certificate of it for "peer.example" that is
// good from and until the times given.
func issuer(t *testing.T, from, until time.Time) (ca *x509.Certificate, cert tls.Certificate) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, leafKey := key(), key()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: released.AddDate(-30, 0, 0), NotAfter: released.AddDate(30, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "peer"}, DNSNames: []string{"peer.example"},
		NotBefore: from, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey); err != nil {
		t.Fatal(err)
	}
	return ca, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leafKey}
}

// shakeHands connects a client and a server and gives the client's error.
func shakeHands(t *testing.T, client, server *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := connected(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	srv := tls.Server(b, server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if srv.HandshakeContext(ctx) == nil {
			_, _ = srv.Write([]byte("x"))
		}
		_ = b.Close()
	}()
	c := tls.Client(a, client)
	err := c.HandshakeContext(ctx)
	if err == nil {
		_, err = c.Read(make([]byte, 1)) // what the server thinks of the client
	}
	state := c.ConnectionState()
	_ = a.Close()
	<-done
	return state, err
}

// connected gives the two ends of a connection that holds what is written to it:
// both sides may write at once.
func connected(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		ends[i], err = net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

// T10: a peer's certificate that ended before the release stays expired whatever
// the host's clock says; a clock that is ahead makes refusals, never a yes.
func TestT10PeersUnderAWrongClock(t *testing.T) {
	year := func(n int) time.Time { return released.AddDate(n, 0, 0) }
	for _, c := range []struct {
		name        string
		host        time.Time
		from, until time.Time
		ok          bool
	}{
		{"valid", year(0).Add(time.Hour), year(-1), year(1), true},
		{"expired, the clock set back into its time", year(-9), year(-10), year(-8), false},
		{"expired on the eve of the release, clock back", year(-10), year(-10), released.Add(-time.Second), false},
		{"valid, the clock ten years back", year(-10), year(-1), year(1), true},
		{"valid, the clock ten years on", year(10), year(-1), year(1), false},
		{"not yet valid, the clock right", year(0), year(1), year(2), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := wardenAt(t, func() time.Time { return c.host })
			ca, cert := issuer(t, c.from, c.until)
			roots := x509.NewCertPool()
			roots.AddCert(ca)
			conf, err := w.clientTLS("peer.example", roots)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := shakeHands(t, conf, &tls.Config{Certificates: []tls.Certificate{cert}}); (err == nil) != c.ok {
				t.Errorf("found %v, wanted accepted: %v", err, c.ok)
			}
		})
	}
}

// The certificate that a Keep shows is of now, by its own clock.
func TestT10OwnCertificate(t *testing.T) {
	w := wardenAt(t, func() time.Time { return time.Unix(0, 0) })
	c, err := w.identity.tlsCertificate()
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if x.NotBefore.Before(released.Add(-2*time.Hour)) || x.NotAfter.Before(released) {
		t.Errorf("found %s to %s", x.NotBefore, x.NotAfter)
	}
}

// Go reads the host's roots once in a process: so there is one authority in all
// runs of the test below.
var hostRoots struct {
	once sync.Once
	ca   *x509.Certificate
	cert tls.Certificate
}

// What the host says about certificates, in its environment, is not read.
func TestHostRootsAreNotUsed(t *testing.T) {
	hostRoots.once.Do(func() {
		hostRoots.ca, hostRoots.cert = issuer(t, released.AddDate(-1, 0, 0), released.AddDate(1, 0, 0))
	})
	ca, cert := hostRoots.ca, hostRoots.cert
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", filepath.Dir(file))
	w := wardenAt(t, func() time.Time { return released })
	conf, err := w.clientTLS("peer.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	if _, err := shakeHands(t, conf, server); err == nil || !strings.Contains(err.Error(), "unknown authority") || tlsHint(err) == "" {
		t.Errorf("found %v, wanted an unknown authority and a hint", err)
	}
	// The very same server is believed by whoever does read them: the test can fail.
	if _, err := shakeHands(t, &tls.Config{ServerName: "peer.example", Time: w.now}, server); err != nil {
		t.Errorf("the control: %v", err)
	}
}

// No session is resumed, in neither role: a resumed one proves nothing about now.
func TestTLSWithoutResumption(t *testing.T) {
	w := wardenAt(t, time.Now)
	server, err := w.serverTLS(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		s, err := shakeHands(t, &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: cache}, server)
		if err != nil || s.DidResume || s.Version != tls.VersionTLS13 {
			t.Errorf("found resumed %v, version %x, %v", s.DidResume, s.Version, err)
		}
	}
	if _, err := shakeHands(t, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, server); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

func TestAuthorities(t *testing.T) {
	for _, bad := range []string{"", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := authorities("ca.pem", []byte(bad)); err == nil || !strings.Contains(err.Error(), "ca.pem") {
			t.Errorf("%q: found %v", bad, err)
		}
	}
	if pool, err := publicRoots(); err != nil || pool.Equal(x509.NewCertPool()) {
		t.Errorf("found no public roots, %v", err)
	}
}
