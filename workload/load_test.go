package workload

import (
	"archive/tar"
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// wasm is the smallest module: magic and version.
var wasm = []byte("\x00asm\x01\x00\x00\x00")

// folder writes files below a new folder and gives its path. A name that ends in
// a slash is a folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// golden is the example of docs/workload.md.
func golden(t *testing.T) string {
	return folder(t, map[string]string{
		"main.wasm":       string(wasm),
		"Donjon.toml":     "args = [\"hello\"]\n\n[[files]]\nkind = \"stdout\"\n\n[[data]]\npath = \"data\"\nguest = \"/data\"\n\n[[data]]\npath = \"b.txt\"\nguest = \"/etc/b.txt\"\n",
		"data/a.txt":      "a\n",
		"data/sub/b.txt":  "b\n",
		"data/sub/empty/": "",
		"data/sub-c.txt":  "",
		"b.txt":           "b\n",
		"notes.txt":       "no part of the workload",
	})
}

// The digest is the same on every machine, for ever: changing it needs a new
// artifact type.
const goldenDigest = "sha256:67766df0656ae4045cb48c5de2bd79448d34bad3c86e641e60ab2f0f712f97b7"

func TestGoldenDigest(t *testing.T) {
	w, err := Load(golden(t), Flags{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "manifest.golden.json")
	if *update {
		if err := os.WriteFile(file, w.Manifest, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.Manifest, want) {
		t.Errorf("found  %s\nwanted %s", w.Manifest, want)
	}
	if w.Digest.String() != goldenDigest {
		t.Errorf("found %s, wanted %s", w.Digest, goldenDigest)
	}
	m, err := ParseManifest(w.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	blobs := w.Blobs()
	for i, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if d.Digest != Digest(sha256.Sum256(blobs[i])) || d.Size != int64(len(blobs[i])) {
			t.Errorf("blob %d is not what its descriptor says", i)
		}
	}
}

// What does not belong to the workload leaves the digest alone; what does changes
// it.
func TestDigestCoversWhatIsNamed(t *testing.T) {
	digest := func(f Flags, change func(dir string)) Digest {
		dir := golden(t)
		change(dir)
		w, err := Load(dir, f)
		if err != nil {
			t.Fatal(err)
		}
		return w.Digest
	}
	write := func(name, content string) func(string) {
		return func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	base := digest(Flags{}, func(string) {})
	same := map[string]func(string){
		"an unnamed file": write("other.txt", "x"),
		"times and modes": func(dir string) {
			p := filepath.Join(dir, "data", "a.txt")
			if err := errors.Join(os.Chmod(p, 0o755), os.Chtimes(p, testTime, testTime)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, change := range same {
		if d := digest(Flags{}, change); d != base {
			t.Errorf("%s changes the digest", name)
		}
	}
	seen := map[Digest]string{base: "the workload itself"}
	for _, c := range []struct {
		name   string
		flags  Flags
		change func(string)
	}{
		{"module", Flags{}, write("main.wasm", "\x00asm\x02\x00\x00\x00")},
		{"configuration", Flags{}, func(dir string) {
			p := filepath.Join(dir, "Donjon.toml")
			b, err := os.ReadFile(p)
			if err == nil {
				err = os.WriteFile(p, append(b, '\n'), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"a file of a data folder", Flags{}, write("data/a.txt", "A\n")},
		{"a new file of a data folder", Flags{}, write("data/z", "")},
		{"a data file", Flags{}, write("b.txt", "B\n")},
		{"T06 arguments", Flags{Args: []string{"x"}}, func(string) {}},
		{"T06 no arguments", Flags{Args: []string{}}, func(string) {}},
		{"T06 environment", Flags{Env: []string{"A=1"}}, func(string) {}},
		{"T06 other environment", Flags{Env: []string{"A=2"}}, func(string) {}},
		{"memory", Flags{Memory: "1GiB"}, func(string) {}},
		{"processor time", Flags{CPUTime: "1s"}, func(string) {}},
		{"time", Flags{WallTime: "1s"}, func(string) {}},
		{"output", Flags{Output: "1MiB"}, func(string) {}},
		{"host folder", Flags{HostDirs: []string{"/work"}}, func(string) {}},
	} {
		d := digest(c.flags, c.change)
		if other, ok := seen[d]; ok {
			t.Errorf("%s gives the digest of %s", c.name, other)
		}
		seen[d] = c.name
	}
}

func TestLoadMerges(t *testing.T) {
	dir := folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": "args = [\"a\"]\n[env]\nA = \"1\"\nB = \"2\"\n[limits]\nmemory = \"1MiB\"\noutput = \"2MiB\"\n"})
	w, err := Load(dir, Flags{Args: []string{"x", "-y"}, Env: []string{"B=3", "C=", "D=a=b"}, Memory: "5MiB"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(w.Config.Args, []string{"x", "-y"}) {
		t.Errorf("args: found %q", w.Config.Args)
	}
	if want := []string{"A=1", "B=3", "C=", "D=a=b"}; !reflect.DeepEqual(w.Config.Environ(), want) {
		t.Errorf("environment: found %q, wanted %q", w.Config.Environ(), want)
	}
	if want := (Limits{Memory: 5 << 20, Output: 2 << 20}); w.Config.Limits != want {
		t.Errorf("limits: found %+v, wanted %+v", w.Config.Limits, want)
	}
	again, err := ParseConfig(w.ConfigBytes)
	if err != nil || !reflect.DeepEqual(again, w.Config) {
		t.Errorf("what is hashed is not what was merged: %v\n%s", err, w.ConfigBytes)
	}
}

// A bare module's configuration is no bytes at all; an Enarx.toml is hashed in
// its Donjon form, so the warden needs one parser.
func TestLoadForms(t *testing.T) {
	bare := folder(t, map[string]string{"app.wasm": string(wasm), "conf/My.toml": "args = [\"q\"]\n[[data]]\npath = \"d\"\nguest = \"/d\"", "conf/d": "x"})
	w, err := Load(filepath.Join(bare, "app.wasm"), Flags{})
	if err != nil || len(w.ConfigBytes) != 0 || len(w.Config.Descriptors()) != 3 {
		t.Errorf("bare: found %v, %q", err, w.ConfigBytes)
	}
	w, err = Load(filepath.Join(bare, "app.wasm"), Flags{Config: filepath.Join(bare, "conf", "My.toml")})
	if err != nil || len(w.Layers) != 1 || string(w.Layers[0]) != "x" {
		t.Errorf("--config: found %v, %+v; its paths are relative to the configuration", err, w)
	}
	en := folder(t, map[string]string{"main.wasm": string(wasm), "Enarx.toml": "args = [\"7\"]\n"})
	if w, err = Load(en, Flags{}); err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(w.ConfigBytes)
	if err != nil || !c.HasFiles || len(c.Descriptors()) != 0 || !bytes.Contains(w.ConfigBytes, []byte("files = []")) {
		t.Errorf("Enarx.toml without files: found %v, %q", err, w.ConfigBytes)
	}
}

func TestLoadErrors(t *testing.T) {
	ok := string(wasm)
	usage, config := new(*UsageError), new(*ConfigError)
	for _, c := range []struct {
		name  string
		files map[string]string
		load  string
		flags Flags
		as    any // *UsageError or *ConfigError
		is    error
	}{
		{name: "no such workload", load: "nothing", is: ErrNotFound},
		{name: "folder without module", files: map[string]string{"Donjon.toml": ""}, is: ErrNotFound},
		{name: "both configurations", files: map[string]string{"main.wasm": ok, "Donjon.toml": "", "Enarx.toml": ""}, as: config},
		{name: "--config beside a folder", files: map[string]string{"main.wasm": ok}, flags: Flags{Config: "x"}, as: usage},
		{name: "--config missing", files: map[string]string{"main.wasm": ok}, load: "main.wasm", flags: Flags{Config: "none.toml"}, is: ErrNotFound},
		{name: "--env without =", files: map[string]string{"main.wasm": ok}, flags: Flags{Env: []string{"A"}}, as: usage},
		{name: "--env without name", files: map[string]string{"main.wasm": ok}, flags: Flags{Env: []string{"=A"}}, as: usage},
		{name: "--memory", files: map[string]string{"main.wasm": ok}, flags: Flags{Memory: "lots"}, as: usage},
		{name: "argument with a zero byte", files: map[string]string{"main.wasm": ok}, flags: Flags{Args: []string{"a\x00"}}, as: config},
		{name: "argument that is no UTF-8", files: map[string]string{"main.wasm": ok}, flags: Flags{Args: []string{"\xff"}}, as: usage},
		{name: "too many bytes of arguments", files: map[string]string{"main.wasm": ok}, flags: Flags{Args: slicesOf(strings.Repeat("x", 60_000), 20)}, as: config},
		{name: "named file missing", files: map[string]string{"main.wasm": ok, "Donjon.toml": "[[data]]\npath = \"d\"\nguest = \"/d\""}, as: config},
		{name: "authorities are a folder", files: map[string]string{"main.wasm": ok, "ca/": "", "Donjon.toml": "[[files]]\nkind=\"connect\"\nprot=\"tls\"\nhost=\"h\"\nca=\"ca\""}, as: config},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			_, err := Load(filepath.Join(dir, c.load), c.flags)
			switch {
			case err == nil:
				t.Fatal("accepted")
			case c.is != nil && !errors.Is(err, c.is), c.as != nil && !errors.As(err, c.as):
				t.Errorf("found %T %v", err, err)
			}
		})
	}
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// A configuration that is there but cannot be read must not count as none.
func TestLoadBrokenConfigIsNotNone(t *testing.T) {
	dir := folder(t, map[string]string{"main.wasm": string(wasm)})
	if err := os.Symlink("nowhere", filepath.Join(dir, "Donjon.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Flags{}); err == nil {
		t.Error("accepted")
	}
}

// Nothing outside the folder is read, and no special file holds a load up.
func TestLoadConfinesPaths(t *testing.T) {
	conf := "[[data]]\npath = \"d\"\nguest = \"/d\""
	for name, make := range map[string]func(dir string) error{
		"link out of the folder": func(dir string) error { return os.Symlink("/etc/hostname", filepath.Join(dir, "d")) },
		"pipe":                   func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "d"), 0o600) },
		"link in a data folder": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o700), os.Symlink("../main.wasm", filepath.Join(dir, "d", "l")))
		},
		"pipe in a data folder": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o700), syscall.Mkfifo(filepath.Join(dir, "d", "p"), 0o600))
		},
	} {
		dir := folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": conf})
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, Flags{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestT16PrivateKeyIsRefused(t *testing.T) {
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	x := must(ecdh.X25519().GenerateKey(rand.Reader))
	sec1, pkcs1 := must(x509.MarshalECPrivateKey(ec)), x509.MarshalPKCS1PrivateKey(rs)
	p8 := func(k any) []byte { return must(x509.MarshalPKCS8PrivateKey(k)) }
	text := func(label string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: b}) }
	public := must(x509.MarshalPKIXPublicKey(ec.Public()))
	for _, c := range []struct {
		name string
		file []byte
		key  bool
	}{
		{"PKCS#8 EC", p8(ec), true}, {"PKCS#8 RSA", p8(rs), true}, {"PKCS#8 Ed25519", p8(ed), true}, {"PKCS#8 X25519", p8(x), true},
		{"SEC 1", sec1, true}, {"PKCS#1", pkcs1, true}, {"DER with a newline", append(p8(ed), '\n'), true},
		{"PEM", text("PRIVATE KEY", p8(ed)), true}, {"PEM EC", text("EC PRIVATE KEY", sec1), true}, {"PEM RSA", text("RSA PRIVATE KEY", pkcs1), true},
		{"PEM encrypted", text("ENCRYPTED PRIVATE KEY", []byte("x")), true}, {"OpenSSH", text("OPENSSH PRIVATE KEY", []byte("x")), true},
		{"PEM behind a certificate", append(text("CERTIFICATE", []byte("x")), text("PRIVATE KEY", []byte("x"))...), true},
		{"OpenPGP", []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n"), true}, {"PuTTY", []byte("PuTTY-User-Key-File-3: ssh-ed25519\n"), true},
		{"behind a mention", []byte("PRIVATE KEY PRIVATE KEY\n-----BEGIN PRIVATE KEY-----\n"), true},
		{"public key", public, false}, {"PEM public key", text("PUBLIC KEY", public), false}, {"certificate", text("CERTIFICATE", []byte("x")), false},
		{"a program that looks for keys", []byte(`strings.HasSuffix(label, "PRIVATE KEY") // -----END PRIVATE KEY-----`), false},
		{"empty", nil, false},
	} {
		for where, dir := range map[string]string{
			"file":   folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": "[[data]]\npath = \"d\"\nguest = \"/d\"", "d": string(c.file)}),
			"folder": folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": "[[data]]\npath = \"d\"\nguest = \"/d\"", "d/x/y": string(c.file)}),
			"ca":     folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": "[[files]]\nkind=\"connect\"\nprot=\"tls\"\nhost=\"h\"\nca=\"d\"", "d": string(c.file)}),
		} {
			_, err := Load(dir, Flags{})
			var ce *ConfigError
			if found := errors.As(err, &ce) && strings.Contains(ce.What, "private key"); found != c.key || !c.key && err != nil {
				t.Errorf("%s in a %s: found %v, wanted refused: %v", c.name, where, err, c.key)
			}
		}
	}
}

