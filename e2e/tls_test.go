//go:build linux

package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/link"
)

// An authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().AddDate(2, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue makes a certificate that ends at until.
func (a *authority) issue(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	k := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-47 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// answerer is a peer outside the Keep: it answers each line with prefix + line.
// conf nil is plain TCP.
func answerer(t *testing.T, conf *tls.Config, prefix string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = fmt.Fprintln(c, prefix+strings.TrimSpace(line))
				}
			}()
		}
	}()
	return port
}

// ask sends one line and gives the answer.
func ask(c net.Conn, line string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	if len(b) > 0 {
		err = nil
	}
	return strings.TrimSpace(string(b)), err
}

const streams = "[[files]]\nkind = \"null\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n"

func webEntry(prot string) string {
	return "[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"" + prot + "\"\naddr = \"127.0.0.1\"\n"
}

func peerEntry(prot, host string, port int) string {
	return fmt.Sprintf("[[files]]\nkind = \"connect\"\nname = \"peer\"\nprot = %q\nhost = %q\nport = %d\n", prot, host, port)
}

// The Keep's certificate carries the evidence in both extensions, over its very
// key, and the minimal check accepts it.
func TestCertificateCarriesEvidence(t *testing.T) {
	l := newLab(t, "relay")
	w := l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls")})
	r := l.run(t, w, nil)
	addr := r.address(t)
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	state := c.ConnectionState()
	cert := state.PeerCertificates[0]
	if state.Version != tls.VersionTLS13 || len(state.PeerCertificates) != 1 {
		t.Errorf("found version %x and %d certificates", state.Version, len(state.PeerCertificates))
	}
	for _, oid := range []string{"1.3.6.1.5.5.7.1.35", "2.23.133.5.4.9"} {
		n := 0
		for _, x := range cert.Extensions {
			if x.Id.String() == oid {
				n++
			}
		}
		if n != 1 {
			t.Errorf("extension %s: found %d times, wanted once", oid, n)
		}
	}
	ev, err := evidence.FromCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := evidence.ParseClaims(ev.Claims)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(cert.RawSubjectPublicKeyInfo) != claims.PubkeyHash || claims.WorkloadDigest != w.Digest || claims.Purpose != evidence.PurposeCertificate {
		t.Errorf("the claims are of another key, workload or purpose: %+v", claims)
	}
	b, err := ev.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file, root := filepath.Join(l.dir, "ev.cbor"), filepath.Join(l.dir, "root.der")
	for name, b := range map[string][]byte{file: b, root: l.sil.Root()} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(filepath.Join(l.dir, "donjon"), "inspect", "--root", root, file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "appraisal: not made") {
		t.Errorf("inspect: %v\n%s", err, out)
	}
	// The certificate as it comes from the wire is evidence: the key in it is bound.
	crt, rules := filepath.Join(l.dir, "keep.der"), filepath.Join(l.dir, "keep.toml")
	if err := os.WriteFile(crt, cert.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(filepath.Join(l.dir, "donjon"), "policy", "init", "--trust-root", root, "--from", crt).Output()
	if err != nil {
		t.Fatalf("policy init: %v", err)
	}
	if err := os.WriteFile(rules, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(filepath.Join(l.dir, "donjon"), "verify", "--policy", rules, crt).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "✔ key-binding") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 is spoken")
	}
}

// A listener with client_ca takes certificates of that authority alone.
func TestClientCertificates(t *testing.T) {
	l := newLab(t, "relay")
	ca, other := newAuthority(t), newAuthority(t)
	hour, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	none := tls.Certificate{}
	for auth, clients := range map[string]map[string]struct {
		cert tls.Certificate
		ok   bool
	}{
		"require": {"none": {none, false}, "right": {ca.issue(t, "c", hour), true}, "of another authority": {other.issue(t, "c", hour), false}, "expired": {ca.issue(t, "c", past), false}},
		"request": {"none": {none, true}, "right": {ca.issue(t, "c", hour), true}, "of another authority": {other.issue(t, "c", hour), false}},
	} {
		t.Run(auth, func(t *testing.T) {
			w := l.workload(t, "relay", map[string]string{"clients.pem": ca.pem(),
				"Donjon.toml": streams + webEntry("tls") + "client_ca = \"clients.pem\"\nclient_auth = \"" + auth + "\"\n"})
			r := l.run(t, w, nil)
			addr := r.address(t)
			for name, cl := range clients {
				got, err := func() (string, error) {
					conf := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						return &cl.cert, nil // also one that the server did not ask for
					}}
					c, err := tls.Dial("tcp", addr, conf)
					if err != nil {
						return "", err
					}
					defer c.Close()
					return ask(c, "hello")
				}()
				if ok := err == nil && got == "answer hello"; ok != cl.ok {
					t.Errorf("%s: found %q, %v; wanted accepted: %v", name, got, err, cl.ok)
				}
			}
		})
	}
}

