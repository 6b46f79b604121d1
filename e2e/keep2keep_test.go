//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

const (
	sameWorkload = "same_workload = true\ntime = \"host\"\n"
	withRoles    = "roles = [\"alice\", \"bob\", \"carol\"]\n"
)

// THREATS T13: two Keeps of one workload verify each other by role, and then talk. The
// host, which carries all of it, sees ciphertext.
func TestT13TwoKeeps(t *testing.T) {
	l := newLab(t, "relay")
	port := portOf(t)
	files := map[string]string{
		"Donjon.toml": twoRoles(port),
		"alice.toml":  l.peerPolicy(t, sameWorkload+"peer_role = \"alice\""),
		"bob.toml":    l.peerPolicy(t, sameWorkload+"peer_role = \"bob\""),
	}
	w := l.workload(t, "relay", files)
	wire := newWire(t, port)
	bob := l.run(t, in(t, w, "bob"), at(wire.to))
	where := bob.address(t)

	t.Run("admitted", func(t *testing.T) {
		alice := l.run(t, in(t, w, "alice"), nil)
		marker := "MARKER-" + rand.Text()
		if got, err := askTLS(t, alice.address(t), marker); err != nil || got != "answer answer "+marker {
			t.Fatalf("found %q, %v", got, err)
		}
		alice.end(t)
		seen := wire.seen()
		if len(seen) < 4096 { // two pieces of evidence at least
			t.Errorf("captured %d bytes: the tap is not on the wire", len(seen))
		}
		for name, r := range map[string]*running{"alice": alice, "bob": bob} {
			from, to := r.link.captured()
			seen = append(append(seen, from...), to...)
			if len(from) == 0 || len(to) == 0 {
				t.Errorf("%s: nothing is captured on the link", name)
			}
		}
		if bytes.Contains(seen, []byte(marker)) {
			t.Error("the host sees what the Keeps say to each other")
		}
	})
	t.Run("wrong role", func(t *testing.T) {
		p := portOf(t)
		edited := map[string]string{"Donjon.toml": twoRoles(p), "alice.toml": files["alice.toml"], "bob.toml": files["bob.toml"]}
		w := l.workload(t, "relay", edited)
		carol := l.run(t, in(t, w, "carol"), at(p))
		carol.address(t)
		l.run(t, in(t, w, "alice"), nil).refusedBy(t, "check peer-role failed: found carol, wanted bob")
	})
	t.Run("one byte changed", func(t *testing.T) {
		edited := map[string]string{"Donjon.toml": files["Donjon.toml"] + "# \n", "alice.toml": files["alice.toml"], "bob.toml": files["bob.toml"]}
		l.run(t, in(t, l.workload(t, "relay", edited), "alice"), nil).refusedBy(t, "check workload failed: found "+hex.EncodeToString(w.Digest[:]))
	})
	t.Run("one byte changed, and the changed one admits the other", func(t *testing.T) {
		edited := map[string]string{"Donjon.toml": files["Donjon.toml"], "alice.toml": files["alice.toml"],
			"bob.toml": l.peerPolicy(t, "workloads = [\""+hex.EncodeToString(w.Digest[:])+"\"]\ntime = \"host\"\npeer_role = \"bob\"")}
		l.run(t, in(t, l.workload(t, "relay", edited), "alice"), nil).refusedBy(t, "refuses this one")
		bob.logs(t, `listener "web": a client is refused: check workload`, 10*time.Second)
	})
	t.Run("clients that are no Keep", func(t *testing.T) {
		if got, err := askTLS(t, where, "hello"); err == nil {
			t.Errorf("an ordinary client got %q", got)
		}
		p, err := policy.Parse([]byte(l.peerPolicy(t, "workloads = [\""+hex.EncodeToString(w.Digest[:])+"\"]")))
		if err != nil {
			t.Fatal(err)
		}
		cert := newAuthority(t).issue(t, "c", time.Now().Add(time.Hour))
		for name, c := range map[string]atls.Config{
			"without a certificate": {},
			"that asks":             {Certificate: &cert},
			"that shows another's evidence": {Certificate: &cert, Prover: proverFunc(func(nonce, exporter []byte) ([]byte, error) {
				return shownBy(where, cert)
			})},
		} {
			c.Options = attest.Options{Policy: p}
			conn, err := (&atls.Dialer{Config: c}).DialContext(context.Background(), "tcp", where)
			if err == nil {
				_ = conn.Close()
				t.Errorf("a client %s is served", name)
			}
			var remote *atls.RemoteError
			if name != "without a certificate" && !errors.As(err, &remote) {
				t.Errorf("a client %s: found %v, wanted to be told", name, err)
			}
		}
	})
	t.Run("too old", func(t *testing.T) {
		p := portOf(t)
		edited := map[string]string{"Donjon.toml": twoRoles(p) + "max_age = \"8s\"\n", "alice.toml": files["alice.toml"], "bob.toml": files["bob.toml"]}
		w := l.workload(t, "relay", edited)
		l.run(t, in(t, w, "bob"), at(p)).address(t)
		alice := l.run(t, in(t, w, "alice"), nil)
		addr := alice.address(t)
		if got, err := askTLS(t, addr, "hello"); err != nil || got != "answer answer hello" {
			t.Errorf("found %q, %v", got, err)
		}
		alice.logs(t, `connect "peer": a connection is cut that was judged 8s ago`, 20*time.Second)
		if got, err := askTLS(t, addr, "hello"); err == nil && got != "" {
			t.Errorf("an answer from a peer whose verdict is old: %q", got)
		}
	})
	t.Run("in role or not at all", func(t *testing.T) {
		for _, role := range []string{"", "dave"} {
			w := *w
			w.Host.Role = role
			r := l.run(t, &w, nil)
			r.wait(t)
			if r.out.Exit.Kind != link.ExitRefused || !strings.Contains(r.out.Exit.Text, "role") {
				t.Errorf("%q: found %+v, %v", role, r.out.Exit, r.err)
			}
		}
	})
}

