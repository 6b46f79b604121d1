//go:build linux

package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	s := series{3, 1, 2, 10}
	if got := s.median(); got != 2.5 {
		t.Errorf("median: found %v, wanted 2.5", got)
	}
	if got := (series{3, 1, 2}).median(); got != 2 {
		t.Errorf("median: found %v, wanted 2", got)
	}
	if got := s.mean(); got != 4 {
		t.Errorf("mean: found %v, wanted 4", got)
	}
	if got := s.spread(" ms"); got != "2.50 ms (1.00–10.0)" {
		t.Errorf("spread: found %q", got)
	}
	if got := (series{10, 20, 30}).per(series{5, 5, 10}); got.median() != 3 || len(got) != 3 || got[1] != 4 {
		t.Errorf("per: found %v", got)
	}
	var hundred series
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	if got := hundred.quantile(0.99); got != 100 {
		t.Errorf("99th of a hundred: found %v, wanted 100", got)
	}
	if got := hundred.quantile(0.5); got != 51 {
		t.Errorf("50th of a hundred: found %v, wanted 51", got)
	}
}

// A bar that nothing was found for is not met, whichever way it points.
func TestBar(t *testing.T) {
	for _, tt := range []struct {
		bar  bar
		met  bool
		want string
	}{
		{bar{got: series{1, 1.4, 9}, limit: 1.5}, true, "≤ 1.5"},
		{bar{got: series{1, 1.6, 1.7}, limit: 1.5, unit: " ms"}, false, "≤ 1.5 ms"},
		{bar{got: series{0.5, 0.96}, limit: 0.7, atLeast: true}, true, "≥ 0.7"},
		{bar{got: series{0.6, 0.7}, limit: 0.7, atLeast: true}, false, "≥ 0.7"},
		{bar{limit: 25}, false, "≤ 25"},
		{bar{limit: 700, atLeast: true}, false, "≥ 700"},
	} {
		if tt.bar.met() != tt.met || tt.bar.wanted() != tt.want {
			t.Errorf("%+v: found %v, %q, wanted %v, %q", tt.bar, tt.bar.met(), tt.bar.wanted(), tt.met, tt.want)
		}
	}
}

// Beside other programs nothing is said to be met, and what is not met stays so.
func TestDisturbed(t *testing.T) {
	quiet, busy := machine{others: 0.01}, machine{others: 0.3}
	r := report{bars: []bar{{what: "good", got: series{1}, limit: 2}, {what: "bad", got: series{3}, limit: 2}}}
	if got := r.section(quiet); !strings.Contains(got, "| yes |") || strings.Contains(got, "isturbed") {
		t.Errorf("quiet: found\n%s", got)
	}
	if got := r.section(busy); strings.Contains(got, "| yes |") || !strings.Contains(got, "**Disturbed**") || strings.Count(got, "**no**") != 1 {
		t.Errorf("disturbed: found\n%s", got)
	}
	if got := strings.Join(r.summary("http", true), "\n"); strings.Contains(got, "| yes |") || !strings.Contains(got, "**no**") {
		t.Errorf("disturbed: found\n%s", got)
	}
	at := time.Now()
	from := clock{at: at}
	to := clock{at: at.Add(10 * time.Second), all: 11 * time.Second, own: 10 * time.Second}
	if got := others(from, to, 2); got != 0.05 {
		t.Errorf("others: found %v, wanted 0.05", got)
	}
	if c, ok := readClock(); !ok || c.all <= 0 || c.own <= 0 {
		t.Errorf("this machine: found %+v, %v", c, ok)
	}
}

