//go:build linux

package warden

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/steward/protocol"
)

// Every lie of a server, of whoever sits between, and of the Steward itself: the guest
// does not run, and the reason is told.
func TestLiesOfAServer(t *testing.T) {
	answerJSON := func(w http.ResponseWriter, v any) bool {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
		return true
	}
	leafOf := func(by func(*fakeSteward) *ca, edit func(*x509.Certificate)) func(*fakeSteward) {
		return func(f *fakeSteward) {
			f.leaf = func() tls.Certificate {
				tmpl := serverLeaf()
				if edit != nil {
					edit(tmpl)
				}
				return f.under(by(f), tmpl)
			}
		}
	}
	servers := func(f *fakeSteward) *ca { return f.servers }
	for _, c := range []struct {
		name string
		lie  func(*fakeSteward)
		kind link.ExitKind
		text string
	}{
		{"T04 of another authority", leafOf(func(f *fakeSteward) *ca { return authority(t, "servers", authority(t, "root", nil), marker(t)) }, nil), link.ExitRefused, "unknown authority"},
		{"T04 a workload's certificate", leafOf(func(f *fakeSteward) *ca { return f.workloads }, nil), link.ExitRefused, "not the Steward"},
		{"T04 of the root itself", leafOf(func(f *fakeSteward) *ca { return f.root }, nil), link.ExitRefused, "not the Steward"},
		{"T04 under a marked root", func(f *fakeSteward) {
			f.root = authority(t, "root", nil, marker(t))
			f.workloads = authority(t, "workloads", f.root)
			f.leaf = func() tls.Certificate { return f.under(f.root, serverLeaf()) }
		}, link.ExitRefused, "not the Steward"},
		{"T04 below the marked authority", func(f *fakeSteward) {
			f.leaf = func() tls.Certificate {
				sub := authority(t, "sub", f.servers)
				c := f.under(sub, serverLeaf())
				c.Certificate = append(c.Certificate, f.servers.cert.Raw)
				return c
			}
		}, link.ExitRefused, "not the Steward"},
		{"T04 another value of the marker", func(f *fakeSteward) {
			m := marker(t)
			m.Value = append(slices.Clone(m.Value[:len(m.Value)-1]), '2')
			f.servers = authority(t, "servers", f.root, m)
		}, link.ExitRefused, "not the Steward"},
		{"T04 the marker as another string", func(f *fakeSteward) {
			m := marker(t)
			m.Value = append([]byte{0x16}, m.Value[1:]...)
			f.servers = authority(t, "servers", f.root, m)
		}, link.ExitRefused, "not the Steward"},
		{"no use named", leafOf(servers, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), link.ExitRefused, "not the Steward"},
		{"for clients", leafOf(servers, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), link.ExitFailed, "key usage"},
		{"for another address", leafOf(servers, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }), link.ExitRefused, "127.0.0.1"},
		{"for names alone", leafOf(servers, func(c *x509.Certificate) { c.IPAddresses = nil }), link.ExitRefused, "127.0.0.1"},
		{"expired", leafOf(servers, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Minute), time.Now().Add(-time.Minute)
		}), link.ExitFailed, "expired"},
		{"TLS 1.2", func(f *fakeSteward) {
			f.tls = func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }
		}, link.ExitFailed, "protocol version"},
		{"a client certificate wanted", func(f *fakeSteward) {
			f.tls = func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }
		}, link.ExitFailed, "certificate required"},

		{"a redirect", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "https://elsewhere.example/v1/challenge", http.StatusTemporaryRedirect)
				return true
			}
		}, link.ExitFailed, "redirects are not followed"},
		{"a short challenge", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				return answerJSON(w, protocol.ChallengeResponse{Challenge: make([]byte, 31)})
			}
		}, link.ExitFailed, "31 bytes"},
		{"a long challenge", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				return answerJSON(w, protocol.ChallengeResponse{Challenge: make([]byte, 65)})
			}
		}, link.ExitFailed, "65 bytes"},
		{"no JSON", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, "[[[[")
				return true
			}
		}, link.ExitFailed, "not in its form"},
		{"HTML", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = io.WriteString(w, "<html>")
				return true
			}
		}, link.ExitFailed, "text/html"},
		{"a huge body", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				for range 100 {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						break
					}
				}
				return true
			}
		}, link.ExitFailed, "more than"},
		{"a huge length", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "99999999")
				w.WriteHeader(200)
				return true
			}
		}, link.ExitFailed, "at most"},
		{"closed after the challenge", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Connection", "close")
				return answerJSON(w, protocol.ChallengeResponse{Challenge: make([]byte, 60)})
			}
		}, link.ExitFailed, "no further request"},
		{"closed in mid-answer", func(f *fakeSteward) {
			f.answer = func(w http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "100000")
				_ = json.NewEncoder(w).Encode(r)
				panic(http.ErrAbortHandler)
			}
		}, link.ExitFailed, "cut off"},

		{"another key certified", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool {
				r.Certificates[0] = f.under(f.workloads, serverLeaf()).Certificate[0]
				return false
			}
		}, link.ExitRefused, "another key"},
		{"certified by another authority", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, q request) bool {
				other := authority(t, "workloads", authority(t, "root", nil))
				r.Certificates = [][]byte{other.sign(t, serverLeaf(), q.csr.PublicKey).Raw, other.cert.Raw}
				return false
			}
		}, link.ExitRefused, "unknown authority"},
		{"an authority for a certificate", func(f *fakeSteward) {
			f.certify = func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }
		}, link.ExitRefused, "authority's"},
		{"ended already", func(f *fakeSteward) {
			f.certify = func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}
		}, link.ExitRefused, "expired"},
		{"no certificate", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool {
				r.Certificates = nil
				return false
			}
		}, link.ExitRefused, "0 certificates"},
		{"many certificates", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool {
				r.Certificates = slices.Repeat(r.Certificates, 10)
				return false
			}
		}, link.ExitRefused, "20 certificates"},
		{"a certificate that is none", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool {
				r.Certificates[1] = []byte("none")
				return false
			}
		}, link.ExitRefused, "certificate 1"},

		{"sealed to another key", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, q request) bool {
				k, err := ecdh.X25519().GenerateKey(rand.Reader)
				if err == nil {
					r.Sealed, err = protocol.Seal(k.PublicKey().Bytes(), q.binding, f.secrets)
				}
				if err != nil {
					t.Error(err)
				}
				return false
			}
		}, link.ExitRefused, "not sealed to this Keep"},
		{"sealed for another challenge", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, q request) bool {
				q.binding.Challenge = make([]byte, 60)
				r.Sealed, _ = protocol.Seal(q.SealingKey, q.binding, f.secrets)
				return false
			}
		}, link.ExitRefused, "not sealed to this Keep"},
		{"nothing sealed", func(f *fakeSteward) {
			f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool { r.Sealed = nil; return false }
		}, link.ExitRefused, `no secret "db"`},
		{"another secret", func(f *fakeSteward) { f.secrets = protocol.Secrets{"x": []byte("y")} }, link.ExitRefused, `no secret "db"`},
		{"a zero byte for a variable", func(f *fakeSteward) { f.secrets = protocol.Secrets{"db": []byte("a\x00b")} }, link.ExitConfig, "zero byte"},

		{"refused", func(f *fakeSteward) { f.judge = func(o *attest.Options) { o.Policy.AllowSimulated = false } }, link.ExitRefused, "(refused): the check simulated-root failed"},
		{"for another purpose", func(f *fakeSteward) { f.judge = func(o *attest.Options) { o.Purpose = "connect" } }, link.ExitRefused, "the check purpose failed"},
		{"for another challenge", func(f *fakeSteward) { f.judge = func(o *attest.Options) { o.Nonce = make([]byte, 60) } }, link.ExitRefused, "the check nonce failed"},
		{"a problem with escapes", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				f.refuse(w, 403, protocol.Problem{Code: "\x1b[2Jok", Detail: strings.Repeat("long ", 1000), Checks: []verdict.Check{{Code: "x\n", Status: "fine\x1b", Found: "\x1b]0;\n" + strings.Repeat("f", 1<<16)}}})
				return true
			}
		}, link.ExitRefused, `(unknown): the check unknown failed: found \u001b]0;\u000afff`},
		{"a problem that is none", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
				http.Error(w, "no", http.StatusInternalServerError)
				return true
			}
		}, link.ExitFailed, "status 500"},
		{"no such page", func(f *fakeSteward) {
			f.challenge = func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
		}, link.ExitFailed, "status 404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeSteward(t)
			c.lie(f)
			f.start()
			h := f.host(declares)
			h.start(t)
			e := h.exit(t)
			if e.Kind != c.kind || !strings.Contains(e.Text, c.text) || len(e.Text) > 2000 || strings.ContainsAny(e.Text, "\x1b\n") {
				t.Errorf("found %+v, wanted %d with %q", e, c.kind, c.text)
			}
			if c.kind != link.ExitConfig && !strings.Contains(e.Text, f.srv.URL) {
				t.Errorf("found %q, which does not name the Steward", e.Text)
			}
			if strings.Contains(e.Text+e.Hint, "s3cret") {
				t.Error("the secret is told")
			}
		})
	}
}

