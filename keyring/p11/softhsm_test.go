//go:build linux

package p11

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// hsm is a SoftHSM with a token "steward" and the PIN 1234.
func hsm(t *testing.T) (environ []string) {
	t.Helper()
	for _, p := range []string{"p11-kit", "softhsm2-util"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s (apt-get install softhsm2 p11-kit)", p)
		}
	}
	if _, err := os.Stat(softHSM); err != nil {
		t.Skip("no SoftHSM (apt-get install softhsm2): ", err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ = []string{"PATH=" + os.Getenv("PATH"), "SOFTHSM2_CONF=" + conf}
	c := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "steward", "--so-pin", "12345678", "--pin", "1234")
	c.Env = environ
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return environ
}

func spawn(t *testing.T, environ []string) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c, err := Spawn(ctx, softHSM, environ)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func key(t *testing.T, c *Conn, u URI, pin string, make bool) (*Key, error) {
	t.Helper()
	k, err := c.Token(u, make)
	if err != nil {
		return nil, err
	}
	if err := k.Login([]byte(pin)); err != nil {
		return nil, err
	}
	if make {
		if err := k.Generate(u); err != nil {
			t.Fatal(err)
		}
	}
	return k.Key(u)
}

func TestSoftHSM(t *testing.T) {
	environ := hsm(t)
	u := URI{Token: "steward", Object: "sealing"}
	if _, err := key(t, spawn(t, environ), u, "1234", false); !errors.Is(err, ErrNoKey) {
		t.Fatalf("before there is one: %v", err)
	}
	k, err := key(t, spawn(t, environ), u, "1234", true)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := k.HMAC([]byte("message"))
	if err != nil || len(sum) != 32 {
		t.Fatal(len(sum), err)
	}
	// Another process, by the same name, finds the same key.
	k, err = key(t, spawn(t, environ), u, "1234", false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.HMAC([]byte("message"))
	other, err2 := k.HMAC([]byte("messagf"))
	if err != nil || err2 != nil || !bytes.Equal(sum, again) || bytes.Equal(sum, other) {
		t.Fatalf("found %x, %x, %x, %v, %v", sum, again, other, err, err2)
	}
	for what, x := range map[string]struct {
		u   URI
		pin string
		err error
	}{
		"another PIN":    {u, "4321", ErrPIN},
		"a short PIN":    {u, "1", ErrPIN},
		"another token":  {URI{Token: "else", Object: "sealing"}, "1234", ErrNoToken},
		"another serial": {URI{Token: "steward", Serial: "0", Object: "sealing"}, "1234", ErrNoToken},
		"another key":    {URI{Token: "steward", Object: "else"}, "1234", ErrNoKey},
		"another id":     {URI{Token: "steward", Object: "sealing", ID: []byte{1}}, "1234", ErrNoKey},
	} {
		if _, err := key(t, spawn(t, environ), x.u, x.pin, false); !errors.Is(err, x.err) {
			t.Errorf("%s: found %v, wanted %v", what, err, x.err)
		}
	}
	tok, err := spawn(t, environ).Token(u, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Login(nil); !errors.Is(err, ErrPINNeeded) {
		t.Errorf("no PIN: %v", err)
	}
	if _, err := key(t, spawn(t, environ), u, "1234", true); !errors.Is(err, ErrManyKeys) {
		t.Errorf("two of one name: %v", err)
	}
	byID := URI{Token: "steward", Serial: tok.Info.Serial, ID: []byte{7, 8}}
	if _, err := key(t, spawn(t, environ), byID, "1234", true); err != nil {
		t.Errorf("by its id: %v", err)
	}
}

// A key that somebody made with another program serves where it stays in the token.
func TestForeignKey(t *testing.T) {
	if _, err := exec.LookPath("pkcs11-tool"); err != nil {
		t.Skip("no pkcs11-tool (apt-get install opensc)")
	}
	environ := hsm(t)
	tool := func(args ...string) {
		t.Helper()
		c := exec.Command("pkcs11-tool", append([]string{"--module", softHSM, "--token-label", "steward", "--login", "--pin", "1234"}, args...)...)
		c.Env = environ
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	tool("--keygen", "--key-type", "GENERIC:32", "--label", "good", "--sensitive", "--usage-sign")
	tool("--keygen", "--key-type", "GENERIC:32", "--label", "open", "--extractable", "--usage-sign")
	tool("--keygen", "--key-type", "GENERIC:16", "--label", "short", "--sensitive", "--usage-sign")
	k, err := key(t, spawn(t, environ), URI{Token: "steward", Object: "good"}, "1234", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.HMAC([]byte("x")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"open", "short"} {
		if _, err := key(t, spawn(t, environ), URI{Token: "steward", Object: name}, "1234", false); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What another program sees of ours is the key, and not its value.
	if _, err := key(t, spawn(t, environ), URI{Token: "steward", Object: "ours"}, "1234", true); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("pkcs11-tool", "--module", softHSM, "--token-label", "steward", "--login", "--pin", "1234", "--list-objects", "--type", "secrkey")
	c.Env = environ
	out, err := c.CombinedOutput()
	_, ours, ok := strings.Cut(string(out), "label:      ours")
	ours, _, _ = strings.Cut(ours, "Secret Key")
	if err != nil || !ok || !strings.Contains(ours, "Usage:      verify\n") || !strings.Contains(ours, "never extractable") {
		t.Errorf("%v\n%s", err, out)
	}
}

// p11-kit server, with its own wire to the module behind it.
func TestServer(t *testing.T) {
	environ := hsm(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	c := exec.Command("p11-kit", "server", "--foreground", "--name", path, "--provider", softHSM, "pkcs11:")
	c.Env = append(environ, "XDG_RUNTIME_DIR="+dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	for range 100 {
		if _, err := os.Stat(path); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, making := range []bool{true, false} {
		conn, err := Dial(ctx, "unix:path="+path)
		if err != nil {
			t.Fatal(err)
		}
		k, err := key(t, conn, URI{Token: "steward", Object: "sealing"}, "1234", making)
		if err == nil {
			_, err = k.HMAC([]byte("x"))
		}
		if err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	for _, bad := range []string{path, "unix:path=rel", "vsock:cid=3;port=1", "unix:path=" + path + ".none", "unix:path=/tmp/p11"} {
		if _, err := Dial(ctx, bad); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestSpawnNothing(t *testing.T) {
	if _, err := exec.LookPath("p11-kit"); err != nil {
		t.Skip("no p11-kit (apt-get install p11-kit)")
	}
	ctx, environ := context.Background(), []string{"PATH=" + os.Getenv("PATH")}
	for _, bad := range []string{"softhsm2.so", "/nowhere.so", "/tmp"} {
		if _, err := Spawn(ctx, bad, environ); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	// A file that is no module.
	_, err := Spawn(ctx, "/etc/passwd", environ)
	if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("found %v", err)
	}
}
