//go:build linux

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/workload"
)

func TestInspectWorkload(t *testing.T) {
	dir := writeFiles(t, map[string]string{"main.wasm": "\x00asm\x01\x00\x00\x00", "Donjon.toml": "args = [\"a\"]\n"})
	module := filepath.Join(dir, "main.wasm")
	for _, c := range []struct {
		name string
		args []string
		load string
		want workload.Flags
	}{
		{"folder", []string{dir}, dir, workload.Flags{}},
		{"module", []string{module}, module, workload.Flags{}},
		{"T06 arguments and environment", []string{"--env", "A=1", dir, "--", "x", "--env"}, dir, workload.Flags{Args: []string{"x", "--env"}, Env: []string{"A=1"}}},
		{"no arguments", []string{dir, "--"}, dir, workload.Flags{Args: []string{}}},
		{"limits", []string{"--memory", "1MiB", "--cpu-time", "2s", "--wall-time", "3s", "--output", "4MiB", dir}, dir, workload.Flags{Memory: "1MiB", CPUTime: "2s", WallTime: "3s", Output: "4MiB"}},
		{"configuration", []string{"--config", filepath.Join(dir, "Donjon.toml"), module}, dir, workload.Flags{}},
		{"host folder", []string{"--dir", "/nowhere::/w", dir}, dir, workload.Flags{HostDirs: []string{"/w"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := workload.Load(c.load, c.want)
			if err != nil {
				t.Fatal(err)
			}
			status, out, errs := command(t, append([]string{"inspect"}, c.args...)...)
			if status != 0 || errs != "" || !strings.Contains(out, "digest       "+w.Digest.String()+"\n") {
				t.Errorf("found status %d, %q\n%s\nwanted %s", status, errs, out, w.Digest)
			}
		})
	}
}

func TestInspectRefuses(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := writeFiles(t, map[string]string{"main.wasm": "\x00asm\x01\x00\x00\x00", "junk": "junk", "bad.toml": "x = 1"})
	at := func(n string) string { return filepath.Join(dir, n) }
	for _, c := range []struct {
		name   string
		args   []string
		status int
	}{
		{"nothing given", nil, statusUsage},
		{"two", []string{dir, dir}, statusUsage},
		{"not there", []string{at("none")}, statusFailed},
		{"no evidence", []string{at("junk")}, statusNotGenuine},
		{"a workload's flags with evidence", []string{"--env", "A=1", at("junk")}, statusUsage},
		{"arguments with evidence", []string{at("junk"), "--"}, statusUsage},
		{"evidence's flags with a workload", []string{"--nonce", "0011223344556677", dir}, statusUsage},
		{"bad --dir", []string{"--dir", "x", dir}, statusUsage},
		{"bad --env", []string{"--env", "x", dir}, statusUsage},
		{"bad configuration", []string{"--config", at("bad.toml"), at("main.wasm")}, statusFailed},
	} {
		if status, out, errs := command(t, append([]string{"inspect"}, c.args...)...); status != c.status || out != "" || errs == "" {
			t.Errorf("%s: found status %d, %q, %q, wanted %d", c.name, status, out, errs, c.status)
		}
	}
}
