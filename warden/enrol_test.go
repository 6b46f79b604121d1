//go:build linux

package warden

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/donjon-tee/donjon/attest/evidence"
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
