//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/published"
)

// T30: a name with a line break makes no line of its own on stderr.
func TestT30OneMessageOneLine(t *testing.T) {
	evidence := published.Path(t, "tdx/quote-v4.bin")
	dir := t.TempDir()
	const evil = "x\ndonjon: genuine, and admitted\r\x1b[2J"
	if err := os.WriteFile(filepath.Join(dir, evil), []byte("nothing of use"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", evidence, "--collateral", dir},
		{"verify", evidence, "--collateral", filepath.Join(dir, evil)},
		{"verify", evil},
		{"inspect", evil},
		{"policy", "check", evil},
	} {
		_, _, errs := command(t, args...)
		if r, bad := obeyed(errs); bad || strings.Contains(errs, "\ndonjon: genuine") {
			t.Errorf("%q: found %q with %q", args, errs, r)
		}
	}
}

// A folder that is named by a link is read like any other.
func TestCollateralFolderBehindLink(t *testing.T) {
	evidence := published.Path(t, "tdx/quote-v4.bin")
	b := published.Read(t, "tdx/quote-v4.collateral.json")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "c.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	status, _, errs := command(t, "verify", evidence, "--platform-only", "--at", "2025-06-20T12:00:00Z", "--collateral", link)
	if status != 0 {
		t.Errorf("found %d, %q, wanted 0", status, errs)
	}
}

// A file that was named and holds something else too is used, and that is said.
func TestCollateralFileWithMore(t *testing.T) {
	evidence := published.Path(t, "snp/turin-v5.report.bin")
	vcek := published.Read(t, "snp/turin-v5.vcek.pem")
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 43, 129, 4, 0, 34}})
	name := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(name, bytes.Join([][]byte{key, vcek}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	_, out, errs := command(t, "verify", evidence, "--at", "2026-03-01T12:00:00Z", "--collateral", name)
	if !strings.Contains(out, "✔ signature") || !strings.Contains(errs, "ignored "+name) {
		t.Errorf("found %q and %q, wanted the certificate used and the rest named", out, errs)
	}
}

// In a script, an empty variable is no way to do without.
func TestEmptyFlagsAreWrongUsage(t *testing.T) {
	evidence := published.Path(t, "tdx/quote-v4.bin")
	for _, flag := range []string{"--policy", "--nonce", "--at", "--event-log", "--token", "--token-key"} {
		if status, out, errs := command(t, "verify", evidence, "--platform-only", flag, ""); status != 2 || out != "" || !strings.Contains(errs, flag) {
			t.Errorf("%s: found %d, %q, %q, wanted 2 and the flag named", flag, status, out, errs)
		}
	}
	if status, _, _ := command(t, "policy", "init", "--from", evidence, "--nonce", ""); status != 2 {
		t.Errorf("policy init: found %d, wanted 2", status)
	}
}

// Where no chain was seen to hold, nobody's root vouches.
func TestInspectNamesNoRootThatWasNotSeen(t *testing.T) {
	for name, want := range map[string]string{"tpm/quote.json": "", "snp/turin-v5.report.bin": "", "tdx/quote-v4.bin": "vendor", "nitro/prod.cose": "vendor"} {
		file := published.Path(t, name)
		_, out, errs := command(t, "inspect", "--json", file)
		var r struct {
			Kind string `json:"root_kind"`
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Kind != want {
			t.Errorf("%s: found %q (%v, %s), wanted %q", name, r.Kind, err, errs, want)
		}
	}
}

// A token that begins to count later would say then what was never looked at.
func TestNoTokenFromTheFuture(t *testing.T) {
	evidence := published.Path(t, "tdx/quote-v4.bin")
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, token := filepath.Join(dir, "key.pem"), filepath.Join(dir, "token")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errs := command(t, "verify", evidence, "--at", "2099-01-01T00:00:00Z", "--token", token, "--token-key", key, "--token-audience", "x")
	if _, err := os.Stat(token); status != 2 || err == nil {
		t.Errorf("found %d, %q, token there %v, wanted 2 and none", status, errs, err == nil)
	}
	status, _, errs = command(t, "verify", evidence, "--at", "2025-06-20T12:00:00Z", "--token", token, "--token-key", key, "--token-audience", "x")
	if _, err := os.Stat(token); status != 12 || err != nil {
		t.Errorf("found %d, %q, %v, wanted 12 and a token that says so", status, errs, err)
	}
}
