package web

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func TestForm(t *testing.T) {
	f := newFixture(t, false, nil)
	v := good(t)
	c := f.client(t)
	w := c.upload(c.verifyField(), [3]string{"evidence", "\u202e<b data-evil>" + strings.Repeat("y", 300), string(v.Evidence)}, [3]string{"collateral", "c.bundle", "nothing of use"})
	page := w.Body.String()
	checkHeaders(t, "verdict", w.Header())
	lint(t, "verdict", page)
	// Without the vendor data that it needs.
	if w.Code != http.StatusOK || f.judged != 1 || !strings.Contains(page, "was not judged") || !strings.Contains(page, verdict.Digest(v.Evidence)) {
		t.Errorf("found %d, judged %d times", w.Code, f.judged)
	}
	if !strings.Contains(page, "not used") {
		t.Error("does not say that the vendor data was of no use")
	}
	if len(f.values) != 0 || f.reads != 0 {
		t.Errorf("the form read or wrote the store: %d values, %d reads", len(f.values), f.reads)
	}
	big := strings.Repeat("x", envelope.MaxSize+1)
	for name, c2 := range map[string]struct {
		parts [][3]string
		code  int
	}{
		"empty":        {[][3]string{{"evidence", "e", ""}}, 400},
		"none":         {nil, 400},
		"two":          {[][3]string{{"evidence", "e", "x"}, {"evidence", "e", "x"}}, 400},
		"other field":  {[][3]string{{"policy", "e", "x"}}, 400},
		"large":        {[][3]string{{"evidence", "e", big}}, 413},
		"large in all": {[][3]string{{"evidence", "e", big[:envelope.MaxSize]}, {"collateral", "e", big[:envelope.MaxSize]}}, 413},
	} {
		c := f.client(t)
		c.address = "203.0.113." + strconv.Itoa(len(name)) + ":1"
		before := f.judged
		w := c.upload(c.verifyField(), c2.parts...)
		if w.Code != c2.code || f.judged != before {
			t.Errorf("%s: found %d, wanted %d; judged %v", name, w.Code, c2.code, f.judged != before)
		}
		lint(t, name, w.Body.String())
	}
	many := make([][3]string, 30)
	for i := range many {
		many[i] = [3]string{"collateral", "c", "x"}
	}
	d := f.client(t)
	d.address = "203.0.113.200:1"
	if w := d.upload(d.verifyField(), many...); w.Code != http.StatusBadRequest {
		t.Errorf("30 files: found %d", w.Code)
	}
	if w := d.upload("-", [3]string{"evidence", "e", "x"}); w.Code != http.StatusForbidden {
		t.Errorf("no field: found %d", w.Code)
	}
	if w := d.do("POST", "/verify", "multipart/form-data; boundary=x", strings.NewReader("--x\r\nbroken")); w.Code != http.StatusBadRequest {
		t.Errorf("a broken body: found %d", w.Code)
	}
	if w := d.do("POST", "/verify", "text/plain", strings.NewReader("x")); w.Code != http.StatusBadRequest {
		t.Errorf("no form at all: found %d", w.Code)
	}
	for range 12 {
		w = d.upload(d.verifyField(), [3]string{"evidence", "e", "x"})
	}
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("over the quota: found %d", w.Code)
	}
}

func TestSimulatedIsLoud(t *testing.T) {
	v := good(t)
	roots := append([]pki.Hash{}, v.Roots...)
	f := newFixture(t, false, func(o *Options) {
		o.Verify = func(_ context.Context, s Submission) *verdict.Verdict {
			var verifier attest.Verifier
			return verifier.Verify(s.Evidence, attest.Options{At: v.At, Collateral: v.Collateral, PlatformOnly: true, SimulatedRoots: roots})
		}
	})
	c := f.client(t)
	page := c.upload(c.verifyField(), [3]string{"evidence", "e", string(v.Evidence)}).Body.String()
	if !strings.Contains(page, "SIMULATED.") || !strings.Contains(page, "No hardware stands behind") || !strings.Contains(page, `id="link-root"`) {
		t.Error("the verdict does not say that it is simulated, or draws no chain")
	}
	a := f.admin(t)
	for _, p := range []string{"/", "/decisions?simulated=yes", "/decisions/4", "/certificates"} {
		if !strings.Contains(a.get(p).Body.String(), "SIMULATED") {
			t.Errorf("%s: does not say what is simulated", p)
		}
	}
	if strings.Contains(a.get("/decisions?simulated=no").Body.String(), "SIMULATED") {
		t.Error("what is not simulated is called so")
	}
}

// TestPublishedEvidence: a report that real hardware signed, at its time.
func TestPublishedEvidence(t *testing.T) {
	dir := os.Getenv("DONJON_EVIDENCE")
	if dir == "" {
		dir = "../../../shared/evidence"
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("no published evidence here (see docs/testing.md): %v", err)
		}
		return string(b)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := newFixture(t, false, func(o *Options) {
		o.Verify = func(_ context.Context, s Submission) *verdict.Verdict {
			var verifier attest.Verifier
			return verifier.Verify(s.Evidence, attest.Options{At: at, Collateral: s.Collateral, PlatformOnly: true})
		}
	})
	c := f.client(t)
	page := c.upload(c.verifyField(), [3]string{"evidence", "turin.bin", read("snp/turin-v5.report.bin")}, [3]string{"collateral", "vcek.pem", read("snp/turin-v5.vcek.pem")}).Body.String()
	lint(t, "turin", page)
	for _, want := range []string{"ARK-Turin", "Turin", `<code>signature</code>`, "2026-03-01T12:00:00Z"} {
		if !strings.Contains(page, want) {
			t.Errorf("does not show %q", want)
		}
	}
	if strings.Contains(page, "SIMULATED") {
		t.Error("real evidence is called simulated")
	}
	wrong := c.upload(c.verifyField(), [3]string{"evidence", "milan.bin", read("snp/milan-v2.report.bin")}, [3]string{"collateral", "vcek.der", read("snp/milan-v2.vcek-wrong-signer.der")}).Body.String()
	if !strings.Contains(wrong, "not genuine") || !strings.Contains(wrong, "none of it may be believed") {
		t.Error("evidence with another signer's certificate is not called so")
	}
}
