//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/donjon-tee/donjon/link"
)

// obeyed gives a rune that a terminal would obey.
func obeyed(s string) (rune, bool) {
	for _, r := range s {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return r, true
		}
	}
	return 0, false
}

// T30: whoever wrote a workload chose its names; they forge no line of inspect
// and steer no terminal.
func TestT30NamesOfAWorkload(t *testing.T) {
	const evil = `\u001b[2J\u202e\ndigest       sha256:00\u0085`
	dir := writeFiles(t, map[string]string{"main.wasm": "\x00asm\x01\x00\x00\x00",
		"Donjon.toml": `args = ["` + evil + `"]
host_args = true
[env]
"` + evil + `" = "` + evil + `"
[[files]]
kind = "listen"
name = "` + strings.ReplaceAll(evil, ":", ";") + `"
prot = "tcp"
addr = "` + evil + `"
[[files]]
kind = "connect"
prot = "tcp"
host = "` + evil + `"
[[scratch]]
guest = "/` + evil + `"
`})
	at := filepath.Join(dir, "x\x1b[2J\ndigest       sha256:11")
	if err := os.Rename(filepath.Join(dir, "main.wasm"), filepath.Join(dir, "module")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"module": "main.wasm", "Donjon.toml": "Donjon.toml"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(at, to)); err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs := command(t, "inspect", at, "--", "given\x1b[2J\nhere")
	if status != 0 {
		t.Fatalf("found %d, %q", status, errs)
	}
	if r, bad := obeyed(out); bad {
		t.Errorf("found %q in %q", r, out)
	}
	if n := strings.Count(out, "\ndigest "); n != 1 {
		t.Errorf("found %d lines that say digest, wanted 1:\n%s", n, out)
	}
	if !strings.Contains(out, `not measured argument "given\x1b[2J\nhere", given here`) || !strings.Contains(out, "host args") {
		t.Errorf("inspect does not show what the host adds:\n%s", out)
	}
	// In JSON the escapes are JSON's: the text is the same for who reads it as such.
	status, out, errs = command(t, "inspect", "--json", at)
	if status != 0 {
		t.Fatalf("found %d, %q", status, errs)
	}
	if r, bad := obeyed(out); bad {
		t.Errorf("JSON: found %q in %q", r, out)
	}
	var r workloadReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Path != at || !r.Config.HostArgs || len(r.Config.Args) != 1 || !strings.Contains(r.Config.Args[0], "\x1b[2J\u202e\n") {
		t.Errorf("JSON: found %v, %q", err, r.Path)
	}
}

// T30: what a Keep says of its end is one line, whatever it holds.
func TestT30LastWords(t *testing.T) {
	for kind := link.ExitStatus; kind <= link.ExitConfig; kind++ {
		err := outcomeError(link.Exit{Kind: kind, Status: 1, Text: "a\x1b[2J\ndonjon: ✔ genuine\u202e", Hint: "b\r\nhint: c\u2066"})
		a := &app{getenv: func(string) string { return "" }}
		var out, errs strings.Builder
		a.stdout, a.stderr = &out, &errs
		a.report(err)
		if r, bad := obeyed(errs.String()); bad || strings.Count(errs.String(), "\n") > 2 {
			t.Errorf("kind %d: found %q in %q", kind, r, errs.String())
		}
	}
}