// A Keep that is wired to itself is refused, and so is one whose peer the host has taken
// the place of, or that comes from another machine, or that has the host's clock alone.
func TestT13MirrorsAndRelays(t *testing.T) {
	l := newLab(t, "relay")
	t.Run("itself", func(t *testing.T) {
		port := portOf(t)
		w := l.workload(t, "relay", map[string]string{
			"Donjon.toml": streams + webEntry("tls") + "attest = \"keep.toml\"\n" + peerEntry("tls", "127.0.0.1", port) + "attest = \"keep.toml\"\n",
			"keep.toml":   l.peerPolicy(t, sameWorkload)})
		l.run(t, w, at(port)).refusedBy(t, "check channel-binding failed: found this Keep's own key or instance")
	})
	between := func(port int) *workload.Workload {
		return l.workload(t, "relay", map[string]string{"Donjon.toml": twoRoles(port),
			"alice.toml": l.peerPolicy(t, sameWorkload+"peer_role = \"alice\""), "bob.toml": l.peerPolicy(t, sameWorkload+"peer_role = \"bob\"")})
	}
	t.Run("the host between", func(t *testing.T) {
		cert := newAuthority(t).issue(t, "localhost", time.Now().Add(time.Hour))
		in1, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{atls.Protocol}, ClientAuth: tls.RequireAnyClientCert})
		if err != nil {
			t.Fatal(err)
		}
		defer in1.Close()
		w := between(in1.Addr().(*net.TCPAddr).Port)
		to := portOf(t)
		bob := l.run(t, in(t, w, "bob"), at(to))
		bob.address(t)
		passed := make(chan int64, 1)
		go func() {
			c, err := in1.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			k, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(to), &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{atls.Protocol}, InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer k.Close()
			go func() { _, _ = io.Copy(k, c) }()
			n, _ := io.Copy(c, k)
			passed <- n
		}()
		l.run(t, in(t, w, "alice"), nil).refusedBy(t, "check channel-binding failed: found the exporter value of another connection")
		select {
		case n := <-passed:
			if n < 2048 {
				t.Errorf("the host passed %d bytes on: no evidence", n)
			}
		case <-time.After(time.Minute):
			t.Error("the host's connection does not end")
		}
	})
	t.Run("another machine", func(t *testing.T) {
		sil, err := silicon.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		port := portOf(t)
		w := between(port)
		as := in(t, w, "bob")
		bob := l.run(t, as, func(o *keep.Options) {
			at(port)(o)
			o.Silicon = sil.Guest(silicon.Launch{HostData: as.Digest}, o.Machine.Measurement)
		})
		bob.address(t)
		l.run(t, in(t, w, "alice"), nil).refusedBy(t, "check trusted-root failed")
		bob.end(t)
	})
	t.Run("plain TLS", func(t *testing.T) {
		cert := newAuthority(t).issue(t, "localhost", time.Now().Add(time.Hour))
		p := answerer(t, &tls.Config{Certificates: []tls.Certificate{cert}}, "")
		w := l.workload(t, "relay", map[string]string{"Donjon.toml": streams + peerEntry("tls", "127.0.0.1", p) + "attest = \"keep.toml\"\n", "keep.toml": l.peerPolicy(t, sameWorkload)})
		l.run(t, w, nil).refusedBy(t, "check protocol failed")
	})
	for name, keys := range map[string]string{ // THREATS T10
		"check time-source not_made": "same_workload = true",
		"check workload not_made":    "time = \"host\"",
	} {
		t.Run(name, func(t *testing.T) {
			p := portOf(t)
			w := l.workload(t, "relay", map[string]string{"Donjon.toml": twoRoles(p),
				"alice.toml": l.peerPolicy(t, sameWorkload+"peer_role = \"alice\""), "bob.toml": l.peerPolicy(t, keys)})
			l.run(t, in(t, w, "bob"), at(p)).address(t)
			l.run(t, in(t, w, "alice"), nil).refusedBy(t, name)
		})
	}
}

