package sealing

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/keyring/p11"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// noHSM says what is missing for a token, or nothing.
func noHSM() string {
	for _, p := range []string{"p11-kit", "softhsm2-util"} {
		if _, err := exec.LookPath(p); err != nil {
			return "no " + p + " (apt-get install softhsm2 p11-kit)"
		}
	}
	if _, err := os.Stat(softHSM); err != nil {
		return "no SoftHSM (apt-get install softhsm2)"
	}
	return ""
}

// hsm is a folder without keys, and a SoftHSM with the token "steward" and the PIN 1234.
func hsm(t *testing.T) Config {
	t.Helper()
	if why := noHSM(); why != "" {
		t.Skip(why)
	}
	dir := t.TempDir()
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	write(t, conf, "directories.tokendir = "+dir+"\nobjectstore.backend = file\n")
	write(t, pin, "1234\n")
	t.Setenv("SOFTHSM2_CONF", conf)
	softHSMUtil(t, "--init-token", "--free", "--label", "steward", "--so-pin", "12345678", "--pin", "1234")
	return Config{Kind: KindPKCS11, Dir: filepath.Join(dir, "keys"), Token: Token{
		URI: p11.URI{Token: "steward", Object: "sealing", Module: softHSM}, PINFile: pin, Create: true, Timeout: 20 * time.Second}}
}