// A row that is measured again replaces its own figures and no others.
func TestSplice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	const start = "words\n<!-- begin summary -->\n<!-- end summary -->\n<!-- begin http -->\n<!-- end http -->\nmore\n<!-- begin echo -->\n<!-- end echo -->\n"
	if err := os.WriteFile(file, []byte(start), 0o600); err != nil {
		t.Fatal(err)
	}
	put := func(name string, v float64) {
		t.Helper()
		r := report{bars: []bar{{what: "a bar", got: series{v}, limit: 1.5}}}
		if err := splice(file, name, r.section(machine{model: "a machine"}), r.summary(name, false)); err != nil {
			t.Fatal(err)
		}
	}
	put("echo", 7)
	put("http", 1)
	put("echo", 2)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	_, summary, _ := strings.Cut(doc, "begin summary")
	summary, _, _ = strings.Cut(summary, "end summary")
	const want = "| http | a bar | 1.00 (1.00–1.00) | ≤ 1.5 | yes |\n| echo | a bar | 2.00 (2.00–2.00) | ≤ 1.5 | **no** |\n"
	if !strings.Contains(summary, want) || strings.Contains(doc, "7.00") || !strings.HasPrefix(doc, "words\n") || !strings.Contains(doc, "\nmore\n") {
		t.Errorf("found\n%s\nwanted a summary with\n%s", doc, want)
	}
	if strings.Count(doc, "a machine") != 2 {
		t.Errorf("found\n%s\nwanted two sections", doc)
	}
	if err := splice(file, "memory", "", nil); err == nil || !strings.Contains(err.Error(), "begin memory") {
		t.Errorf("a document without marks: found %v", err)
	}
}

// Every row has its place in the document.
func TestDocumentHasAllRows(t *testing.T) {
	b, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{summaryMark}, rowNames()...) {
		if _, _, err := replace(string(b), name, func(old string) string { return old }); err != nil {
			t.Error(err)
		}
	}
}

func TestBenchmarkMetrics(t *testing.T) {
	m := benchmarkMetrics("goos: linux\nBenchmarkVMBoot\n    vmbench_test.go:1: hello: wall 9 ms\n" +
		"BenchmarkVMBoot-2 \t 1\t 9000 ns/op\t 1200 empty-ms\t 1.25 ratio\nBenchmarkVMBoot-2 1 9000 ns/op 1300 empty-ms 1.5 ratio\nPASS\n")
	if len(m["empty-ms"]) != 2 || m["ratio"].median() != 1.375 {
		t.Errorf("found %v", m)
	}
}

// The processor time of a process counts what it used and not that it waits, and
// the tree has a child's child.
func TestProcesses(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	var pids []int
	defer func() {
		for _, p := range pids {
			if q, err := os.FindProcess(p); err == nil {
				_ = q.Kill()
			}
		}
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if pids = tree(cmd.Process.Pid); len(pids) != 2 {
		t.Fatalf("found the processes %v, wanted a shell and its sleep", pids)
	}
	used, err := cpuTimes(pids)
	if err != nil || used[0] < time.Millisecond || used[1] > used[0] {
		t.Errorf("processor time: found %v, %v", used, err)
	}
	if n, err := pss(pids[0]); err == nil && n < 1<<10 {
		t.Errorf("memory of a shell: found %d bytes", n)
	}
}

// An answer that is not the guest's is an error, not a fast request.
func TestGetHTTP(t *testing.T) {
	for _, tt := range []struct {
		pieces []string
		ok     bool
	}{
		{[]string{"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + answer}, true},
		{[]string{"HTTP/1.1 200 OK\r\nContent-Le", "ngth: 18\r\n\r", "\nhello from", " a Keep\n"}, true},
		{[]string{"HTTP/1.1 503 Busy\r\nContent-Length: 18\r\n\r\n" + answer}, false},
		{[]string{"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + "hello from a Wolf\n"}, false},
		{[]string{"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + answer}, false},
		{[]string{"HTTP/1.1 200 OK\r\n\r\n" + answer}, false},
		{[]string{"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\nhello"}, false},
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Read(make([]byte, 1024))
			for _, p := range tt.pieces {
				_, _ = io.WriteString(theirs, p)
			}
			_ = theirs.Close()
		}()
		if err := getHTTP(ours, make([]byte, 1024)); (err == nil) != tt.ok {
			t.Errorf("%q: found %v", tt.pieces, err)
		}
		_ = ours.Close()
	}
}

func TestWrongFlags(t *testing.T) {
	for _, args := range [][]string{{"-rows", "speed"}, {"-rounds", "0"}, {"-runs", "-1"}, {"-time", "0s"}, {"http"}, {"-nothing"}} {
		if err := run(context.Background(), args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
