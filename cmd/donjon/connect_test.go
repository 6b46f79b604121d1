//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// refusing is a server that negotiates the protocol and refuses with a code and a text
// of up to 100 bytes.
func refusing(t *testing.T, code, text string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{atls.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	body := []byte{0xa2} // CBOR: a map of two texts
	for _, s := range []string{"code", code, "text", text} {
		if len(s) < 24 {
			body = append(body, 0x60|byte(len(s)))
		} else {
			body = append(body, 0x78, byte(len(s)))
		}
		body = append(body, s...)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 46)) // the request
			_, _ = c.Write(append([]byte{5, 0, 0, 0, byte(len(body))}, body...))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// THREATS T30: what the other end says of its refusal forges no line and steers no
// terminal, here and in a policy's refusal.
func TestT30RefusalOfAPeer(t *testing.T) {
	const evil = "x\x1b[2J\u202e\ndonjon: genuine, and admitted\u2028\r"
	dir := t.TempDir()
	p := filepath.Join(dir, "p.toml")
	if err := os.WriteFile(p, []byte("version = 1\n[snp]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"other", "e\x1b\n"} {
		addr := refusing(t, code, evil)
		for _, args := range [][]string{{"connect", addr, "--policy", p}, {"connect", addr, "--policy", p, "--listen", "127.0.0.1:0"}, {"policy", "init", "--from-keep", addr}} {
			status, out, errs := at(t, dir, args...)
			if status != statusFailed || out != "" || !strings.Contains(errs, "the other end refuses") {
				t.Errorf("%q: status %d\n%s%s", args, status, out, errs)
			}
			if r, bad := obeyed(errs); bad {
				t.Errorf("%q: %U in %q", args, r, errs)
			}
			for line := range strings.Lines(errs) {
				if strings.HasPrefix(line, "donjon: genuine") {
					t.Errorf("%q: a forged line: %q", args, errs)
				}
			}
		}
	}
}

// A Keep that stays busy is asked again until the time is over.
func TestConnectBusy(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "p.toml")
	if err := os.WriteFile(p, []byte("version = 1\n[snp]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errs := at(t, dir, "connect", refusing(t, atls.RefuseBusy, "later"), "--policy", p, "--timeout", "300ms")
	if status != statusFailed || !strings.Contains(errs, "not reached") || !strings.Contains(errs, "hint: ") {
		t.Errorf("status %d\n%s", status, errs)
	}
}

// THREATS T31: an identity is not offered on an address, nor an address to others,
// unless that is asked for; and nothing is dialled for that to be found out.
func TestT31WhoMayUseIt(t *testing.T) {
	dir := t.TempDir()
	p, id := filepath.Join(dir, "p.toml"), filepath.Join(dir, "me")
	if err := os.WriteFile(p, []byte("version = 1\n[snp]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	for _, c := range []struct {
		flags string
		want  int
	}{
		{"--listen 127.0.0.1:0 --identity " + id, statusUsage},
		{"--listen [::1]:0 --identity " + id, statusUsage},
		{"--listen localhost:0 --identity " + id, statusUsage},
		{"--listen 0.0.0.0:0", statusUsage},
		{"--listen :0", statusUsage},
		{"--listen [::]:0", statusUsage},
		{"--listen 0.0.0.0:0 --share --identity " + id, statusUsage},
		{"--listen 0.0.0.0:0 --share-identity --identity " + id, statusUsage},
		{"--listen 127.0.0.1:0 --stdio", statusUsage},
		{"--listen unix:", statusUsage},
		// These go on, and there is nobody at the address.
		{"--listen unix:" + filepath.Join(dir, "s") + " --identity " + id, statusFailed},
		{"--stdio --identity " + id, statusFailed},
		{"--listen 127.0.0.1:0 --share-identity --identity " + id, statusFailed},
		{"--listen 0.0.0.0:0 --share", statusFailed},
		{"--listen 127.0.0.1:0", statusFailed},
	} {
		args := append([]string{"connect", dead.Addr().String(), "--policy", p}, strings.Fields(c.flags)...)
		if status, out, errs := at(t, dir, args...); status != c.want || out != "" || !strings.Contains(errs, "\nhint: ") {
			t.Errorf("%s: status %d, wanted %d\n%s%s", c.flags, status, c.want, out, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "s")); err == nil {
			t.Error("it listens before it has attested")
		}
	}
}

// What is expected is compared, and stands in the file; what is not as expected is
// refused by the check that says so. Evidence from a file is compared all the same.
func TestPolicyInitExpect(t *testing.T) {
	s, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	evidence := filepath.Join(dir, "evidence.cbor")
	if err := os.WriteFile(evidence, makeEvidence(t, s), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"policy", "init", "--from", evidence, "--trust-root", s.RootFingerprint()}
	status, out, errs := at(t, dir, base...)
	if status != 0 {
		t.Fatal(errs)
	}
	p, err := policy.Parse([]byte(out))
	if err != nil || len(p.Workloads) != 1 || len(p.SNP.LaunchDigests) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	workload, image := p.Workloads[0].String(), p.SNP.LaunchDigests[0].String()
	other := hex.EncodeToString(sha256.New().Sum(nil))
	for _, c := range []struct {
		flags []string
		want  int
		says  string // in the policy, or on stderr
	}{
		{[]string{"--expect", workload, "--expect-image=" + image}, 0, "# Compared: the workload with sha256:" + workload + "; what was measured at launch with the digest " + image},
		{[]string{"--expect", "sha256:" + workload}, 0, "# Compared: the workload with"},
		{[]string{"--expect-image=" + strings.Repeat("00", 48), "--expect-image=" + image}, 0, "# Compared: what was measured"},
		{[]string{"--expect", other}, 11, "the check workload failed"},
		{[]string{"--expect", other, "--expect-image=" + image}, 11, "the check workload failed"},
		{[]string{"--expect", workload, "--expect-image=" + strings.Repeat("00", 48)}, 11, "the check runtime-pinned failed"},
		// An enclave's digest admits no launch digest.
		{[]string{"--expect-image=" + strings.Repeat("00", 32)}, 11, "the check runtime-pinned failed"},
		{[]string{"--expect-image", image}, statusUsage, "hint: --expect-image=" + image},
		{[]string{"--expect-image=0011"}, statusUsage, "--expect-image"},
		{[]string{"--expect", filepath.Join(dir, "nowhere")}, statusNotFound, "nowhere"},
		{[]string{"--env", "A=b"}, statusUsage, "belongs to --expect"},
		{[]string{"--identity", dir}, statusUsage, "belongs to --from-keep"},
		{[]string{"--", "x"}, statusUsage, "belong to --expect"},
	} {
		status, out, errs := at(t, dir, append(append([]string{}, base...), c.flags...)...)
		text := out
		if c.want != 0 {
			text = errs
		}
		if status != c.want || (out == "") != (c.want != 0) || !strings.Contains(text, c.says) {
			t.Errorf("%q: status %d, wanted %d and %q\n%s%s", c.flags, status, c.want, c.says, out, errs)
		}
	}
}

// --expect-image compares evidence of hardware where one digest names the image, and
// where none does it cannot tell: nothing is written as compared that was not.
func TestPolicyInitExpectImage(t *testing.T) {
	const (
		image    = "2d151586641b790f3b1b92b8f89678c3aa86e73dd97969c892124be9d2b7fdc62b58a55cd9ee8216f6f5689cebf590ad" // PCR 0
		enclave  = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"                                 // MRENCLAVE
		launched = "ff717ae719840c93c1fca3b7db96488454c3c21b43531488eecff51cfed3febcd91da8be87a4cbcbc52a3bae770987c3" // another's
	)
	nitro := []string{"--from", published.Path(t, "nitro/prod.cose"), "--at", "2021-03-17T22:10:00Z"}
	sgx := []string{"--from", published.Path(t, "sgx/quote-v3.bin"), "--collateral", published.Path(t, "sgx/quote-v3.collateral.json"), "--at", "2025-06-20T12:00:00Z"}
	tdx := []string{"--from", published.Path(t, "tdx/quote-v4.bin"), "--collateral", published.Path(t, "tdx/quote-v4.collateral.json"), "--at", "2025-06-20T12:00:00Z"}
	vtpm := []string{"--from", published.Path(t, "tpm/azure-snp-vtpm.json"), "--at", "2025-06-01T12:00:00Z"}
	for _, c := range []struct {
		name     string
		evidence []string
		image    string
		want     int
		says     string
	}{
		{"Nitro, its image", nitro, image, 0, "# Compared: what was measured at launch with the digest " + image},
		{"Nitro, another image", nitro, launched, 11, "the check pcrs failed"},
		{"Nitro, an enclave of SGX", nitro, enclave, 11, "the check pcrs failed"},
		{"SGX, its enclave", sgx, enclave, 0, "# Compared: what was measured at launch with the digest " + enclave},
		{"SGX, another image", sgx, launched, 11, "the check runtime-pinned failed"},
		{"TDX", tdx, launched, 12, "cannot tell: found TDX"},
		{"SNP and a virtual TPM", vtpm, launched, 12, "cannot tell: found SEV-SNP with a virtual TPM"},
	} {
		if status, out, errs := at(t, t.TempDir(), append([]string{"policy", "init"}, c.evidence...)...); status != 0 {
			t.Fatalf("%s: not even without --expect-image: status %d\n%s%s", c.name, status, out, errs)
		}
		status, out, errs := at(t, t.TempDir(), append([]string{"policy", "init", "--expect-image=" + c.image}, c.evidence...)...)
		text := out
		if c.want != 0 {
			text = errs
		}
		if status != c.want || (out == "") != (c.want != 0) || !strings.Contains(text, c.says) {
			t.Errorf("%s: status %d, wanted %d and %q\n%s%s", c.name, status, c.want, c.says, out, errs)
		}
	}
}

// Vendor data is read where it is wanted, used again for a minute, and read anew then:
// a verdict is never remembered.
func TestConnectJudgeCollateral(t *testing.T) {
	quote := published.Read(t, "tdx/quote-v4.bin")
	name := filepath.Join(t.TempDir(), "collateral.json")
	if err := os.WriteFile(name, published.Read(t, "tdx/quote-v4.collateral.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	a := &app{quiet: true, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return home }}
	j, err := a.newConnectJudge([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)
	judge := func(at time.Time, evidence []byte) verdict.Outcome {
		t.Helper()
		v, err := j.judge(t.Context(), atls.Proof{Evidence: evidence}, attest.Options{At: at, PlatformOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		return v.Outcome
	}
	if got := judge(now, quote); got != verdict.Admitted {
		t.Fatalf("with what it needs: %s", got)
	}
	if err := os.WriteFile(name, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := judge(now.Add(collateralAge), quote); got != verdict.Admitted {
		t.Errorf("within a minute: %s", got)
	}
	wrong := append([]byte{}, quote...)
	wrong[200] ^= 1
	if got := judge(now.Add(time.Second), wrong); got != verdict.NotGenuine {
		t.Errorf("other evidence beside it: %s", got)
	}
	if got := judge(now.Add(collateralAge+time.Second), quote); got != verdict.CannotTell {
		t.Errorf("after a minute, what is on disk no longer is used: %s", got)
	}
}
