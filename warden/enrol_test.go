//go:build linux

package warden

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/warden/http1"
	"github.com/donjon-tee/donjon/workload"
)

const declares = "[[secrets]]\nname = \"db\"\nenv = \"DB\"\n[[secrets]]\nname = \"db\"\nfile = \"/secrets/db\"\n"

func TestEnrols(t *testing.T) {
	f := newFakeSteward(t).start()
	h := f.host(declares)
	h.start(t)
	if e := h.exit(t); e.Kind != link.ExitStatus || e.Status != 0 {
		t.Fatalf("found %+v", e)
	}
	if n := len(f.seen()); n != 1 {
		t.Errorf("enrolled %d times", n)
	}
}

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

// directWarden is a warden with a link to a host that carries its connections to f, as
// it is between its self-check and its guest.
func directWarden(t *testing.T, f *fakeSteward) *warden {
	t.Helper()
	a, b := connected(t)
	made := make(chan *link.Session, 1)
	go func() {
		s, err := link.Guest(b)
		if err != nil {
			t.Error(err)
		}
		made <- s
	}()
	hostEnd, err := link.Host(a)
	if err != nil {
		t.Fatal(err)
	}
	h := f.host(declares)
	go func() {
		for {
			st, err := hostEnd.Accept()
			if err != nil {
				return
			}
			go h.serve(st, link.Offer{}, nil, nil)
		}
	}()
	_, m := h.contents()
	manifest := m.Encode()
	w := &warden{Options: Options{TEE: "sim"}, sess: <-made}
	w.offer.Manifest, w.digest, w.config = manifest, sha256.Sum256(manifest), []byte(h.config)
	if w.cfg, err = workload.ParseConfig([]byte(h.config)); err != nil {
		t.Fatal(err)
	}
	if w.stewardRoots, err = authorities("ca.pem", f.root.pem()); err != nil {
		t.Fatal(err)
	}
	guest := h.processor.Guest(silicon.Launch{HostData: w.digest}, func() [48]byte { return [48]byte{7} })
	if w.identity, err = newIdentity(direct{guest}, w.digest, w.now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.sess.Close(); _ = hostEnd.Close() })
	return w
}

// direct is a processor that is asked without a link.
type direct struct{ *silicon.Guest }

func (d direct) report(data [64]byte) ([]byte, []byte, error) {
	raw, err := d.Report(data)
	return raw, d.Certs(), err
}

// What the evidence is about: this connection, this Steward, both keys; and it is in
// the request once.
func TestWhatIsEnrolled(t *testing.T) {
	f := newFakeSteward(t)
	var got evidence.Claims
	f.answer = func(_ http.ResponseWriter, _ *protocol.EnrolResponse, q request) bool {
		ev, err := evidence.FromCertificate(&x509.Certificate{Extensions: q.csr.Extensions})
		if err != nil || len(q.csr.Extensions) != 1 {
			t.Errorf("found %d extensions, %v", len(q.csr.Extensions), err)
			return false
		}
		got, err = evidence.ParseClaims(ev.Claims)
		if err != nil {
			t.Error(err)
		}
		return false
	}
	f.start()
	w := directWarden(t, f)
	e, err := w.enrol(w.identity.key, enrolTime, true)
	if err != nil {
		t.Fatal(err)
	}
	if got.PubkeyHash != sha256.Sum256(e.key.spki) || got.Purpose != evidence.PurposeEnrol || len(got.TLSExporter) != 32 || got.Instance != w.identity.instance {
		t.Errorf("found %+v", got)
	}
	if len(e.secrets) != 1 || string(e.secrets["db"]) != "s3cret" {
		t.Errorf("found the secrets %q, wanted the one declared", e.secrets)
	}
	kept := e.secrets["db"]
	e.forget()
	if e.secrets != nil || !bytes.Equal(kept, make([]byte, 6)) {
		t.Errorf("found %q after forgetting", kept)
	}
	again, err := w.enrol(w.identity.key, enrolTime, false)
	if err != nil || again.secrets != nil {
		t.Errorf("a renewal: found the secrets %q, %v", again.secrets, err)
	}
	seen := f.seen()
	if bytes.Equal(seen[0].sealing, seen[1].sealing) {
		t.Error("a sealing key is used twice")
	}
}

// A Steward that is busy is asked again, a few times.
func TestBusySteward(t *testing.T) {
	f := newFakeSteward(t)
	n := 0
	f.challenge = func(w http.ResponseWriter, _ *http.Request) bool {
		if n++; n > 1 {
			return false
		}
		f.refuse(w, 429, protocol.Problem{Code: "busy", Detail: "come again"})
		return true
	}
	f.start()
	h := f.host(declares)
	h.start(t)
	if e := h.exit(t); e.Kind != link.ExitStatus || n != 2 {
		t.Errorf("found %+v after %d challenges", e, n)
	}
}