// A connect entry with prot = "tls" believes the authorities that the workload
// names, or Mozilla's, and never the host's.
func TestConnectTLS(t *testing.T) {
	l := newLab(t, "relay")
	ca, other := newAuthority(t), newAuthority(t)
	hour, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	conf := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	good := conf(ca.issue(t, "localhost", hour))
	old := conf(ca.issue(t, "localhost", hour))
	old.MaxVersion = tls.VersionTLS12
	asks := conf(ca.issue(t, "localhost", hour))
	asks.ClientAuth = tls.RequireAnyClientCert
	asks.VerifyConnection = func(s tls.ConnectionState) error {
		// The Keep shows its own certificate: client keys come from secrets, and
		// there is no Steward to release them yet.
		_, err := evidence.FromCertificate(s.PeerCertificates[0])
		return err
	}
	// The host's own certificates, in every way that Go and OpenSSL find them.
	hostCerts := filepath.Join(l.dir, "hostcerts")
	if err := os.Mkdir(hostCerts, 0o700); err != nil {
		t.Fatal(err)
	}
	hostFile := filepath.Join(hostCerts, "ca.pem")
	if err := os.WriteFile(hostFile, []byte(ca.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", hostFile)
	t.Setenv("SSL_CERT_DIR", hostCerts)
	for _, c := range []struct {
		name   string
		server *tls.Config
		host   string
		ca     string // "" is Mozilla's
		text   string // of the failure; "" is none
		hint   string
	}{
		{"own authority", good, "localhost", ca.pem(), "", ""},
		{"the Keep's certificate is shown", asks, "localhost", ca.pem(), "", ""},
		{"unknown host", good, "nosuch.invalid", ca.pem(), "unknown host", "name"},
		{"another name", conf(ca.issue(t, "other.example", hour)), "localhost", ca.pem(), "other.example", "names"},
		{"an address instead of the name", good, "127.0.0.1", ca.pem(), "127.0.0.1", "names"},
		{"expired", conf(ca.issue(t, "localhost", past)), "localhost", ca.pem(), "expired", "renew"},
		{"another authority", good, "localhost", other.pem(), "unknown authority", "ca ="},
		{"not Mozilla's, though the host's", good, "localhost", "", "unknown authority", "ca ="},
		{"TLS 1.2", old, "localhost", ca.pem(), "protocol version", ""},
		{"no TLS", nil, "localhost", ca.pem(), "TLS", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := answerer(t, c.server, "peer ")
			toml := "args = [\"once\", \"question\"]\n" + streams + peerEntry("tls", c.host, port)
			files := map[string]string{}
			if c.ca != "" {
				toml += "ca = \"ca.pem\"\n"
				files["ca.pem"] = c.ca
			}
			files["Donjon.toml"] = toml
			r := l.run(t, l.workload(t, "relay", files), nil)
			r.wait(t)
			switch {
			case r.err != nil:
				t.Fatal(r.err)
			case c.text == "":
				if r.out.Exit.Kind != link.ExitStatus || r.out.Exit.Status != 0 || r.stdout.String() != "peer question\n" {
					t.Errorf("found %+v, %q", r.out.Exit, r.stdout.String())
				}
			case r.out.Exit.Kind != link.ExitFailed || !strings.Contains(r.out.Exit.Text, c.text) || !strings.Contains(r.out.Exit.Hint, c.hint):
				t.Errorf("found %+v, wanted %q with the hint %q", r.out.Exit, c.text, c.hint)
			case r.stdout.Len() > 0:
				t.Errorf("the workload ran: %q", r.stdout.String())
			}
		})
	}
}

// The peer's authorities are no file of PEM: refused before anything runs.
func TestAuthoritiesThatAreNone(t *testing.T) {
	l := newLab(t, "relay")
	w := l.workload(t, "relay", map[string]string{"clients.pem": "no certificate\n",
		"Donjon.toml": streams + webEntry("tls") + "client_ca = \"clients.pem\"\n"})
	r := l.run(t, w, nil)
	r.wait(t)
	if r.out.Exit.Kind != link.ExitConfig || !strings.Contains(r.out.Exit.Text, "clients.pem") {
		t.Errorf("found %+v, %v", r.out.Exit, r.err)
	}
}