// Lies of the host that carries the connection.
func TestLiesOfTheHost(t *testing.T) {
	for _, c := range []struct {
		name string
		dial func(*fakeSteward) func() (net.Conn, error)
		text string
	}{
		{"nobody there", func(*fakeSteward) func() (net.Conn, error) {
			return func() (net.Conn, error) { return nil, errNobody }
		}, "connection refused"},
		{"closed at once", func(*fakeSteward) func() (net.Conn, error) {
			return func() (net.Conn, error) {
				a, b := net.Pipe()
				_ = b.Close()
				return a, nil
			}
		}, "TLS"},
		{"garbage", func(*fakeSteward) func() (net.Conn, error) {
			return func() (net.Conn, error) {
				a, b := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, b) }()
				go func() { _, _ = b.Write(bytes.Repeat([]byte("HTTP/1.1 200 OK\r\n\r\n"), 100)) }()
				return a, nil
			}
		}, "TLS"},
		// The host ends TLS itself, and carries on to the real Steward.
		{"a relay with a certificate of its own", func(f *fakeSteward) func() (net.Conn, error) {
			other := authority(t, "servers", authority(t, "root", nil), marker(t))
			k := testKey(t)
			leaf := other.sign(t, serverLeaf(), &k.PublicKey)
			return relayed(t, f, tls.Certificate{Certificate: [][]byte{leaf.Raw, other.cert.Raw}, PrivateKey: k})
		}, "unknown authority"},
		{"T04 a relay with a workload's certificate", func(f *fakeSteward) func() (net.Conn, error) {
			return relayed(t, f, f.under(f.workloads, serverLeaf()))
		}, "not the Steward"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeSteward(t).start()
			h := f.host(declares)
			h.steward = c.dial(f)
			h.start(t)
			if e := h.exit(t); e.Kind == link.ExitStatus || !strings.Contains(e.Text, c.text) {
				t.Errorf("found %+v, wanted %q", e, c.text)
			}
			if len(f.seen()) > 0 {
				t.Error("the Steward has enrolled a Keep")
			}
		})
	}
}