// T10: a host whose clock is behind the Steward's is not followed; the guest is not
// either.
func TestT10StewardTime(t *testing.T) {
	f := newFakeSteward(t).start()
	w := directWarden(t, f)
	back := time.Now().Add(-30 * time.Second) // the Steward's own certificate began a minute ago
	w.Options.Now = func() time.Time { return back }
	before := time.Now()
	if _, err := w.enrol(w.identity.key, enrolTime, true); err != nil {
		t.Fatal(err)
	}
	if got := w.now(); got.Before(before.Add(-2 * time.Second)) {
		t.Errorf("found %s, wanted the Steward's %s", got, before)
	}
	first := w.now()
	time.Sleep(20 * time.Millisecond)
	if !w.now().After(first) {
		t.Error("the time that the Steward vouched for stands still")
	}
	w.Options.Now = func() time.Time { return time.Now().AddDate(10, 0, 0) }
	if _, err := w.enrol(w.identity.key, enrolTime, true); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a clock ten years ahead: found %v", err)
	}
	// What is raised is never lowered.
	floor := w.floor()
	w.raise(floor.Add(-time.Hour))
	if w.floor().Before(floor) {
		t.Error("the floor is lowered")
	}
}

// Without steward_ca a Steward is not believed, and so not asked.
func TestStewardWithoutAuthorities(t *testing.T) {
	asked := false
	h := &host{config: "steward = \"https://127.0.0.1:1\"", steward: func() (net.Conn, error) { asked = true; return nil, errNobody }}
	h.start(t)
	if e := h.exit(t); e.Kind != link.ExitConfig || !strings.Contains(e.Text, "steward_ca") || asked {
		t.Errorf("found %+v, asked: %v", e, asked)
	}
	f := newFakeSteward(t).start()
	h = f.host(declares)
	h.layers = [][]byte{[]byte("no certificate")}
	h.start(t)
	if e := h.exit(t); e.Kind != link.ExitConfig || !strings.Contains(e.Text, "ca.pem") {
		t.Errorf("found %+v", e)
	}
}

func TestBackOff(t *testing.T) {
	for failed, left := range map[int]time.Duration{1: time.Hour, 2: time.Hour, 5: time.Hour, 60: 24 * time.Hour, 3: time.Second, 9: 0} {
		d := backOff(failed, left)
		if d <= 0 || d > longestWait || left > time.Second && d > left/4 {
			t.Errorf("try %d with %s left: found %s", failed, left, d)
		}
	}
	now := time.Unix(1e9, 0)
	for _, c := range []struct{ asked, end, want time.Duration }{
		{time.Hour, 2 * time.Hour, time.Hour},
		{-time.Hour, 2 * time.Hour, soonest},
		{3 * time.Hour, 2 * time.Hour, 80 * time.Minute},
		{-time.Hour, time.Second, 500 * time.Millisecond},
	} {
		if got := renewal(now, now.Add(c.asked), now.Add(c.end)); got.Sub(now) != c.want {
			t.Errorf("%+v: found %s", c, got.Sub(now))
		}
	}
	if got := renewal(now, time.Time{}, now.Add(3*time.Hour)); got.Sub(now) != 2*time.Hour {
		t.Errorf("nothing asked: found %s", got.Sub(now))
	}
}

// shown gives the certificate that the Keep shows on a new connection of its listener.
func shown(t *testing.T, h *host) (*x509.Certificate, *tls.Conn) {
	t.Helper()
	st, err := h.sess.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 0}))
	if err != nil {
		t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	c := tls.Client(st, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0], c
}

// A certificate is renewed while the guest runs: a whole enrolment with another key;
// the connection that is open stays.
func TestT09Renewal(t *testing.T) {
	f := newFakeSteward(t)
	f.lifetime, f.renewAfter = 20*time.Second, time.Second
	f.start()
	h := f.host(listens + declares)
	h.body = spins
	h.start(t)
	if _, err := h.evidence(); err != nil {
		t.Fatal(err)
	}
	await(t, "the first enrolment", func() bool { return len(f.seen()) >= 1 })
	var first *x509.Certificate
	var old *tls.Conn
	await(t, "the listener", func() bool {
		st, err := h.sess.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 0}))
		if err != nil {
			return false
		}
		_ = st.SetDeadline(time.Now().Add(30 * time.Second))
		c := tls.Client(st, &tls.Config{InsecureSkipVerify: true})
		if c.Handshake() != nil {
			return false
		}
		first, old = c.ConnectionState().PeerCertificates[0], c
		return true
	})
	if !bytes.Equal(first.RawIssuer, f.workloads.cert.RawSubject) {
		t.Errorf("found a certificate of %s", first.Issuer)
	}
	await(t, "a renewal", func() bool { return len(f.seen()) >= 2 })
	var second *x509.Certificate
	await(t, "the new certificate", func() bool {
		second, _ = shown(t, h)
		return !second.Equal(first)
	})
	if bytes.Equal(first.RawSubjectPublicKeyInfo, second.RawSubjectPublicKeyInfo) {
		t.Error("the key is the same")
	}
	seen := f.seen()
	if !bytes.Equal(seen[0].instance, seen[1].instance) {
		t.Error("the Keep's instance has changed")
	}
	if _, err := old.Write([]byte("x")); err != nil {
		t.Errorf("the old connection: %v", err)
	}
	// Evidence asked for now is about the key that is in use.
	r, err := h.evidence()
	if err != nil {
		t.Fatal(err)
	}
	ev, err := evidence.Parse(r.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := evidence.ParseClaims(ev.Claims)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(f.seen()[1:], func(e enrolled) bool { return claims.PubkeyHash == sha256.Sum256(e.spki) }) {
		t.Error("evidence is about a key of the past")
	}
}

