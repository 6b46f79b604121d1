//go:build linux

package warden

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/link"
)

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

// listening waits until the guest's listener is there: the enrolment before it is over.
func listening(t *testing.T, h *host) (cert *x509.Certificate, c *tls.Conn) {
	t.Helper()
	await(t, "the listener", func() bool {
		st, err := h.sess.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 0}))
		if err != nil {
			return false
		}
		_ = st.SetDeadline(time.Now().Add(30 * time.Second))
		c = tls.Client(st, &tls.Config{InsecureSkipVerify: true})
		if c.Handshake() != nil {
			return false
		}
		cert = c.ConnectionState().PeerCertificates[0]
		return true
	})
	return cert, c
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
	first, old := listening(t, h)
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
			listening(t, h) // the answer has been read
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
