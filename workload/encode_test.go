package workload

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The canonical form is hashed wherever a flag changed the configuration, so it
// must not change with a new version of the TOML encoder.
func TestEncodeGolden(t *testing.T) {
	c, err := ParseConfig([]byte(full + "\n[[files]]\nkind = \"listen\"\nname = \"x\"\nprot = \"tcp\"\naddr = \"127.0.0.1\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	c.Env = map[string]string{"Z": "", "A": "it's \"quoted\"\t\x7f\\", "a b": "é\u202e"}
	c.Files[1].Evidence = true // of the listener with tls
	c.Args = []string{"", "line\nline", "'", "plain"}
	got, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "canonical.golden.toml")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("found\n%s\nwanted\n%s", got, want)
	}
	roundTrip(t, c)
}

// Map order must not reach the bytes.
func TestEncodeIsDeterministic(t *testing.T) {
	var first []byte
	for i := range 20 {
		c := Config{Env: map[string]string{}}
		for _, k := range []string{"A", "B", "C", "D", "E", "F", "G", "H"} {
			c.Env[k] = k
		}
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = b
		}
		if !bytes.Equal(b, first) {
			t.Fatalf("found %s, wanted %s", b, first)
		}
	}
}
