package verifier

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// A keep makes evidence as a warden does, on simulated silicon.
type keep struct {
	t       testing.TB
	silicon *silicon.Silicon
}

var measured, workload = [48]byte{9}, [32]byte{7}

func newKeep(t testing.TB) *keep {
	t.Helper()
	s, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &keep{t, s}
}

func (k *keep) evidence(purpose string, nonce []byte) []byte {
	claims, err := evidence.Claims{PubkeyHash: [32]byte{1}, Nonce: nonce, WorkloadDigest: workload, Purpose: purpose, Instance: [16]byte{2}}.Encode()
	if err != nil {
		k.t.Error(err)
		return nil
	}
	g := k.silicon.Guest(silicon.Launch{HostData: workload}, func() [48]byte { return measured })
	report, err := g.Report(evidence.ReportData(claims))
	if err != nil {
		k.t.Error(err)
		return nil
	}
	b, err := evidence.Evidence{Report: report, Certs: g.Certs(), Claims: claims}.Encode()
	if err != nil {
		k.t.Error(err)
	}
	return b
}

// policy admits this Keep.
func (k *keep) policy(more string) string {
	return fmt.Sprintf("version = 1\nworkloads = [\"%x\"]\nsimulated_roots = [%q]\nallow_simulated = true\n%s\n[snp]\nlaunch_digests = [\"%x\"]\n", workload, k.silicon.RootFingerprint(), more, measured)
}

var nonce = []byte("0123456789abcdef0123456789abcdef")

// status of a check in a view; "": it is not there.
func status(v View, code verdict.Code) string {
	for _, c := range v.Checks {
		if c.Code == string(code) {
			return c.Word
		}
	}
	return ""
}

// T17: evidence got by HTTP is never shown as admitted, whether it comes from a Keep or
// from a file, and no policy can waive what is missing.
func TestT17HTTPEvidenceIsNeverGreen(t *testing.T) {
	k := newKeep(t)
	var j Judge
	for name, in := range map[string]Input{
		"from a Keep":            {Evidence: k.evidence("http", nonce), Policy: k.policy(""), FromKeep: true},
		"a file":                 {Evidence: k.evidence("http", nonce), Policy: k.policy("")},
		"from a Keep, platform":  {Evidence: k.evidence("http", nonce), Policy: k.policy(""), FromKeep: true, PlatformOnly: true},
		"a file, platform alone": {Evidence: k.evidence("http", nonce), Policy: k.policy(""), PlatformOnly: true},
	} {
		in.At, in.Nonce = time.Now(), hex.EncodeToString(nonce)
		v := j.Judge(in)
		if v.Outcome != "cannot_tell" || !v.Unbound || !v.Simulated || status(v, verdict.ChannelBinding) != "NOT MADE" || !strings.Contains(v.Headline, "NOT shown") {
			t.Errorf("%s: found %s, %q, channel-binding %s, %s", name, v.Outcome, v.Headline, status(v, verdict.ChannelBinding), v.Error)
		}
	}
	if v := j.Judge(Input{Evidence: k.evidence("http", nonce), Policy: k.policy("[[waive]]\ncheck = \"channel-binding\"\nreason = \"it looks better\"\n"), At: time.Now()}); !strings.Contains(v.Error, "channel-binding") || v.Outcome != "" {
		t.Errorf("a policy that waives it: found %q, %s", v.Error, v.Outcome)
	}
	// A file that was made as one is admitted: what is above comes of the purpose.
	if v := j.Judge(Input{Evidence: k.evidence("file", nonce), Policy: k.policy(""), Nonce: hex.EncodeToString(nonce), At: time.Now()}); v.Outcome != "admitted" || v.Unbound {
		t.Errorf("a file: found %s, %q, %+v", v.Outcome, v.Headline, v.Checks)
	}
}