// What a listener with peer_header tells its workload about clients.
func TestPeerHeader(t *testing.T) {
	l := newLab(t, "relay", "whoami")
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	known, unknown := ca.issue(t, "Ada", hour), newAuthority(t).issue(t, "root", hour)
	const none = "ssl 1 verify 1\n21 TLSv1.3\nsaid hello"
	header := webEntry("tls") + "peer_header = \"proxy-v2\"\n"
	for _, c := range []struct {
		name, entry string
		cert        *tls.Certificate
		attested    bool
		want        string // "": refused
	}{
		{"nobody asks", header, nil, false, none},
		{"nobody asks, attested", header, nil, true, none},
		{"of the authority", header + "client_ca = \"ca.pem\"\n", &known, false, "ssl 3 verify 0\n21 TLSv1.3\n22 Ada\ne4 " + leafKey(t, known) + "\nsaid hello"},
		{"of the authority, attested", header + "client_ca = \"ca.pem\"\n", &known, true, "ssl 3 verify 0\n21 TLSv1.3\n22 Ada\ne4 " + leafKey(t, known) + "\nsaid hello"},
		{"of another authority", header + "client_ca = \"ca.pem\"\n", &unknown, false, ""},
		{"asked, and shows none", header + "client_ca = \"ca.pem\"\n", nil, false, none},
		{"any", header + "client_auth = \"any\"\n", &unknown, false, "ssl 3 verify 1\n21 TLSv1.3\ne4 " + leafKey(t, unknown) + "\nsaid hello"},
		{"any, attested", header + "client_auth = \"any\"\n", &unknown, true, "ssl 3 verify 1\n21 TLSv1.3\ne4 " + leafKey(t, unknown) + "\nsaid hello"},
		{"any, and shows none", header + "client_auth = \"any\"\n", nil, false, ""},
		{"any, and shows none, attested", header + "client_auth = \"any\"\n", nil, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := l.workload(t, "whoami", map[string]string{"Donjon.toml": streams + c.entry, "ca.pem": ca.pem()})
			addr := l.run(t, w, nil).address(t)
			got, err := func() (string, error) {
				if c.attested {
					p, err := policy.Parse([]byte(l.peerPolicy(t, "workloads = [\""+hex.EncodeToString(w.Digest[:])+"\"]")))
					if err != nil {
						return "", err
					}
					conn, err := (&atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}, Certificate: c.cert}}).DialContext(context.Background(), "tcp", addr)
					if err != nil {
						return "", err
					}
					defer conn.Close()
					return ask(conn, "hello")
				}
				conf := &tls.Config{InsecureSkipVerify: true}
				if c.cert != nil {
					conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
				}
				conn, err := tls.Dial("tcp", addr, conf)
				if err != nil {
					return "", err
				}
				defer conn.Close()
				return ask(conn, "hello")
			}()
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("found %q, %v, wanted %q", got, err, c.want)
			}
		})
	}
	t.Run("a Keep", func(t *testing.T) {
		port := portOf(t)
		// Two digests cannot name each other: bob takes any workload's alice.
		rules := l.peerPolicy(t, "time = \"host\"\npeer_role = \"alice\"") + "[[waive]]\ncheck = \"workload\"\nreason = \"any workload, in this test\"\n"
		bob := l.workload(t, "whoami", map[string]string{"Donjon.toml": streams + header + "attest = \"alice.toml\"\n", "alice.toml": rules})
		l.run(t, bob, at(port)).address(t)
		alice := l.workload(t, "relay", map[string]string{
			"Donjon.toml": "args = [\"once\", \"hello\"]\nroles = [\"alice\"]\n" + streams + peerEntry("tls", "127.0.0.1", port) + "attest = \"bob.toml\"\n",
			"bob.toml":    l.peerPolicy(t, "workloads = [\""+hex.EncodeToString(bob.Digest[:])+"\"]\ntime = \"host\"")})
		// relay prints one line of the answer: the first fact.
		r := l.run(t, in(t, alice, "alice"), nil)
		r.wait(t)
		if r.out.Exit.Kind != link.ExitStatus || r.stdout.String() != "ssl 3 verify 0\n" {
			t.Errorf("found %+v, %q", r.out.Exit, r.stdout.String())
		}
	})
}

