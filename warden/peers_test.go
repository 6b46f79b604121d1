//go:build linux

package warden

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/workload"
)

// THREATS T13: a name counts that the pinned Steward gave to a workload, now, and no other.
func TestT13StewardNames(t *testing.T) {
	const id = "spiffe://example.org/signer/00/bob"
	root, other := authority(t, "root", nil), authority(t, "other", nil)
	workloads, servers := authority(t, "workloads", root), authority(t, "servers", root, marker(t))
	leaf := func(by *ca, edit func(*x509.Certificate)) []*x509.Certificate {
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		web, err := url.Parse("https://example.org/")
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "Keep"}, URIs: []*url.URL{web, u}}
		if edit != nil {
			edit(tmpl)
		}
		return []*x509.Certificate{by.sign(t, tmpl, &testKey(t).PublicKey), by.cert}
	}
	past := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	good := leaf(workloads, nil)
	for _, c := range []struct {
		name  string
		shown []*x509.Certificate
		want  []string
	}{
		{"the Steward's", good, []string{id}},
		{"without what issued it", good[:1], nil},
		{"of another authority", leaf(authority(t, "workloads", other), nil), nil},
		{"that another authority calls so too", append(leaf(authority(t, "workloads", other), nil), root.cert), nil},
		{"of what issues Stewards'", leaf(servers, nil), nil},
		{"that has ended", leaf(workloads, past), nil},
		{"that is an authority", leaf(workloads, func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		}), nil},
		{"with a long chain", append(slices.Clone(good), slices.Repeat([]*x509.Certificate{root.cert}, maxChain)...), nil},
		{"none", nil, nil},
	} {
		w := &warden{stewardRoots: x509.NewCertPool()}
		w.stewardRoots.AddCert(root.cert)
		if got := w.spiffe(c.shown, time.Now()); !reflect.DeepEqual(got, c.want) {
			t.Errorf("a certificate %s: found %q, wanted %q", c.name, got, c.want)
		}
		if got := (&warden{}).spiffe(c.shown, time.Now()); got != nil {
			t.Errorf("a certificate %s, and no Steward: found %q", c.name, got)
		}
	}
}

// Hostile evidence is judged a few at a time, and nobody waits for ever.
func TestJudgingIsBounded(t *testing.T) {
	w := wardenAt(t, time.Now)
	if err := w.peers.load(&workload.Config{}, nil); err != nil {
		t.Fatal(err)
	}
	w.cfg = &workload.Config{}
	for range maxJudged {
		w.peers.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.judge(ctx, atls.Proof{Evidence: []byte("x")}, attest.Options{Channel: &attest.Channel{}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("found %v, wanted to be told that it took too long", err)
	}
	for range maxJudged {
		<-w.peers.slots
	}
	v, err := w.judge(context.Background(), atls.Proof{Evidence: []byte("x")}, attest.Options{Channel: &attest.Channel{}})
	if err != nil || v.Outcome != verdict.NotGenuine {
		t.Errorf("found %+v, %v", v, err)
	}
	// A policy that is not there admits nothing.
	c := w.peerConfig("missing", nil, nil)
	if p := c.Options.Policy; p == nil || p.Version != 0 {
		t.Errorf("found %+v", p)
	}
	// Whoever connects to a listener for Keeps has no more of its memory than evidence takes.
	if c.MaxEvidence != evidence.MaxSize {
		t.Errorf("found %d bytes of evidence a client", c.MaxEvidence)
	}
}

// THREATS T10: many verdicts at once never move the floor back.
func TestT10FloorOnlyRises(t *testing.T) {
	w := wardenAt(t, func() time.Time { return released })
	newest := released.Add(1000 * time.Hour)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for n := range 50 {
				w.raise(newest.Add(-time.Duration((i*50+n)%640) * time.Hour))
			}
		})
	}
	all.Wait()
	if now := w.now(); now.Before(newest) {
		t.Errorf("found %s, wanted %s or later", now, newest)
	}
	w.raise(time.Time{})
	if now := w.now(); now.Before(newest) {
		t.Errorf("moved back to %s", now)
	}
}