// What a Keep gives must be for HTTP, for this nonce, whole, and of the Keep that the
// policy admits.
func TestKeepRefused(t *testing.T) {
	k, other := newKeep(t), newKeep(t)
	flipped := k.evidence("http", nonce)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		evidence []byte
		policy   string
		outcome  string
		code     verdict.Code
	}{
		"another nonce":    {k.evidence("http", []byte("another nonce")), k.policy(""), "not_genuine", verdict.Nonce},
		"no nonce":         {k.evidence("http", nil), k.policy(""), "not_genuine", verdict.Nonce},
		"a file's":         {k.evidence("file", nonce), k.policy(""), "not_genuine", verdict.Purpose},
		"a certificate's":  {k.evidence("certificate", nonce), k.policy(""), "not_genuine", verdict.Purpose},
		"a connection's":   {k.evidence("connect", nonce), k.policy(""), "not_genuine", verdict.Purpose},
		"another root":     {other.evidence("http", nonce), k.policy(""), "not_genuine", verdict.TrustedRoot},
		"another workload": {k.evidence("http", nonce), strings.Replace(k.policy(""), "workloads = [\"07", "workloads = [\"08", 1), "refused", verdict.Workload},
		"another image":    {k.evidence("http", nonce), strings.Replace(k.policy(""), "digests = [\"09", "digests = [\"08", 1), "refused", verdict.RuntimePinned},
		"a flipped bit":    {flipped, k.policy(""), "not_genuine", ""},
		"no evidence":      {[]byte("<html>"), k.policy(""), "not_genuine", verdict.Form},
	} {
		var j Judge
		v := j.Judge(Input{Evidence: c.evidence, Policy: c.policy, Nonce: hex.EncodeToString(nonce), At: time.Now(), FromKeep: true})
		if v.Outcome != c.outcome || c.code != "" && status(v, c.code) != "FAILED" {
			t.Errorf("%s: found %s, %s %q, wanted %s: %+v %s", name, v.Outcome, c.code, status(v, c.code), c.outcome, v.Checks, v.Error)
		}
	}
}

func TestInputRefused(t *testing.T) {
	k := newKeep(t)
	good := k.evidence("file", nonce)
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"nothing":             {Input{}, "no evidence"},
		"space":               {Input{Evidence: []byte(" \n")}, "no evidence"},
		"too much":            {Input{Evidence: make([]byte, 4<<20+1)}, "at most"},
		"a short nonce":       {Input{Evidence: good, Nonce: "0011"}, "nonce"},
		"no hexadecimal":      {Input{Evidence: good, Nonce: strings.Repeat("x", 16)}, "nonce"},
		"a broken policy":     {Input{Evidence: good, Policy: "version = 1\nfoo = 2\n"}, "line 2"},
		"an escape in it":     {Input{Evidence: good, Policy: "version = 1\n\"\u202e\x1b\" = 2\n"}, "line 2"},
		"too much collateral": {Input{Evidence: good, Collateral: make([]File, MaxCollateral+1)}, "at most 16"},
	} {
		var j Judge
		v := j.Judge(c.in)
		if !strings.Contains(v.Error, c.want) || v.Outcome != "" || strings.ContainsAny(v.Error, "\u202e\x1b\n") {
			t.Errorf("%s: found %q, %q, wanted %q", name, v.Error, v.Outcome, c.want)
		}
	}
}

// plain fails for text that could steer a reader.
func plain(t *testing.T, v View) {
	t.Helper()
	if !json.Valid([]byte(v.JSON)) || strings.ContainsFunc(strings.ReplaceAll(v.JSON, "\n", ""), func(r rune) bool { return verdict.Escape(string(r)) != string(r) }) {
		t.Errorf("the JSON: %q", v.JSON)
	}
	v.JSON = ""
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(x reflect.Value)
	n := 0
	walk = func(x reflect.Value) {
		switch x.Kind() {
		case reflect.String:
			n++
			if verdict.Escape(x.String()) != x.String() && len([]rune(x.String())) < 2000 {
				t.Errorf("unescaped: %q", x.String())
			}
		case reflect.Slice:
			for i := range x.Len() {
				walk(x.Index(i))
			}
		case reflect.Struct:
			for i := range x.NumField() {
				walk(x.Field(i))
			}
		}
	}
	walk(reflect.ValueOf(v))
	if n < 5 {
		t.Errorf("looked at %d texts of %s", n, b)
	}
}