// THREATS T10, T13: a peer is named by the Steward that the judge's configuration pins,
// and the Steward is whom a Keep has the time from.
func TestT13StewardNamesThePeer(t *testing.T) {
	l := newLab(t, "relay")
	s := newSteward(t, l)
	ca, err := os.ReadFile(filepath.Join(s.state, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(t)
	make := func(toml, rules string) *workload.Workload {
		w := l.workload(t, "relay", map[string]string{"ca.pem": string(ca), "peer.toml": rules,
			"Donjon.toml": fmt.Sprintf("steward = \"https://%s\"\nsteward_ca = \"ca.pem\"\n%s", s.addr, toml)})
		s.admin(t, "", "workload", "allow", w.Path)
		return w
	}
	// Two digests cannot name each other: this side takes any workload of the machine.
	serves := make(streams+webEntry("tls")+"attest = \"peer.toml\"\n", l.peerPolicy(t, "")+"[[waive]]\ncheck = \"workload\"\nreason = \"any workload, in this test\"\n")
	l.run(t, serves, at(port)).address(t)
	some := newAuthority(t).issue(t, "c", time.Now().Add(time.Hour))
	c, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{atls.Protocol}, Certificates: []tls.Certificate{some}})
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.ConnectionState().PeerCertificates[0]
	_ = c.Close()
	if len(leaf.URIs) != 1 {
		t.Fatalf("found %v, wanted a SPIFFE ID", leaf.URIs)
	}
	id := leaf.URIs[0].String()
	asks := "args = [\"once\", \"hello\"]\n" + streams + peerEntry("tls", "127.0.0.1", port) + "attest = \"peer.toml\"\n"
	r := l.run(t, make(asks, l.peerPolicy(t, "spiffe = [\""+id+"\"]")), nil)
	r.wait(t)
	if r.out.Exit.Kind != link.ExitStatus || r.stdout.String() != "answer hello\n" {
		t.Errorf("found %+v, %v, %q", r.out.Exit, r.err, r.stdout.String())
	}
	l.run(t, make(asks, l.peerPolicy(t, "spiffe = [\""+id+"0\"]")), nil).refusedBy(t, "check workload failed")
}

