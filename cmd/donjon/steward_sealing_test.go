//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/steward/sealing"
)

const testToken = "pkcs11:token=steward;object=sealing?module-path=/nowhere.so"

func TestSealingSettings(t *testing.T) {
	a, _ := testApp()
	for kind, s := range map[string]sealingSettings{"file": {}, "pkcs11": {Token: testToken, PINFile: "pin"}, "passphrase": {Kind: "passphrase"}} {
		if err := s.settle(a); err != nil || s.Kind != kind || s.PINFile != "" && !filepath.IsAbs(s.PINFile) {
			t.Errorf("found %+v, %v, wanted %s", s, err, kind)
		}
	}
	for _, s := range []sealingSettings{{Kind: "hsm"}, {Kind: "keep"}, {Kind: "pkcs11"}, {Kind: "file", Token: testToken}, {PINFile: "pin"}, {create: true}, {Kind: "passphrase", Server: "unix:path=/x"}} {
		if err := s.settle(a); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	a.getenv = func(name string) string { return map[string]string{passphraseVariable: "/x"}[name] }
	s := sealingSettings{}
	if err := s.settle(a); err != nil || s.Kind != sealing.KindPassphrase {
		t.Errorf("with a passphrase named: %+v, %v", s, err)
	}
}

// What is kept for other verbs holds no descriptor: theirs are others, and what comes
// through them is no PIN.
func TestSealingRecorded(t *testing.T) {
	s := sealingSettings{Kind: "pkcs11", Token: testToken, PINFile: "fd:0", create: true}
	b, err := json.Marshal(serving{Sealing: s.recorded()})
	if err != nil || !strings.Contains(string(b), "/nowhere.so") || strings.Contains(string(b), "fd:") || strings.Contains(string(b), "create") {
		t.Errorf("found %s, %v", b, err)
	}
	if (sealingSettings{Kind: "file"}).recorded() != nil {
		t.Error("files are recorded")
	}
}

func TestPINFromDescriptor(t *testing.T) {
	a, _ := testApp()
	a.stdin = strings.NewReader("1234\n")
	c, err := a.sealingConfig(&sealingSettings{Kind: "pkcs11", Token: testToken, PINFile: "fd:0"}, t.TempDir())
	if err != nil || string(c.Token.PIN) != "1234" || c.Token.PINFile != "" {
		t.Errorf("found %+v, %v", c.Token, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.WriteString("5678")
	_ = w.Close()
	if pin, err := a.pinFrom(strconv.FormatUint(uint64(r.Fd()), 10)); err != nil || string(pin) != "5678" {
		t.Errorf("found %q, %v", pin, err)
	}
	for _, bad := range []string{"", "1", "2", "-1", "x", "9999", "99999"} {
		if _, err := a.pinFrom(bad); err == nil {
			t.Errorf("fd:%s was accepted", bad)
		}
	}
	// The variable goes before the file, and the flag before the variable.
	a.getenv = func(name string) string { return map[string]string{pinVariable: "/other"}[name] }
	for flag, want := range map[bool]string{false: "/other", true: "/pin"} {
		c, err := a.sealingConfig(&sealingSettings{Kind: "pkcs11", Token: testToken, PINFile: "/pin", pinFlag: flag}, t.TempDir())
		if err != nil || c.Token.PINFile != want {
			t.Errorf("found %q, %v, wanted %q", c.Token.PINFile, err, want)
		}
	}
	if _, err := a.sealingConfig(&sealingSettings{Kind: "pkcs11", Token: testToken + "&pin-value=1234"}, t.TempDir()); err == nil || strings.Contains(err.Error(), "1234") {
		t.Errorf("a PIN in the URI: %v", err)
	}
}

func TestSealingErrorsHint(t *testing.T) {
	for _, err := range []error{sealing.ErrKind, sealing.ErrPIN, sealing.ErrTokenKey, sealing.ErrToken, sealing.ErrPassphrase} {
		got := sealingError(err, "/S/keys/sealing")
		if hintOf(got) == "" || !errors.Is(got, err) {
			t.Errorf("%v: %v, %q", err, got, hintOf(got))
		}
	}
	if h := hintOf(sealingError(sealing.ErrPIN, "/S")); !strings.Contains(h, "/S/pin-refused") {
		t.Error(h)
	}
}