// What is said of a refusal has the check's name, and moves no cursor (THREATS T30).
func TestPeerErrors(t *testing.T) {
	v := &verdict.Verdict{Checks: []verdict.Check{
		verdict.Pass(verdict.Form, "x"),
		verdict.Fail(verdict.Workload, "\x1b[2J"+strings.Repeat("x", 2000), "y").Advise("z"),
		verdict.Fail(verdict.PeerRole, "a", "b"),
	}}
	v.Conclude()
	for _, c := range []struct {
		err        error
		want, hint string
	}{
		{v.Err(), "check workload failed", "z"},
		{&verdict.Error{Verdict: &verdict.Verdict{Outcome: verdict.NotGenuine}}, "check form failed", ""},
		{&atls.RemoteError{Code: "verdict", Text: "no\x1b[2J"}, "refuses this one", "policy"},
		{errors.New("broken\x1b"), "no attested connection to keep.example:1: broken", "prot"},
	} {
		err := peerError("keep.example:1", c.err)
		var p *portError
		if !errors.As(err, &p) || !strings.Contains(p.what, c.want) || !strings.Contains(p.hint, c.hint) || strings.Contains(p.what, "\x1b") || len(p.what) > 2000 {
			t.Errorf("found %q, %q, wanted %q", p.what, p.hint, c.want)
		}
	}
}

// parseHeader is a reader of the PROXY protocol, version 2, as a workload has one.
func parseHeader(t *testing.T, b []byte) (ssl []byte, tlvs map[byte]string) {
	t.Helper()
	if len(b) < 16 || !bytes.Equal(b[:12], []byte{0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a}) || b[12] != 0x21 || b[13] != 0 ||
		int(binary.BigEndian.Uint16(b[14:])) != len(b)-16 {
		t.Fatalf("no header: %x", b)
	}
	tlvs = map[byte]string{}
	var read func([]byte)
	read = func(b []byte) {
		for len(b) > 0 {
			n := int(binary.BigEndian.Uint16(b[1:]))
			if _, twice := tlvs[b[0]]; twice {
				t.Errorf("%x stands twice", b[0])
			}
			tlvs[b[0]] = string(b[3 : 3+n])
			if b[0] == 0x20 {
				ssl = b[3:8]
				read(b[8 : 3+n])
			}
			b = b[3+n:]
		}
	}
	read(b[16:])
	delete(tlvs, 0x20)
	return ssl, tlvs
}

func TestClientHeader(t *testing.T) {
	root := authority(t, "root", nil)
	cert := root.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Ada"}}, &testKey(t).PublicKey)
	long := root.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("a", 257)}}, &testKey(t).PublicKey)
	state := func(c *x509.Certificate, vouched bool) *tls.ConnectionState {
		s := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		if vouched {
			s.VerifiedChains = [][]*x509.Certificate{{c, root.cert}}
		}
		return s
	}
	keep := &verdict.Verdict{Outcome: verdict.Admitted, Claims: &claims.Claims{Keep: &claims.Keep{WorkloadDigest: bytes.Repeat([]byte{1}, 32), Instance: bytes.Repeat([]byte{2}, 16), Role: "bob"}}}
	refused := &verdict.Verdict{Outcome: verdict.Refused, Claims: keep.Claims}
	key := func(c *x509.Certificate) string { return string(sum(c.RawSubjectPublicKeyInfo)) }
	const v13 = "TLSv1.3"
	for _, c := range []struct {
		name  string
		state *tls.ConnectionState
		about *verdict.Verdict
		ssl   []byte
		tlvs  map[byte]string
	}{
		{"nobody", &tls.ConnectionState{}, nil, []byte{1, 0, 0, 0, 1}, map[byte]string{0x21: v13}},
		{"vouched for", state(cert, true), nil, []byte{3, 0, 0, 0, 0}, map[byte]string{0x21: v13, 0x22: "Ada", 0xe4: key(cert)}},
		{"by its own word", state(cert, false), nil, []byte{3, 0, 0, 0, 1}, map[byte]string{0x21: v13, 0xe4: key(cert)}},
		{"with a long name", state(long, true), nil, []byte{3, 0, 0, 0, 0}, map[byte]string{0x21: v13, 0xe4: key(long)}},
		{"a Keep", state(cert, false), keep, []byte{3, 0, 0, 0, 0}, map[byte]string{0x21: v13, 0xe4: key(cert),
			0xe5: strings.Repeat("\x01", 32), 0xe6: strings.Repeat("\x02", 16), 0xe7: "bob"}},
		{"a Keep that is refused", state(cert, false), refused, []byte{3, 0, 0, 0, 1}, map[byte]string{0x21: v13, 0xe4: key(cert)}},
	} {
		b := clientOf(*c.state, c.about).encode()
		ssl, tlvs := parseHeader(t, b)
		if !bytes.Equal(ssl, c.ssl) || !reflect.DeepEqual(tlvs, c.tlvs) || len(b) > 1024 {
			t.Errorf("%s: found %x, %q in %d bytes", c.name, ssl, tlvs, len(b))
		}
	}
}
