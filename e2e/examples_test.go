//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// The examples as their READMEs show them, each in a Keep.
func TestExamples(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(b.dir, "examples")
	built := exec.Command("make", "-C", "../examples", "OUT="+out)
	if log, err := built.CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, log)
	}
	t.Run("hello", func(t *testing.T) {
		status, stdout, stderr := b.run(t, b.command("run", "-q", filepath.Join(out, "hello"), "--env", "COLOUR=blue", "--", "Ada"))
		if status != 0 || !strings.Contains(stdout, "Ada") || !strings.Contains(stdout, "COLOUR=blue") {
			t.Errorf("found status %d, %q, %q", status, stdout, stderr)
		}
	})
	t.Run("cfile", func(t *testing.T) {
		dir := filepath.Join(out, "cfile")
		if _, err := os.Stat(filepath.Join(dir, "main.wasm")); err != nil {
			t.Skip("no clang for wasm32-wasi (apt-get install clang lld wasi-libc libclang-rt-dev-wasm32)")
		}
		status, stdout, stderr := b.run(t, b.command("run", "-q", dir))
		if status != 0 {
			t.Fatalf("found status %d, %q", status, stderr)
		}
		for _, name := range []string{"keep.txt", "wall.txt"} { // counted here in another way
			text, err := os.ReadFile(filepath.Join("../examples/cfile/data", name))
			if err != nil {
				t.Fatal(err)
			}
			words := strconv.Itoa(len(strings.FieldsFunc(string(text), func(r rune) bool { return !unicode.IsLetter(r) })))
			found := false
			for line := range strings.Lines(stdout) {
				found = found || strings.Contains(line, name) && strings.Contains(line, words)
			}
			if !found {
				t.Errorf("found %q, wanted %s words of %s", stdout, words, name)
			}
		}
	})
	t.Run("analytics, 50 MB on stdin", func(t *testing.T) {
		sales := filepath.Join(b.dir, "sales.csv")
		generate(t, sales)
		in, err := os.Open(sales)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		c := b.command("run", "-q", filepath.Join(out, "analytics"))
		c.Stdin = in
		status, stdout, stderr := b.run(t, c)
		if status != 0 {
			t.Fatalf("found status %d, %q", status, stderr)
		}
		if want := totals(t, sales); !strings.Contains(stdout, want) {
			t.Errorf("found %q, wanted the totals %q", stdout, want)
		}
		if n := strings.Count(stdout, "\n"); n != 1+7*12+1 {
			t.Errorf("found %d lines, wanted a header, one for each of 7 regions by 12 products, and a total", n)
		}
	})
	t.Run("tlsserver", func(t *testing.T) {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		c := b.command("run", "-q", "--bind", "web=127.0.0.1:"+port, filepath.Join(out, "tlsserver"))
		var errs bytes.Buffer
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// The certificate is self-signed: the README says --insecure.
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		var body string
		until(t, "an answer", func() bool {
			r, err := client.Get("https://127.0.0.1:" + port + "/")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			text, err := io.ReadAll(r.Body)
			body = string(text)
			return err == nil && r.StatusCode == 200 && r.TLS.Version == tls.VersionTLS13
		})
		if body == "" {
			t.Error("an empty answer")
		}
		_ = c.Process.Signal(unix.SIGTERM)
		if status := b.wait(t, c); status != 143 {
			t.Errorf("found status %d, %q", status, errs.String())
		}
	})
	b.clean(t)
}

func generate(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := exec.Command("go", "run", "../examples/analytics/generate")
	c.Stdout = f
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() < 50_000_000 {
		t.Fatalf("found %v, %v, wanted 50 MB", info, err)
	}
}

// totals sums the sales up by splitting lines: rows, quantity, revenue.
func totals(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows, quantity, revenue int
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if f[0] == "day" {
			continue
		}
		n, err1 := strconv.Atoi(f[3])
		price, err2 := strconv.Atoi(f[4])
		if err1 != nil || err2 != nil {
			t.Fatalf("a line %q", line)
		}
		rows, quantity, revenue = rows+1, quantity+n, revenue+n*price
	}
	return fmt.Sprintf("all,all,%d,%d,%d.%02d,", rows, quantity, revenue/100, revenue%100)
}
