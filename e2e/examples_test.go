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
	"sync"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
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
	t.Run("two-owners", func(t *testing.T) { twoOwners(t, b, out) })
	b.clean(t)
}

// twoOwners is the README's story: policies for this machine, two Keeps that verify each
// other, and each owner's data over an attested connection. Then what must be refused.
func twoOwners(t *testing.T, b *bench, out string) {
	dir := filepath.Join(out, "two-owners")
	sh := exec.Command("sh", filepath.Join(dir, "policies.sh"), dir, filepath.Join(out, "hello"))
	sh.Env = append(b.command("version").Env, "DONJON="+b.command("version").Path)
	if log, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("policies.sh: %v\n%s", err, log)
	}
	ports := map[string]string{"9441": "", "9442": "", "9444": ""}
	conf, err := os.ReadFile(filepath.Join(dir, "Donjon.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for p := range ports { // another test may have those
		if ports[p], err = freePort(); err != nil {
			t.Fatal(err)
		}
		conf = bytes.ReplaceAll(conf, []byte(p), []byte(ports[p]))
	}
	if err := os.WriteFile(filepath.Join(dir, "Donjon.toml"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	up := func(port string) bool {
		c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	var errs [2]bytes.Buffer
	var keeps [2]*exec.Cmd
	for i, role := range []string{"bob", "alice"} { // bob first: alice connects to him
		keeps[i] = b.command("run", "--tee", "sim", "--role", role, dir)
		keeps[i].Stderr = &errs[i]
		if err := keeps[i].Start(); err != nil {
			t.Fatal(err)
		}
		until(t, role, func() bool { return up(ports[[]string{"9442", "9441"}[i]]) })
	}
	lists := [2]string{}
	for i := range 50 {
		if i < 30 {
			lists[1] += fmt.Sprintf("c%03d,101\n", i)
		}
		if i >= 10 {
			lists[0] += fmt.Sprintf("c%03d,7\n", i)
		}
	}
	const want = "customers in common: 20\nspent by them, both together: 21.60\n"
	var all sync.WaitGroup
	for i, port := range []string{ports["9442"], ports["9441"]} {
		all.Go(func() {
			_, text, log := b.run(t, b.command("policy", "init", "--from-keep", "127.0.0.1:"+port))
			p, err := policy.Parse([]byte(text))
			if err != nil {
				t.Errorf("policy init: %v\n%s", err, log)
				return
			}
			d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialTLSContext: d.DialContext}}
			r, err := client.Post("https://127.0.0.1:"+port+"/", "text/csv", strings.NewReader(lists[i]))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if got, err := io.ReadAll(r.Body); string(got) != want || err != nil {
				t.Errorf("found %q, %v", got, err)
			}
			if r, err := client.Post("https://127.0.0.1:"+port+"/", "text/csv", strings.NewReader("x,1\n")); err != nil || r.StatusCode != http.StatusConflict {
				t.Errorf("a second list: found %v, %v", r, err)
			}
		})
	}
	all.Wait()
	// One byte of the program's configuration changed by the host: another workload.
	changed := filepath.Join(out, "changed")
	if err := os.CopyFS(changed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(changed, "Donjon.toml"), append(conf, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, log := b.run(t, b.command("run", "-q", "--tee", "sim", "--bind", "owner=127.0.0.1:0", "--role", "alice", changed))
	if status != 125 || !strings.Contains(log, "check workload failed") {
		t.Errorf("one byte changed: found status %d, %q", status, log)
	}
	for i, k := range keeps {
		_ = k.Process.Signal(unix.SIGTERM)
		if status := b.wait(t, k); status != 143 {
			t.Errorf("found status %d, %q", status, errs[i].String())
		}
	}
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
