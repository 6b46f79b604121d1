package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/workload"
)

// command runs one command line and gives its status and what it printed.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	status = a.run(args)
	return status, out.String(), errs.String()
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConfigInit(t *testing.T) {
	dir := t.TempDir()
	if status, out, errs := command(t, "config", "init", dir); status != 0 || out != "" {
		t.Fatalf("found status %d, %q, %q", status, out, errs)
	}
	file := filepath.Join(dir, "Donjon.toml")
	if err := os.WriteFile(file, []byte("args = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errs := command(t, "config", "init", dir)
	if status != statusFailed || !strings.Contains(errs, "already exists") || !strings.Contains(errs, "hint: ") {
		t.Errorf("the second time: found status %d, %q", status, errs)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "args = []\n" {
		t.Errorf("the second time changed the file: %q, %v", b, err)
	}
	enarx := writeFiles(t, map[string]string{"Enarx.toml": ""})
	if status, _, _ := command(t, "config", "init", enarx); status != statusFailed {
		t.Errorf("beside an Enarx.toml: found status %d", status)
	}
	if _, err := os.Stat(filepath.Join(enarx, "Donjon.toml")); err == nil {
		t.Error("beside an Enarx.toml: wrote a Donjon.toml")
	}
	if status, _, _ := command(t, "config", "init", filepath.Join(dir, "nothing")); status != statusFailed {
		t.Errorf("no such folder: found status %d", status)
	}
}

// The template is valid as it is and with every setting taken out of its comment.
func TestConfigTemplate(t *testing.T) {
	c, err := workload.ParseConfig([]byte(configTemplate))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Descriptors()) != 3 || len(c.Environ()) != 2 {
		t.Errorf("found %+v, wanted stdin, stdout, stderr and nothing else", c)
	}
	var all []string
	for _, l := range strings.Split(configTemplate, "\n") {
		if !strings.HasPrefix(l, "# ") {
			l = strings.TrimPrefix(l, "#")
		}
		all = append(all, l)
	}
	c, err = workload.ParseConfig([]byte(strings.Join(all, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Files) != 7 || len(c.Roles) != 2 || len(c.Collateral) != 1 || c.Limits.Output == 0 || len(c.Data) != 1 || len(c.Scratch) != 1 || len(c.Secrets) != 2 || c.Steward == "" || len(c.Env) != 1 || len(c.TEE) != 2 || !c.DebugLog {
		t.Errorf("a setting is missing: %+v", c)
	}
}

func TestConfigCheck(t *testing.T) {
	const conf = "args = [\"\\u001b[2J\"]\n[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"tls\"\n"
	dir := writeFiles(t, map[string]string{"Donjon.toml": conf, "main.wasm": "\x00asm\x01\x00\x00\x00"})
	w, err := workload.Load(dir, workload.Flags{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, filepath.Join(dir, "Donjon.toml")} {
		status, out, errs := command(t, "config", "check", name)
		if status != 0 || errs != "" {
			t.Fatalf("%s: found status %d, %q", name, status, errs)
		}
		for _, want := range []string{w.Digest.String(), `listener "web" on [::]:443, TLS 1.3`} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: found\n%s\nwanted %q in it", name, out, want)
			}
		}
		if strings.Contains(out, "\x1b") {
			t.Errorf("T30: an escape character is printed: %q", out)
		}
	}
	status, out, _ := command(t, "config", "check", "--json", dir)
	var v configVerdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 || !v.Valid || v.Digest != w.Digest.String() || len(v.Config.Files) != 1 {
		t.Errorf("--json: found status %d, %v, %s", status, err, out)
	}
	alone := writeFiles(t, map[string]string{"Enarx.toml": ""})
	status, out, errs := command(t, "config", "check", alone)
	if status != 0 || strings.Contains(out, "sha256:") || !strings.Contains(errs, "no digest") {
		t.Errorf("without a module: found status %d, %q, %q", status, out, errs)
	}
}

func TestConfigCheckRefuses(t *testing.T) {
	wasm := "\x00asm\x01\x00\x00\x00"
	for _, c := range []struct {
		name       string
		files      map[string]string
		args       []string
		status     int
		what, hint string
	}{
		{"unknown key", map[string]string{"Donjon.toml": "\nagrs = []"}, nil, 1, `Donjon.toml:2: unknown key "agrs"`, `did you mean "args"?`},
		{"none", nil, nil, 1, "neither", "donjon config init"},
		{"both", map[string]string{"Donjon.toml": "", "Enarx.toml": ""}, nil, 1, "both", "remove"},
		{"what it names is missing", map[string]string{"main.wasm": wasm, "Donjon.toml": "[[data]]\npath = \"d\"\nguest = \"/d\""}, nil, 1, "not found", ""},
		{"T16 private key", map[string]string{"main.wasm": wasm, "Donjon.toml": "[[data]]\npath = \"d\"\nguest = \"/d\"", "d": "-----BEGIN PRIVATE KEY-----\n"}, nil, 1, "private key", "remove"},
		{"two arguments", nil, []string{"x"}, 2, "", "usage"},
		{"unknown flag", nil, []string{"--jsno"}, 2, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, c.files)
			status, out, errs := command(t, append([]string{"config", "check", dir}, c.args...)...)
			if status != c.status || out != "" || !strings.Contains(errs, c.what) || !strings.Contains(errs, c.hint) {
				t.Errorf("found status %d, %q, %q", status, out, errs)
			}
			if c.status != 1 || len(c.files) == 0 || c.name == "both" {
				return
			}
			_, out, _ = command(t, "config", "check", "--json", dir)
			var v configVerdict
			if err := json.Unmarshal([]byte(out), &v); err != nil || v.Valid || v.Error == nil || v.Error.What == "" {
				t.Errorf("--json: found %v, %q", err, out)
			}
		})
	}
}

func TestReportWorkload(t *testing.T) {
	dir := writeFiles(t, map[string]string{"Donjon.toml": "[[data]]\npath = \"d\"\nguest = \"/d\"", "main.wasm": "\x00asm\x01\x00\x00\x00", "d": "x"})
	w, err := workload.Load(dir, workload.Flags{Env: []string{"A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &bytes.Buffer{}, getenv: func(string) string { return "" }}
	if err := a.reportWorkload(w, true); err != nil {
		t.Fatal(err)
	}
	var r workloadReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Digest != w.Digest.String() || r.Text != string(w.Manifest) || r.ConfigTOML != string(w.ConfigBytes) || len(r.Layers) != 2 || r.Layers[1].What != "d" || r.Config.Env[0] != "A=b" {
		t.Errorf("found %s", out.String())
	}
	out.Reset()
	if err := a.reportWorkload(w, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{w.Digest.String(), string(w.Manifest), "data         /d, read-only, measured, from d", `env          "A=b"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("found\n%s\nwanted %q in it", out.String(), want)
		}
	}
}