// THREATS T13: two workloads, each of its own owner, name each other by signer, name and
// version. Neither knows the other's digest, which may change.
func TestT13SignersNameThePeer(t *testing.T) {
	l := newLab(t, "relay")
	keys := map[string]ed25519.PrivateKey{}
	for _, who := range []string{"ada", "bo", "eve"} {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[who] = k
	}
	rules := func(who, name string, version int) string {
		k, err := signature.NewPublicKey(keys[who].Public())
		if err != nil {
			t.Fatal(err)
		}
		return l.peerPolicy(t, "time = \"host\"") + fmt.Sprintf("[[signers]]\nkey = \"%s\"\nname = \"%s\"\nmin_version = %d\n", k.ID(), name, version)
	}
	signed := func(who string, digest workload.Digest, name string, version uint64) []byte {
		e, err := signature.Sign(keys[who], digest, name, version)
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	port := portOf(t)
	serves := l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls") + "attest = \"ask.toml\"\n", "ask.toml": rules("ada", "ask", 1)})
	asks := l.workload(t, "relay", map[string]string{
		"Donjon.toml": "args = [\"once\", \"hello\"]\n" + streams + peerEntry("tls", "127.0.0.1", port) + "attest = \"serve.toml\"\n",
		"serve.toml":  rules("bo", "serve", 2)})
	good := signed("ada", asks.Digest, "ask", 1)
	for _, c := range []struct {
		name          string
		serves, asks  [][]byte
		refused, logs string
	}{
		{"each other's", [][]byte{signed("eve", serves.Digest, "serve", 9), signed("bo", serves.Digest, "serve", 2)}, [][]byte{good}, "", ""},
		{"an older version", [][]byte{signed("bo", serves.Digest, "serve", 1)}, [][]byte{good}, "check workload failed", ""},
		{"another's", [][]byte{signed("eve", serves.Digest, "serve", 2)}, [][]byte{good}, "check workload failed", ""},
		{"of another name", [][]byte{signed("bo", serves.Digest, "ask", 2)}, [][]byte{good}, "check workload failed", ""},
		{"over another workload", [][]byte{signed("bo", asks.Digest, "serve", 2)}, [][]byte{good}, "check workload failed", ""},
		{"none", nil, [][]byte{good}, "check workload failed", ""},
		{"beside one that does not parse", [][]byte{signed("bo", serves.Digest, "serve", 2), []byte("x")}, [][]byte{good}, "check workload failed", ""},
		{"of one side alone", [][]byte{signed("bo", serves.Digest, "serve", 2)}, nil, "refuses this one", `a client is refused: check workload`},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := l.run(t, serves, func(o *keep.Options) { at(port)(o); o.Signatures = c.serves })
			server.address(t)
			r := l.run(t, asks, func(o *keep.Options) { o.Signatures = c.asks })
			if c.refused != "" {
				r.refusedBy(t, c.refused)
			} else if r.wait(t); r.out.Exit.Kind != link.ExitStatus || r.stdout.String() != "answer hello\n" {
				t.Errorf("found %+v, %v, %q", r.out.Exit, r.err, r.stdout.String())
			}
			if c.logs != "" {
				server.logs(t, c.logs, 10*time.Second)
			}
			server.end(t)
		})
	}
}