func TestArchiveForm(t *testing.T) {
	long := strings.Repeat("l", 150) + "/ü"
	fsys := fstest.MapFS{"b/x": {Data: []byte("x"), ModTime: testTime, Mode: 0o777}, "b-c": {Data: []byte("y")}, "a": {Data: nil}, long: {Data: []byte("z")}}
	b, err := Archive(fsys, "data", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		mode := int64(0o444)
		if h.Typeflag == tar.TypeDir {
			mode = 0o555
		}
		if h.Mode != mode || h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s: found %+v", h.Name, h)
		}
	}
	if want := []string{"a", "b/", "b-c", "b/x", strings.Repeat("l", 150) + "/", long}; !reflect.DeepEqual(names, want) {
		t.Errorf("found  %q\nwanted %q", names, want)
	}
	// archive/tar may change how it writes long names, and the digest must not.
	const want = "sha256:362eb396f723b332c2452e378bb41911226c274782d83ca2c5a80e10d3a6ff06"
	if d := Digest(sha256.Sum256(b)).String(); d != want {
		t.Errorf("found %s, wanted %s", d, want)
	}
	again, err := Archive(fsys, "data", 1<<20)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same folder gave other bytes (%v)", err)
	}
	for _, room := range []int{0, 100, 1024} {
		if _, err := Archive(fstest.MapFS{"a": {Data: make([]byte, 2000)}}, "data", room); err == nil {
			t.Errorf("a file of 2000 bytes was packed into %d", room)
		}
	}
}

func FuzzPrivateKey(f *testing.F) {
	for _, s := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PuTTY-User-Key-File-3: ", "\x30\x82\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		marked := append(append([]byte{}, b...), "\n-----BEGIN PRIVATE KEY-----\n"...)
		if noPrivateKey("x", marked) == nil {
			t.Errorf("a key behind %q was not found", b)
		}
		_ = noPrivateKey("x", b)
	})
}
