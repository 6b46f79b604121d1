package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Many who start at once find one authority.
func TestOpenAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	var wg sync.WaitGroup
	list := make([]*Authority, 8)
	for i := range list {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a, err := Open(Options{Dir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			list[i] = a
		}()
	}
	wg.Wait()
	for _, a := range list {
		if a == nil || !bytes.Equal(a.PEM(), list[0].PEM()) || a.ID() != list[0].ID() || !a.TokenKey().Equal(list[0].TokenKey()) || a.ChallengeKeys()[0] != list[0].ChallengeKeys()[0] {
			t.Fatal("two authorities")
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, wanted none for others", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"a folder others read": func(dir string) error { return os.Chmod(dir, 0o755) },
		"a root cut short": func(dir string) error {
			return os.Truncate(filepath.Join(dir, "ca-0001", "root.pem"), 300)
		},
		"another's key": func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "token.pem"))
			if err != nil {
				return err
			}
			c, err := os.ReadFile(filepath.Join(dir, "ca-0001", "workloads.pem"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "ca-0001", "workloads.pem"), append(c[:bytes.Index(c, []byte("-----BEGIN PRIVATE"))], b...), 0o600)
		},
		"no id": func(dir string) error { return os.Remove(filepath.Join(dir, "id")) },
		"a challenge key cut": func(dir string) error {
			list, _ := filepath.Glob(filepath.Join(dir, "challenge-*"))
			return os.Truncate(list[0], 10)
		},
	} {
		dir := filepath.Join(t.TempDir(), "keys")
		open(t, dir)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: dir})
		var state *StateError
		if !errors.As(err, &state) || state.Hint() == "" {
			t.Errorf("%s: found %v, wanted a StateError", name, err)
		}
	}
}

func TestReloadSeesARotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a, b := open(t, dir), open(t, dir)
	if fresh, err := a.Reload(); fresh || err != nil {
		t.Errorf("nothing new: found %v, %v", fresh, err)
	}
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	if fresh, err := a.Reload(); !fresh || err != nil || len(a.Roots()) != 2 {
		t.Errorf("a rotation: found %v, %v, %d roots", fresh, err, len(a.Roots()))
	}
	if err := b.NewChallengeKey(false); err != nil || len(b.ChallengeKeys()) != 2 {
		t.Errorf("a challenge key: %v, %d", err, len(b.ChallengeKeys()))
	}
	if err := b.NewChallengeKey(true); err != nil || len(b.ChallengeKeys()) != 1 {
		t.Errorf("dropping: %v, %d", err, len(b.ChallengeKeys()))
	}
}

// Three generations: what the newest issues is good under each root that is pinned.
func TestRotationsChain(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "keys"))
	if err := a.Retire(); !errors.Is(err, ErrOne) {
		t.Errorf("retiring the one root: %v", err)
	}
	for range 2 {
		if err := a.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Workload(Leaf{Key: &key.PublicKey, Serial: Serial(), NotAfter: a.Until(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	var certs []*x509.Certificate
	between := x509.NewCertPool()
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
		between.AddCert(c)
	}
	for i, root := range a.Roots() {
		pool := x509.NewCertPool()
		pool.AddCert(root)
		if _, err := certs[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("under root %d: %v", i+1, err)
		}
	}
}

func TestLeavesEndWithTheirIssuer(t *testing.T) {
	now := time.Now()
	a, err := Open(Options{Dir: filepath.Join(t.TempDir(), "keys"), Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(intermediateLife - time.Hour)
	if got := a.Until(24 * time.Hour).Sub(now); got > time.Hour {
		t.Errorf("a leaf of %v, its issuer ends in an hour", got)
	}
}

func TestKeysThatAreNotCertified(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "keys"))
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"RSA": &weak.PublicKey, "P-224": &p224.PublicKey, "nothing": nil} {
		if _, err := a.Workload(Leaf{Key: key, Serial: Serial(), NotAfter: time.Now().Add(time.Hour)}); err == nil {
			t.Errorf("%s: certified", name)
		}
	}
}

func TestGrant(t *testing.T) {
	n, err := OwnNames([]string{"Steward.Example.", "a.b.steward.example", "192.0.2.1", "[2001:db8::1]", "0.0.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"app.example", "app.example"}, {"APP.Example.", "app.example"}, {"xn--mnchen-3ya.example", "xn--mnchen-3ya.example"},
		{"*.apps.example", "*.apps.example"}, {"a.steward.example", "a.steward.example"}, {"1.example", "1.example"},
		{"steward.example", ""}, {"STEWARD.example.", ""}, {"localhost", ""}, {"Localhost.", ""},
		{"*.b.steward.example", ""}, {"*.example", ""}, {"*", ""}, {"*.*.example.org", ""}, {"a.*.example", ""}, {"ap*.example.org", ""},
		{"192.0.2.1", ""}, {"192.0.2.1.", ""}, {"3221225985", ""}, {"0xc0000201", ""}, {"0xc0.0.2.1", ""}, {"192.0.513", ""}, {"x.0x1", ""},
		{"::ffff:192.0.2.1", ""}, {"[2001:db8::1]", ""}, {"", ""}, {".", ""}, {"a..b", ""}, {"..", ""}, {"-a.example", ""}, {"a-.example", ""},
		{"a b.example", ""}, {"a\x00.example", ""}, {"münchen.example", ""}, {"a_b.example", ""}, {strings.Repeat("a", 64) + ".example", ""},
		{strings.Repeat("a.", 130) + "example", ""}, {"steward.example\n", ""}, {"localhost..", ""},
	} {
		got, err := n.Grant([]string{c.name})
		if c.want == "" {
			if err == nil {
				t.Errorf("%q: granted as %q", c.name, got)
			}
			continue
		}
		if err != nil || got[0] != c.want {
			t.Errorf("%q: found %q, %v, wanted %q", c.name, got, err, c.want)
		}
	}
	if _, err := OwnNames([]string{"*.example.org"}); err == nil {
		t.Error("a wildcard is an own name")
	}
}

func FuzzDNSName(f *testing.F) {
	for _, s := range []string{"app.example", "*.a.b", "127.1", "LOCALHOST.", ""} {
		f.Add(s)
	}
	n, err := OwnNames([]string{"steward.example"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := n.Grant([]string{s})
		if err != nil {
			return
		}
		again, err := n.Grant(got)
		if err != nil || again[0] != got[0] {
			t.Errorf("%q: %q, and then %q, %v", s, got, again, err)
		}
		if strings.TrimSuffix(strings.ToLower(s), ".") != got[0] || got[0] == "steward.example" || got[0] == "localhost" {
			t.Errorf("%q: %q", s, got)
		}
	})
}

func TestSerials(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := Serial()
		if s.Sign() <= 0 || len(s.Bytes()) != 16 || seen[s.String()] {
			t.Fatalf("serial %x", s)
		}
		seen[s.String()] = true
	}
}