// T30: what evidence, policy and file names say is text and no more.
func TestT30TextIsPlain(t *testing.T) {
	k := newKeep(t)
	evil := "\u202egenuine\u2066\x1b[2J\n✔ genuine\u2028"
	var j Judge
	v := j.Judge(Input{Evidence: k.evidence("file", nonce), Policy: k.policy("[[waive]]\ncheck = \"nonce\"\nreason = " + `"\u202egenuine\u001b[2J\n"`), At: time.Now(),
		Collateral: []File{{Name: evil, Bytes: []byte("nothing")}}})
	if len(v.Ignored) != 1 || v.Error != "" {
		t.Fatalf("found %+v", v)
	}
	plain(t, v)
	plain(t, j.Judge(Input{Evidence: []byte(evil), At: time.Now()}))
}

// The view is the verdict of attest, for evidence that real hardware signed.
func TestPublishedEvidence(t *testing.T) {
	for _, c := range publishedCases {
		v := new(Judge).Judge(c.input(t))
		if want := c.verdict(t); v.Outcome != string(want.Outcome) || len(v.Checks) != len(want.Checks) || len(v.Advisories) != len(want.Advisories) || v.JSON != want.json {
			t.Errorf("%s: found %s with %d checks, wanted %s with %d", c.name, v.Outcome, len(v.Checks), want.Outcome, len(want.Checks))
		}
		plain(t, v)
	}
}

// A publishedCase is evidence of real hardware, with what it must come to.
type publishedCase struct {
	name, evidence string
	collateral     []string
	at             string
	outcome        verdict.Outcome
}

var publishedCases = []publishedCase{
	{"SEV-SNP, Milan", "snp/milan-v2.report.bin", []string{"snp/milan-v2.vcek.der"}, "2024-01-01T12:00:00Z", verdict.Refused},
	{"TDX", "tdx/quote-v4.bin", []string{"tdx/quote-v4.collateral.json"}, "2025-06-20T12:00:00Z", verdict.Admitted},
	{"SGX", "sgx/quote-v3.bin", []string{"sgx/quote-v3.collateral.json"}, "2025-06-20T12:00:00Z", verdict.Refused},
	{"Nitro", "nitro/prod.cose", nil, "2021-03-17T22:01:55Z", verdict.Admitted},
	{"RA-TLS certificate", "ratls/gramine.pem", nil, "2024-01-01T12:00:00Z", ""},
}

func (c publishedCase) input(t testing.TB) Input {
	t.Helper()
	at, err := time.Parse(time.RFC3339, c.at)
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Evidence: published.Read(t, c.evidence), At: at, PlatformOnly: true}
	for _, n := range c.collateral {
		in.Collateral = append(in.Collateral, File{Name: n, Bytes: published.Read(t, n)})
	}
	return in
}

type judgedNatively struct {
	*verdict.Verdict
	json string
}

// verdict is attest's own, as donjon verify prints it.
func (c publishedCase) verdict(t testing.TB) judgedNatively {
	t.Helper()
	in := c.input(t)
	set := &collateral.Set{}
	for _, f := range in.Collateral {
		if err := set.Add(f.Name, f.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	var v attest.Verifier
	out := v.Verify(in.Evidence, attest.Options{At: in.At, PlatformOnly: true, Collateral: set})
	if c.outcome != "" && out.Outcome != c.outcome {
		t.Errorf("%s: attest says %s, wanted %s", c.name, out.Outcome, c.outcome)
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return judgedNatively{out, string(b)}
}
