//go:build linux

package connect

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"keep.example:9443": "keep.example:9443", "127.0.0.1:1": "127.0.0.1:1", "[::1]:9443": "[::1]:9443",
		"https://keep.example:9443": "keep.example:9443", "https://keep.example:9443/": "keep.example:9443", "https://[::1]:9443": "[::1]:9443",
		"https://keep.example": "keep.example:443", "HTTPS://keep.example:1": "keep.example:1",
		"": "", "keep.example": "", "keep.example:": "", ":9443": "", "::1:9443": "", "[::1]": "", "keep.example:0": "", "keep.example:65536": "", "keep.example:http": "",
		"http://keep.example:80": "", "https://keep.example:9443/path": "", "https://u@keep.example:1": "", "https://keep.example:1?q": "", "https://:1": "",
		"https://keep.example:": "", "a b:1": "", "a/b:1": "", "a\n:1": "", "unix:/s": "", "https://keep.example:9443#f": "",
	} {
		got, err := ParseAddress(in)
		var bad *AddressError
		if got != want || (want == "") != errors.As(err, &bad) {
			t.Errorf("%q: found %q, %v, wanted %q", in, got, err, want)
		}
	}
}

func TestParsePlace(t *testing.T) {
	for in, want := range map[string]Place{
		"127.0.0.1:0": {Addr: "127.0.0.1:0", Local: true}, "[::1]:80": {Addr: "[::1]:80", Local: true}, "localhost:80": {Addr: "localhost:80", Local: true},
		"127.9.9.9:1": {Addr: "127.9.9.9:1", Local: true}, "[::ffff:127.0.0.1]:1": {Addr: "[::ffff:127.0.0.1]:1", Local: true},
		":80": {Addr: ":80"}, "0.0.0.0:80": {Addr: "0.0.0.0:80"}, "192.0.2.1:80": {Addr: "192.0.2.1:80"}, "localhost.evil.example:80": {Addr: "localhost.evil.example:80"},
		"unix:/run/x": {Path: "/run/x", Local: true},
		"":            {}, "80": {}, "127.0.0.1": {}, "127.0.0.1:": {}, "127.0.0.1:65536": {}, "unix:": {}, "unix:/" + strings.Repeat("x", 107): {},
	} {
		got, err := ParsePlace(in)
		var bad *AddressError
		if got != want || (want == Place{}) != errors.As(err, &bad) {
			t.Errorf("%q: found %+v, %v, wanted %+v", in, got, err, want)
		}
	}
	if p, err := ParsePlace("unix:@name"); err != nil || !filepath.IsAbs(p.Path) {
		t.Errorf("a name without a mode: %+v, %v", p, err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p, err := ParsePlace(UnixPrefix + path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	if _, err := p.Listen(); err == nil || !strings.Contains(err.Error(), "listens there already") {
		t.Errorf("a second listener: %v", err)
	}
	if err := l.Close(); err != nil || !absent(path) {
		t.Errorf("after the end: %v, there %v", err, !absent(path))
	}
	// One that its process left behind.
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	if l, err = p.Listen(); err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	// Somebody else's that took its place stays.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if absent(path) {
		t.Error("another's socket was removed")
	}
	_ = other.Close()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Listen(); err == nil || absent(path) {
		t.Errorf("a file that is no socket: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "me")
	now := time.Now()
	id, err := OpenIdentity(dir, now)
	if err != nil || !id.Made {
		t.Fatalf("%+v, %v", id, err)
	}
	sum := sha256.Sum256(id.Certificate.Leaf.RawSubjectPublicKeyInfo)
	if id.Key != hex.EncodeToString(sum[:]) {
		t.Errorf("key: %s", id.Key)
	}
	key := filepath.Join(dir, KeyFile)
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	again, err := OpenIdentity(dir, now)
	if err != nil || again.Made || again.Key != id.Key {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	if _, err := OpenIdentity(dir, now.AddDate(identityYears+1, 0, 0)); err == nil {
		t.Error("one that has ended is used")
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	var mode *ModeError
	if _, err := OpenIdentity(dir, now); !errors.As(err, &mode) {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIdentity(dir, now); err == nil {
		t.Error("a certificate without its key is made anew")
	}
}

// The identity is shown to a Keep that asks, and it is known whether one did.
func TestPresented(t *testing.T) {
	id, err := OpenIdentity(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range []bool{true, false} {
		shown := make(chan int, 1)
		k := newKeep(t, func(c *tls.Conn) { shown <- len(c.ConnectionState().PeerCertificates); _ = c.Close() })
		if ask {
			k.tls.ClientAuth = tls.RequireAnyClientCert
		}
		d := k.dialer()
		d.Config.Certificate = id.Certificate
		c, err := d.Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n := <-shown; c.Presented != ask || (n == 1) != ask {
			t.Errorf("asked %v: presented %v, the Keep has %d certificates", ask, c.Presented, n)
		}
		_ = c.Close()
	}
}
