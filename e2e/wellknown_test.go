//go:build linux

package e2e

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/web/browser"
)

// tool runs one and gives what it printed and its exit status.
func tool(t *testing.T, env []string, stdin string, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	c := exec.Command(name, args...)
	var out, errs bytes.Buffer
	c.Env, c.Stdin, c.Stdout, c.Stderr = append(os.Environ(), env...), strings.NewReader(stdin), &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, n := range tools {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("no %s here (see docs/testing.md)", n)
		}
	}
}

const theNonce = "00112233445566778899aabbccddeeff"

// A Keep with the Steward's certificate: curl, openssl and a browser that trust the
// Steward's CA use it as any other server. The certificate carries the evidence, which
// donjon verify reads without the Steward; and the Keep gives evidence to whoever asks
// by HTTP, which is genuine and shows no connection (THREATS T17).
func TestT17OrdinaryClients(t *testing.T) {
	needs(t, "curl", "openssl")
	l := newLab(t, "server")
	s := newSteward(t, l)
	w := s.workload(t, "server", streams+webEntry("tls")+"evidence = true\n")
	s.admin(t, "", "workload", "allow", w.Path, "--dns", "keep.example")
	r := l.run(t, w, nil)
	addr := r.address(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := filepath.Join(s.state, "ca.pem")
	curl := func(args ...string) (string, string, int) {
		return tool(t, nil, "", "curl", append([]string{"-sS", "--max-time", "60", "--cacert", ca, "--resolve", "keep.example:" + port + ":" + host}, args...)...)
	}
	url := "https://keep.example:" + port
	evidenceURL := url + "/.well-known/donjon/evidence?nonce=" + theNonce

	// The workload, unchanged, and twice over one connection.
	if out, errs, status := curl(url+"/a", url+"/b"); status != 0 || out != "path /a\npath /b\n" {
		t.Errorf("curl: %d, %q, %s", status, out, errs)
	}
	if _, errs, status := tool(t, nil, "", "curl", "-sS", "--resolve", "keep.example:"+port+":"+host, url); status != 60 {
		t.Errorf("curl without the CA: %d, %s, wanted 60, a certificate that it does not trust", status, errs)
	}
	// openssl, and the chain as it comes over the wire.
	out, errs, _ := tool(t, nil, "GET /s HTTP/1.0\r\nHost: keep.example\r\n\r\n", "openssl", "s_client", "-connect", addr, "-servername", "keep.example", "-CAfile", ca,
		"-verify_hostname", "keep.example", "-verify_return_error", "-showcerts", "-ign_eof")
	if !strings.Contains(out, "Verify return code: 0 (ok)") || !strings.Contains(out, "path /s") {
		t.Errorf("openssl s_client: %s%s", out, errs)
	}
	chain := regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n`).FindAllString(out, -1)
	if len(chain) < 2 {
		t.Fatalf("%d certificates came", len(chain))
	}
	put(t, file("chain.pem"), strings.Join(chain, ""))
	put(t, file("leaf.pem"), chain[0])
	put(t, file("rest.pem"), strings.Join(chain[1:], ""))
	if out, errs, status := tool(t, nil, "", "openssl", "verify", "-CAfile", ca, "-untrusted", file("rest.pem"), "-verify_hostname", "keep.example", file("leaf.pem")); status != 0 {
		t.Errorf("openssl verify: %s%s", out, errs)
	}
	text, _, _ := tool(t, nil, "", "openssl", "x509", "-in", file("leaf.pem"), "-noout", "-text")
	if !strings.Contains(text, "1.3.6.1.5.5.7.1.35") || !strings.Contains(text, "2.23.133.5.4.9") {
		t.Errorf("the leaf: %s", text)
	}
	if p, _ := pem.Decode([]byte(chain[0])); len(p.Bytes) > 12<<10 {
		t.Errorf("a leaf of %d bytes", len(p.Bytes))
	}

	// Evidence by HTTP, for curl.
	if out, errs, status := curl("-D", file("head"), "-o", file("evidence.cbor"), evidenceURL); status != 0 {
		t.Fatalf("curl: %d, %s%s", status, out, errs)
	}
	head, err := os.ReadFile(file("head"))
	if err != nil || !bytes.HasPrefix(head, []byte("HTTP/1.1 200 OK\r\n")) || !bytes.Contains(head, []byte("application/cmw+cbor")) {
		t.Errorf("found %q, %v", head, err)
	}
	donjon := func(args ...string) (string, string, int) {
		return tool(t, s.environ(), "", filepath.Join(l.dir, "donjon"), args...)
	}
	if out, errs, status := donjon("policy", "init", "--from", file("evidence.cbor"), "--nonce", theNonce); status != 12 || out != "" {
		t.Errorf("policy init from evidence by HTTP: %d, %s%s, wanted 12: no policy admits it", status, out, errs)
	}
	policy, errs, status := donjon("policy", "init", "--from-keep", addr)
	if status != 0 {
		t.Fatalf("policy init: %s", errs)
	}
	put(t, file("keep.toml"), policy)
	out, errs, status = donjon("verify", "--policy", file("keep.toml"), "--nonce", theNonce, file("evidence.cbor"))
	if status != 12 || !strings.Contains(errs, "channel-binding was not made") || strings.Count(out, "not made: ") < 1 {
		t.Errorf("verify: %d, %s%s, wanted 12 by channel-binding", status, out, errs)
	}
	if _, errs, status := donjon("verify", "--policy", file("keep.toml"), "--nonce", strings.Repeat("00", 16), file("evidence.cbor")); status != 10 || !strings.Contains(errs, "nonce") {
		t.Errorf("verify for another nonce: %d, %s", status, errs)
	}
	if out, _, _ := curl("-o", "/dev/null", "-w", "%{http_code}", url+"/.well-known/donjon/evidence"); out != "400" {
		t.Errorf("without a nonce: found %s", out)
	}

	// The certificate as evidence: what it says was so when it was issued.
	put(t, file("stored.toml"), "freshness = \"none\"\n"+dropFreshness(policy))
	if out, errs, status := donjon("verify", "--policy", file("stored.toml"), file("chain.pem")); status != 0 || !strings.Contains(out, "key-binding") {
		t.Errorf("verify of the chain: %d, %s%s", status, out, errs)
	}
	t.Run("browser", func(t *testing.T) { browse(t, ca, url, port, policy) })
}

// dropFreshness leaves out a line that says how fresh evidence must be.
func dropFreshness(policy string) string {
	return regexp.MustCompile(`(?m)^freshness = .*\n`).ReplaceAllString(policy, "")
}

// browse looks at the Keep with a browser that trusts the Steward's CA and no error of
// a certificate, and judges it by the verifier page, which comes from elsewhere.
func browse(t *testing.T, ca, url, port, policy string) {
	site := t.TempDir()
	if out, err := exec.Command("make", "-s", "-C", "..", "verifier", "VERIFIER="+site).CombinedOutput(); err != nil {
		t.Fatalf("make verifier: %v\n%s", err, out)
	}
	page := httptest.NewServer(http.FileServer(http.Dir(site)))
	defer page.Close()
	b := browser.Start(t, browser.Options{CA: ca, Hosts: "MAP keep.example 127.0.0.1"})
	b.Open(url + "/in-a-browser")
	if text := b.Text(); text != "path /in-a-browser\n" && text != "path /in-a-browser" {
		t.Errorf("the workload in a browser: found %q", text)
	}
	_ = b.Complaints() // it asks for an icon, too
	b.Open(page.URL)
	wait := func(what string) {
		t.Helper()
		var ok bool
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if b.Eval(what, &ok); ok {
				return
			}
		}
		t.Fatalf("%s does not become true: %s", what, b.Text())
	}
	judge := func(address, policy string) (class, says string) {
		t.Helper()
		wait(`document.getElementById('judge').disabled === false`)
		b.Eval(fmt.Sprintf(`document.getElementById('keep').value = %q; document.getElementById('policy').value = %q; document.getElementById('judge').click()`, address, policy), nil)
		wait(`/^(Judged|No|The|This|A)/.test(document.getElementById('state').textContent) && document.getElementById('judge').disabled === false`)
		b.Eval(`document.getElementById('outcome').className`, &class)
		b.Eval(`document.getElementById('state').textContent + ' ' + document.getElementById('headline').textContent`, &says)
		return class, says
	}
	if class, says := judge(url, policy); class != "outcome cannot_tell" || !strings.Contains(says, "a genuine Keep that the policy admits exists; NOT shown") {
		t.Errorf("the Keep: found %s, %s", class, says)
	}
	b.Quiet("the verifier page")
	other := regexp.MustCompile(`(?s)workloads = \[.*?\]`).ReplaceAllString(policy, `workloads = ["`+strings.Repeat("ab", 32)+`"]`)
	if class, says := judge(url, other); class != "outcome refused" || other == policy {
		t.Errorf("another workload: found %s, %s", class, says)
	}
	// Under a name that the certificate does not have, the browser does not talk to it.
	if class, says := judge("https://127.0.0.1:"+port, policy); !strings.Contains(says, "No answer that a browser takes") {
		t.Errorf("another name: found %s, %s", class, says)
	}
}

// A Keep without a Steward does the same beside its self-signed certificate; a workload
// whose configuration does not ask for it answers the path itself.
func TestEvidenceByHTTPIsAskedFor(t *testing.T) {
	l := newLab(t, "server")
	for _, asked := range []bool{true, false} {
		entry := webEntry("tls")
		if asked {
			entry += "evidence = true\n"
		}
		r := l.run(t, l.workload(t, "server", map[string]string{"Donjon.toml": streams + entry}), nil)
		out, errs, status := tool(t, nil, "", "curl", "-ksS", "--max-time", "60", "-w", "%{content_type}", "https://"+r.address(t)+"/.well-known/donjon/evidence?nonce="+theNonce)
		if status != 0 || strings.HasSuffix(out, "application/cmw+cbor") != asked || strings.HasPrefix(out, "path /.well-known") == asked {
			t.Errorf("asked for %v: found %d, %.80q, %s", asked, status, out, errs)
		}
		r.end(t)
	}
}