func softHSMUtil(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("softhsm2-util", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var paths = regexp.MustCompile(`/[^ :]*`)

func refused(t *testing.T, what string, c Config, wanted ...error) {
	t.Helper()
	r, err := Open(c)
	for _, want := range wanted {
		if !errors.Is(err, want) {
			t.Errorf("%s: found %v, wanted %v", what, err, want)
		}
	}
	if err == nil {
		r.Close()
	} else if said := paths.ReplaceAllString(err.Error(), ""); strings.Contains(said, "1234") || strings.Contains(said, "4321") { // folders of tests have numbers
		t.Errorf("%s: a PIN is in the error: %v", what, err)
	}
}

func TestTokenFiles(t *testing.T) {
	c := hsm(t)
	r := must(t, c)
	sealed, id, err := r.Seal([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, id+".p11")
	good, err := os.ReadFile(path)
	key, _ := r.key(id)
	if err != nil || len(good) != tokenSize || bytes.Contains(good, key) {
		t.Fatalf("found %x, %v", good, err)
	}
	// Each wrap has a salt and so a cipher of its own.
	again, err := r.by.wrap(id, key)
	if err != nil || bytes.Equal(again[1+idSize:headerSize], good[1+idSize:headerSize]) {
		t.Fatal(err)
	}
	for i := range good {
		if i%5 != 0 && i > headerSize { // each asks the token
			continue
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1
		write(t, path, string(bad))
		if _, err := Open(c); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrTokenKey) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	write(t, path, string(good[:len(good)-1]))
	refused(t, "cut off", c, ErrKeyFile)
	// Another key's file, under this one's name.
	other, err := r.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(c.Dir, other+".p11"))
	write(t, path, string(b))
	write(t, filepath.Join(c.Dir, Current), id)
	refused(t, "another key's file", c, ErrKeyFile)
	write(t, path, string(good))
	if plain, err := must(t, c).Open(sealed, nil); err != nil || string(plain) != "secret" {
		t.Fatal(err)
	}
	// Somebody who writes to the folder puts in a key that he knows.
	known := bytes.Repeat([]byte{7}, keySize)
	write(t, filepath.Join(c.Dir, keyID(known)+".key"), string(known))
	write(t, filepath.Join(c.Dir, Current), keyID(known))
	refused(t, "a key that is known", c, ErrKind)
	if _, _, err := r.Seal(nil, nil); !errors.Is(err, ErrKind) {
		t.Errorf("a running server seals under a key that is known: %v", err)
	}
}

func TestTokenPINIsTriedOnce(t *testing.T) {
	c := hsm(t)
	must(t, c)
	write(t, c.Token.PINFile, "4321")
	refused(t, "a wrong PIN", c, ErrPIN)
	marker := filepath.Join(c.Dir, PINRefused)
	if b, err := os.ReadFile(marker); err != nil || len(b) != 0 {
		t.Fatalf("found %q, %v", b, err)
	}
	// Not even the right one, before somebody says so: p11-kit is not started.
	write(t, c.Token.PINFile, "1234")
	path := os.Getenv("PATH")
	ran := fakeP11Kit(t, "exit 1")
	refused(t, "after a wrong PIN", c, ErrPIN)
	if _, err := os.Stat(ran); err == nil {
		t.Error("the token was asked again")
	}
	t.Setenv("PATH", path)
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
	must(t, c)

	given := c
	given.Token.PINFile, given.Token.PIN = "", []byte("1234")
	must(t, given)
	if string(given.Token.PIN) != "1234" {
		t.Error("the caller's PIN was changed")
	}
	given.Token.PIN = nil
	refused(t, "no PIN", given, ErrPIN)
	given.Token.PIN, given.Token.PINFile = []byte("1234"), c.Token.PINFile
	refused(t, "two PINs", given, ErrPIN)
	for what, text := range map[string]string{"empty": "", "two lines": "1234\n1234\n", "a zero": "1234\x00", "long": strings.Repeat("1", 300)} {
		write(t, c.Token.PINFile, text)
		refused(t, what, c, ErrPIN)
	}
	write(t, c.Token.PINFile, "1234")
	_ = os.Chmod(c.Token.PINFile, 0o640)
	refused(t, "a PIN that others read", c, ErrPIN)
	_ = os.Remove(c.Token.PINFile)
	refused(t, "no PIN file", c, ErrPIN)
	if _, err := os.Stat(marker); err == nil {
		t.Error("a PIN that was never tried counts as refused")
	}
}

// fakeP11Kit puts a script in p11-kit's place, and names the file that it makes.
func fakeP11Kit(t *testing.T, script string) (ran string) {
	t.Helper()
	dir := t.TempDir()
	ran = filepath.Join(dir, "ran")
	if err := os.WriteFile(filepath.Join(dir, "p11-kit"), []byte("#!/bin/sh\n: >"+ran+"\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return ran
}

func TestTokenFaults(t *testing.T) {
	c := hsm(t)
	never := c
	never.Token.Create = false
	never.Dir = filepath.Join(t.TempDir(), "never")
	refused(t, "no key, and none is to be made", never, ErrTokenKey)
	if files, _ := filepath.Glob(filepath.Join(never.Dir, "*.p11")); len(files) > 0 {
		t.Error(files)
	}
	must(t, c)

	for what, x := range map[string]struct {
		change func(*Token)
		want   error
	}{
		"another token":             {func(x *Token) { x.URI.Token = "else" }, ErrToken},
		"another key":               {func(x *Token) { x.URI.Object = "else" }, ErrTokenKey}, // Create is for the first one alone
		"no module":                 {func(x *Token) { x.URI.Module = "/nowhere.so" }, ErrToken},
		"a module that is none":     {func(x *Token) { x.URI.Module = "/etc/passwd" }, ErrToken},
		"no server":                 {func(x *Token) { x.URI.Module, x.Server = "", "unix:path=/run/nowhere/p11" }, ErrToken},
		"a module and a server":     {func(x *Token) { x.Server = "unix:path=/run/nowhere/p11" }, ErrToken},
		"neither module nor server": {func(x *Token) { x.URI.Module = "" }, ErrToken},
		"no URI":                    {func(x *Token) { x.URI = p11.URI{} }, ErrToken},
	} {
		bad := c
		x.change(&bad.Token)
		refused(t, what, bad, x.want)
	}
	path := os.Getenv("PATH")
	for script, want := range map[string]error{"exec sleep 1000": p11.ErrTimeout, "kill -SEGV $$": p11.ErrGone, "exec cat /dev/zero": p11.ErrMalformed, "printf '\\002'; exec yes": p11.ErrTooLarge} {
		ran := fakeP11Kit(t, script)
		bad := c
		bad.Token.Timeout = 2 * time.Second // a busy machine starts the script in it
		if want != p11.ErrTimeout {
			bad.Token.Timeout = 20 * time.Second
		}
		refused(t, script, bad, ErrToken, want)
		if _, err := os.Stat(ran); err != nil {
			t.Errorf("%s did not run", script)
		}
		t.Setenv("PATH", path)
	}

	// The key is deleted, and one of the same name put there.
	if _, err := exec.LookPath("pkcs11-tool"); err != nil {
		t.Skip("the rest not: no pkcs11-tool (apt-get install opensc)")
	}
	r := must(t, c)
	tool := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("pkcs11-tool", append([]string{"--module", softHSM, "--token-label", "steward", "--login", "--pin", "1234"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	tool("--delete-object", "--type", "secrkey", "--label", "sealing")
	refused(t, "the key is gone", c, ErrTokenKey)
	if _, err := r.Rotate(); !errors.Is(err, ErrTokenKey) {
		t.Errorf("rotated without the key: %v", err)
	}
	if _, _, err := r.Seal([]byte("x"), nil); err != nil {
		t.Errorf("what runs does not run on: %v", err)
	}
	tool("--keygen", "--key-type", "GENERIC:32", "--label", "sealing", "--sensitive", "--usage-sign")
	refused(t, "another key of the name", c, ErrTokenKey)
}

// A token that fails is not asked for every request: they would wait behind each other.
func TestTokenThatFailsIsLeftAlone(t *testing.T) {
	c := hsm(t)
	sealed, _, err := must(t, c).Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Lazy = true
	r, path := must(t, c), os.Getenv("PATH")
	ran := fakeP11Kit(t, "exit 1")
	for i := range 5 {
		if _, err := r.Open(sealed, nil); !errors.Is(err, ErrToken) {
			t.Fatal(err)
		}
		if err := os.Remove(ran); (err == nil) != (i == 0) {
			t.Errorf("time %d: removing the mark of a try: %v", i, err)
		}
	}
	t.Setenv("PATH", path)
	r.by.(*token).until = time.Time{} // the pause is over
	if plain, err := r.Open(sealed, nil); err != nil || string(plain) != "x" {
		t.Errorf("after the pause: %q, %v", plain, err)
	}
}

// A ring moves to another kind and back: what was sealed opens throughout.
func TestMove(t *testing.T) {
	all := []Config{rings(t)[KindFile], rings(t)[KindPassphrase], hsm(t)}
	all = append(all, all[2])
	all[3].Token.URI.Object = "second" // of one token, which is as good as another token
	dir := filepath.Join(t.TempDir(), "keys")
	for i := range all {
		all[i].Dir = dir
	}
	sealed, first, err := must(t, all[0]).Seal([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]int{{0, 1}, {1, 2}, {2, 1}, {1, 2}, {2, 3}, {3, 2}, {2, 0}} {
		from, to := all[step[0]], all[step[1]]
		if from.Kind != to.Kind {
			refused(t, "another kind without a move", to, ErrKind)
		} else {
			refused(t, "another key without a move", to, ErrTokenKey)
		}
		to.From = &from
		r := must(t, to)
		plain, err := r.Open(sealed, nil)
		if err != nil || string(plain) != "secret" {
			t.Fatalf("from %s to %s: %q, %v", from.Kind, to.Kind, plain, err)
		}
		next, err := r.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		var id string
		if sealed, id, err = r.Seal(plain, nil); err != nil || id != next {
			t.Fatal(id, err)
		}
		ids, err := r.KeyIDs()
		if err != nil || len(ids) != 2 {
			t.Fatal(ids, err)
		}
		must(t, to) // cut off here, it goes on
		if kinds, err := Kinds(dir); err != nil || !slices.Contains(kinds, from.Kind) && from.Kind != "" || !slices.Contains(kinds, to.Kind) && to.Kind != "" {
			t.Errorf("found %q, %v", kinds, err)
		}
		if err := r.Retire(first); err != nil {
			t.Fatal(err)
		}
		first = next
		to.From = nil
		if ids, err := must(t, to).KeyIDs(); err != nil || len(ids) != 1 || ids[0] != next {
			t.Fatal(ids, err)
		}
	}
	weak := all[1]
	weak.Passphrase = nil
	from := all[0]
	from.From = &weak
	refused(t, "what the kind before needs is missing", from, ErrWeak)
}

func TestModuleEnviron(t *testing.T) {
	got := moduleEnviron([]string{"PATH=/bin", "SOFTHSM2_CONF=/x", "PGPASSWORD=x", "DONJON_SEALING_PIN_FILE=x", "P11_KIT_DEBUG=all", "NOTIFY_SOCKET=x"})
	if strings.Join(got, " ") != "PATH=/bin SOFTHSM2_CONF=/x" {
		t.Error(got)
	}
}
