//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/store"
)

const testToken = "pkcs11:token=steward;object=sealing?module-path=/nowhere.so"

func TestSealingSettings(t *testing.T) {
	a, _ := testApp()
	for kind, s := range map[string]sealingSettings{"file": {}, "pkcs11": {Token: testToken, PINFile: "pin"}, "passphrase": {Kind: "passphrase"}, "keep": {TEE: "sim"}} {
		if err := s.settle(a); err != nil || s.Kind != kind || s.PINFile != "" && !filepath.IsAbs(s.PINFile) {
			t.Errorf("found %+v, %v, wanted %s", s, err, kind)
		}
	}
	for _, s := range []sealingSettings{{Kind: "hsm"}, {Kind: "keep"}, {Kind: "keep", TEE: "snp"}, {TEE: "vm", Token: testToken}, {Kind: "file", AllowSimulated: true}, {Kind: "keep", TEE: "sim", PINFile: "pin"}, {Kind: "pkcs11"}, {Kind: "file", Token: testToken}, {PINFile: "pin"}, {create: true}, {Kind: "passphrase", Server: "unix:path=/x"},
		{Token: "pkcs11:token=a;object=b"}, {Token: testToken, Server: "unix:path=/x"}, {Token: "pkcs11:object=b?module-path=/x"}} {
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
	defer r.Close()
	n, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	if pin, err := a.pinFrom(strconv.Itoa(n)); err != nil || string(pin) != "5678" {
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

// Keys move between files and a passphrase though the variable that names it is set
// throughout, and though a move before was cut off.
func TestMoveWithPassphrase(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	key := store.SecretKey{Workload: "sha256:" + strings.Repeat("0", 64), Name: "a"}
	sealed, id, err := ringSealer{s.ring}.Seal(key, 1, audit.Digest{1}, []byte("x"))
	if err == nil {
		err = s.store.PutSecret(ctx, store.Secret{SecretKey: key, Version: 1, Sealed: sealed, KeyID: id, Policy: [32]byte{1}}, store.Actor{Who: "t", At: time.Now()})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.getenv = func(name string) string { return map[string]string{passphraseVariable: file}[name] }
	if _, err := a.openState(ctx, dir, stateOptions{}); !errors.Is(err, sealing.ErrKind) {
		t.Fatalf("without a move: %v", err)
	}
	for _, step := range []struct {
		to  string
		cut bool
	}{{sealing.KindPassphrase, true}, {sealing.KindPassphrase, false}, {sealing.KindFile, false}} {
		s, err := a.openState(ctx, dir, stateOptions{move: &sealingSettings{Kind: step.to}})
		if err != nil {
			t.Fatal(step, err)
		}
		if step.cut {
			_, err = s.ring.Rotate()
		} else {
			err = s.rotateSealing(ctx)
		}
		s.close()
		if kinds, _ := sealing.Kinds(sealingDir(s.path(stewardKeys))); err != nil || !step.cut && (len(kinds) != 1 || kinds[0] != step.to) {
			t.Fatalf("%v: found %q, %v", step, kinds, err)
		}
	}
	a.getenv = func(string) string { return "" }
	if s, err = a.openState(ctx, dir, stateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	list, err := s.store.Secrets(ctx, key.Workload)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if plain, err := (ringSealer{s.ring}).Open(list[0]); err != nil || string(plain) != "x" {
		t.Errorf("found %q, %v", plain, err)
	}
}

// A state without sealing keys gets none by being copied.
func TestCopyMakesNoKey(t *testing.T) {
	a, _ := testApp()
	dir, to := filepath.Join(t.TempDir(), "S"), filepath.Join(t.TempDir(), "copy")
	s := testState(t, a, dir)
	s.close()
	keys := sealingDir(s.path(stewardKeys))
	if err := os.RemoveAll(keys); err != nil {
		t.Fatal(err)
	}
	err := a.copySealing(dir, sealing.Config{Kind: sealing.KindPassphrase, Dir: to, Passphrase: []byte("correct horse battery"), WorkFactor: 10})
	if err == nil || !strings.Contains(err.Error(), "holds no key") {
		t.Errorf("found %v", err)
	}
	if !notThere(keys) || !notThere(to) {
		t.Error("keys were made")
	}
}

// A kind that the command line names is started without what steward.toml says of
// another one (as with a recovery copy); what it says of the same kind counts.
func TestSealingFlagsAndFile(t *testing.T) {
	const keep, token = "[sealing]\nkind = \"keep\"\ntee = \"sim\"\nallow_simulated = true\n", "[sealing]\ntoken = \"" + testToken + "\"\npin_file = \"/pin\"\n"
	for _, x := range []struct {
		file  string
		flags []string
		want  sealingSettings
	}{
		{keep, nil, sealingSettings{Kind: "keep", TEE: "sim", AllowSimulated: true}},
		{keep, []string{"--sealing", "passphrase"}, sealingSettings{Kind: "passphrase"}},
		{"[sealing]\ntee = \"sim\"\n", []string{"--sealing", "file"}, sealingSettings{Kind: "file"}},
		{keep, []string{"--sealing", "keep"}, sealingSettings{Kind: "keep", TEE: "sim", AllowSimulated: true}},
		{token, []string{"--sealing", "passphrase"}, sealingSettings{Kind: "passphrase"}},
		{token, []string{"--sealing-pin-file", "/other"}, sealingSettings{Kind: "pkcs11", Token: testToken, PINFile: "/other", pinFlag: true}},
		{token, []string{"--sealing", "pkcs11"}, sealingSettings{Kind: "pkcs11", Token: testToken, PINFile: "/pin"}},
		{"[sealing]\npin_file = \"/pin\"\n", []string{"--sealing", "pkcs11", "--sealing-token", testToken}, sealingSettings{Kind: "pkcs11", Token: testToken, PINFile: "/pin"}},
	} {
		a, _ := testApp()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stewardConfig), []byte(x.file), 0o600); err != nil {
			t.Fatal(err)
		}
		var f serveFlags
		c := &cobra.Command{}
		f.sealing.register(c)
		err := c.ParseFlags(x.flags)
		if err == nil {
			_, err = f.merge(c, dir)
		}
		if err == nil {
			err = f.sealing.settle(a)
		}
		if err != nil || f.sealing != x.want {
			t.Errorf("%q with %q: found %+v, %v, wanted %+v", x.file, x.flags, f.sealing, err, x.want)
		}
	}
}

// Passphrases and tokens that others can read are refused, as PINs and keys are.
func TestSecretsOthersRead(t *testing.T) {
	dir := t.TempDir()
	words := filepath.Join(dir, "words")
	if err := errors.Join(os.WriteFile(words, []byte("correct horse battery\n"), 0o600), os.Chmod(words, 0o640)); err != nil {
		t.Fatal(err)
	}
	open := func(want bool) {
		t.Helper()
		for _, variable := range []string{passphraseVariable, keepVariable} {
			a, _ := testApp()
			a.getenv = func(name string) string { return map[string]string{variable: words}[name] }
			s := &sealingSettings{Kind: sealing.KindPassphrase}
			if variable == keepVariable {
				s = &sealingSettings{Kind: sealing.KindKeep, TEE: "sim"}
			}
			if c, err := a.sealingConfig(s, dir); (err == nil) != want || want && string(c.Passphrase) != "correct horse battery" || !want && !strings.Contains(err.Error(), "others may read it: found the mode 0640") {
				t.Errorf("%s: found %q, %v", variable, c.Passphrase, err)
			}
		}
		ca := filepath.Join(dir, "none")
		_, err := (&stewardFlags{server: "https://localhost:1", tokenFile: words, ca: ca}).remote()
		if refused := err != nil && strings.Contains(err.Error(), "others may read it"); refused == want {
			t.Errorf("the token: found %v", err)
		}
	}
	open(false)
	if status, _, errs := command(t, "steward", "sealing", "copy", "--state", dir, "--passphrase-file", words, filepath.Join(dir, "copy")); status != statusFailed || !strings.Contains(errs, "hint: chmod 600 "+words) {
		t.Errorf("found status %d, %q", status, errs)
	}
	if err := os.Chmod(words, 0o600); err != nil {
		t.Fatal(err)
	}
	open(true)
}

// A token that a shell writes into a file with its ordinary mode is not taken from there:
// that is said when it is made.
func TestTokenIntoFile(t *testing.T) {
	a, errs := testApp()
	dir := filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	err := s.publish()
	s.close()
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o644: true, 0o600: false} {
		name := filepath.Join(t.TempDir(), "token")
		f, err := os.Create(name)
		if err == nil {
			err = f.Chmod(mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		errs.Reset()
		a.stdout, a.stderr = f, errs
		if status := a.run([]string{"steward", "token", "create", "--state", dir, "--name", "n", "--scope", "read"}); status != 0 || strings.Contains(errs.String(), "chmod 600") != want {
			t.Errorf("%04o: found status %d, %q, wanted that it is said: %t", mode, status, errs, want)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := readPrivate(name, 4096); (err != nil) != want {
			t.Errorf("%04o: read again: %v", mode, err)
		}
	}
}