// relayed ends TLS with cert and passes all on to f in a connection of its own.
func relayed(t *testing.T, f *fakeSteward, cert tls.Certificate) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		a, b := connected(t)
		go func() {
			defer b.Close()
			in := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}})
			if in.Handshake() != nil {
				return
			}
			out, err := tls.Dial("tcp", f.srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer out.Close()
			go func() { _, _ = io.Copy(in, out) }()
			_, _ = io.Copy(out, in)
		}()
		return a, nil
	}
}

// T4: even where a relay has a genuine Steward's certificate, that of another Steward
// under the same authority, the evidence is about its connection and its key: the
// Steward behind it refuses.
func TestT04RelayedThroughAnotherSteward(t *testing.T) {
	f := newFakeSteward(t).start()
	h := f.host(declares)
	h.steward = relayed(t, f, f.under(f.servers, serverLeaf()))
	h.start(t)
	if e := h.exit(t); e.Kind != link.ExitRefused || !strings.Contains(e.Text, "(binding)") {
		t.Errorf("found %+v, wanted a refusal of the binding", e)
	}
}

// A server that drips keeps a Keep no longer than the time of an enrolment.
func TestSlowDrip(t *testing.T) {
	f := newFakeSteward(t)
	f.challenge = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "60000")
		for {
			if _, err := w.Write([]byte(" ")); err != nil || r.Context().Err() != nil {
				return true
			}
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
	f.start()
	w := directWarden(t, f)
	start := time.Now()
	_, err := w.enrol(w.identity.key, time.Second, true)
	if err == nil || !strings.Contains(err.Error(), "timeout") || time.Since(start) > 20*time.Second {
		t.Errorf("found %v after %s", err, time.Since(start))
	}
}