// T9: refused until its certificate ends, or with a Steward that is gone, the guest
// ends with it, and not before.
func TestT09EndsWithItsCertificate(t *testing.T) {
	for name, down := range map[string]func(*fakeSteward, *host){
		"refused": func(f *fakeSteward, _ *host) { f.mu.Lock(); f.down = true; f.mu.Unlock() },
		"gone":    func(f *fakeSteward, _ *host) { f.srv.CloseClientConnections(); f.srv.Listener.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSteward(t)
			f.lifetime, f.renewAfter = 5*time.Second, time.Second
			f.start()
			h := f.host(listens + declares)
			h.body = spins
			h.start(t)
			await(t, "the enrolment", func() bool { return len(f.seen()) >= 1 })
			down(f, h)
			end := f.seen()[0].leaf.NotAfter
			e := h.exit(t)
			if now := time.Now(); now.Before(end.Add(-time.Second)) {
				t.Errorf("ended at %s, the certificate at %s", now, end)
			}
			if e.Kind != link.ExitFailed || !strings.Contains(e.Text, "certificate ended") || !strings.Contains(e.Text, f.srv.URL) {
				t.Errorf("found %+v", e)
			}
		})
	}
}

// A Steward that is away for a while does no harm.
func TestStewardComesBack(t *testing.T) {
	f := newFakeSteward(t)
	f.lifetime, f.renewAfter = 30*time.Second, time.Second
	f.start()
	h := f.host(declares)
	h.body = spins
	h.start(t)
	await(t, "the enrolment", func() bool { return len(f.seen()) >= 1 })
	f.mu.Lock()
	f.down = true
	f.mu.Unlock()
	said := func(text string) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return strings.Contains(strings.Join(h.logged, "\n"), text)
	}
	await(t, "a failure", func() bool { return said("is not renewed") })
	f.mu.Lock()
	f.down = false
	f.mu.Unlock()
	await(t, "a renewal", func() bool { return said("enrolled again") })
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.Contains(fmt.Sprint(h.logged), "s3cret") {
		t.Error("the secret is in the log")
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1500 {
		if done() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s does not come", what)
}

// While a Steward's root is being replaced its answer holds the way to the root before
// too: a certificate is good as long as one way is that the workload knows.
func TestCertificateAcrossARotation(t *testing.T) {
	f := newFakeSteward(t)
	fresh := authority(t, "root 2", nil)
	tmpl := &x509.Certificate{Subject: fresh.cert.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(10 * time.Minute).Truncate(time.Second)}
	cross := f.root.sign(t, tmpl, &fresh.key.PublicKey)
	old := f.root
	f.workloads = authority(t, "workloads 2", fresh)
	f.answer = func(_ http.ResponseWriter, r *protocol.EnrolResponse, _ request) bool {
		r.Certificates = append(r.Certificates, cross.Raw)
		return false
	}
	f.start()
	w := directWarden(t, f)
	for name, pinned := range map[string][]*ca{"the old": {old}, "both": {old, fresh}} {
		w.stewardRoots = x509.NewCertPool()
		for _, c := range pinned {
			w.stewardRoots.AddCert(c.cert)
		}
		e, err := w.enrol(w.identity.key, enrolTime, true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := cross.NotAfter
		if len(pinned) > 1 {
			want = fresh.cert.NotAfter // made first, it ends first
		}
		if !e.notAfter.Equal(want) {
			t.Errorf("%s: found the end %s, wanted %s", name, e.notAfter, want)
		}
	}
}

// Whatever a Steward says as a problem is told in one bounded line.
func FuzzRefusal(f *testing.F) {
	f.Add(403, "application/problem+json", []byte(`{"code":"refused","detail":"d","checks":[{"code":"workload","status":"failed","found":"f","wanted":"w","hint":"h"}]}`))
	f.Add(307, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, media string, body []byte) {
		err := refusal(http1.Response{Status: status, Type: media, Body: body})
		text := err.Error()
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			text += h.Hint()
		}
		if len(text) > 16<<10 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("found %q", text)
		}
	})
}
