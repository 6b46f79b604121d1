//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A bench is one Go benchmark of a package's test binary.
type bench struct{ pkg, name, what string }

// benched is one run of a bench: time and allocations for each verification.
type benched struct {
	ns, bytes, allocs float64
}

// verifyRow measures the verifier beside go-sev-guest, go-tdx-guest and the bare
// signatures that bound it: benchmarks of the packages' own tests, each round running
// each of them once, on one processor and on two; and whole processes.
func verifyRow(ctx context.Context, e *env) (report, error) {
	evidence := os.Getenv("DONJON_EVIDENCE")
	if evidence == "" {
		evidence = filepath.Join(e.root, "..", "shared", "evidence")
	}
	quote := filepath.Join(evidence, "tdx", "quote-v4.bin")
	if _, err := os.Stat(quote); err != nil {
		return report{}, fmt.Errorf("no published evidence (docs/testing.md): %w", err)
	}
	benches := []bench{
		{"snp", "Full", "SNP, everything, new VCEK each time"},
		{"snp", "FullGoSEVGuest", "the same, go-sev-guest"},
		{"snp", "Cached", "SNP, chain remembered"},
		{"snp", "P384", "one bare P-384 verification"},
		{"dcap", "TDXFull", "TDX, everything"},
		{"dcap", "TDXFullGoTDXGuest", "the same, go-tdx-guest"},
		{"dcap", "SGXFull", "SGX, everything"},
		{"dcap", "TDXCached", "TDX, chain and collateral remembered"},
		{"dcap", "SGXCached", "SGX, chain and collateral remembered"},
		{"dcap", "TwoP256", "two bare P-256 verifications"},
		{"dcap", "TDXKnownMachine", "TDX, quoting enclave remembered too"},
	}
	for _, p := range []string{"snp", "dcap"} {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", e.guest(p+".test"), "./attest/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return report{}, fmt.Errorf("%s: %w\n%s", p, err, out)
		}
	}
	one, two := map[string]series{}, map[string]series{}
	last := map[string]benched{}
	for range e.rounds {
		for _, b := range benches {
			for cpus, to := range map[int]map[string]series{1: one, 2: two} {
				got, err := e.bench(ctx, b, cpus, evidence)
				if err != nil {
					return report{}, err
				}
				to[b.name] = append(to[b.name], got.ns/1e3)
				last[b.name] = got
			}
		}
	}
	t := table{caption: "Time for each verification, microseconds; two processors: wall time divided by verifications.",
		head: []string{"what", "one processor", "two processors", "bytes", "allocations"}}
	for _, b := range benches {
		t.add(b.what, one[b.name].spread(""), two[b.name].spread(""), digits(last[b.name].bytes), digits(last[b.name].allocs))
	}
	cold, err := e.coldVerify(ctx, quote, evidence)
	if err != nil {
		return report{}, err
	}
	whole := table{head: []string{"whole process", "runs", "wall, ms: median (least–greatest)"}}
	whole.add("donjon verify, TDX quote with its collateral in one file", fmt.Sprint(e.runs), cold.spread(""))
	r := report{tables: []table{t, whole}}
	r.bars = []bar{
		{what: "SNP, everything, new VCEK each time: speed, ratio to go-sev-guest", got: one["FullGoSEVGuest"].per(one["Full"]), limit: 1.4, atLeast: true},
		{what: "SNP, chain remembered: time, ratio to one P-384 verification", got: one["Cached"].per(one["P384"]), limit: 1.1},
		{what: "TDX, everything: speed, ratio to go-tdx-guest", got: one["TDXFullGoTDXGuest"].per(one["TDXFull"]), limit: 1.5, atLeast: true},
		{what: "TDX, chain and collateral remembered: time, ratio to two P-256 verifications", got: one["TDXCached"].per(one["TwoP256"]), limit: 1.15},
		{what: "SGX, chain and collateral remembered: time, ratio to two P-256 verifications", got: one["SGXCached"].per(one["TwoP256"]), limit: 1.15},
		{what: "SNP, everything: two processors, ratio to one", got: one["Full"].per(two["Full"]), limit: 1.8, atLeast: true},
		{what: "TDX, everything: two processors, ratio to one", got: one["TDXFull"].per(two["TDXFull"]), limit: 1.8, atLeast: true},
		{what: "TDX, remembered: two processors, ratio to one", got: one["TDXCached"].per(two["TDXCached"]), limit: 1.8, atLeast: true},
		{what: "donjon verify, cold: wall", got: cold, unit: " ms", limit: 40},
	}
	return r, nil
}

// bench runs one benchmark once.
func (e *env) bench(ctx context.Context, b bench, cpus int, evidence string) (benched, error) {
	cmd := exec.CommandContext(ctx, e.guest(b.pkg+".test"), "-test.run", "xxx", "-test.bench", "^Benchmark"+b.name+"$",
		"-test.cpu", strconv.Itoa(cpus), "-test.benchtime", strconv.Itoa(int(e.time.Milliseconds()/4))+"ms", "-test.benchmem")
	cmd.Dir = filepath.Join(e.root, "attest", b.pkg)
	cmd.Env = append(os.Environ(), "DONJON_EVIDENCE="+evidence)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return benched{}, fmt.Errorf("%s: %w\n%.500s", b.name, err, out)
	}
	var got benched
	for l := range strings.Lines(string(out)) {
		f := strings.Fields(l)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark"+b.name) {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return got, fmt.Errorf("%s: %q: %w", b.name, l, err)
			}
			switch f[i+1] {
			case "ns/op":
				got.ns = v
			case "B/op":
				got.bytes = v
			case "allocs/op":
				got.allocs = v
			}
		}
	}
	if got.ns == 0 {
		return got, fmt.Errorf("%s: no figure in %.300q", b.name, out)
	}
	return got, nil
}

// coldVerify runs the command itself: nothing is remembered from another run.
func (e *env) coldVerify(ctx context.Context, quote, evidence string) (series, error) {
	p := program{name: "donjon verify", want: "genuine", command: func(int) *exec.Cmd {
		c := exec.Command(e.bin, "verify", "-q", "--platform-only", "--at", "2025-06-20T12:00:00Z",
			"--collateral", filepath.Join(evidence, "tdx", "quote-v4.collateral.json"), quote)
		c.Env = e.environ(e.warm())
		return c
	}}
	var s series
	for round := range e.runs {
		got, err := p.run(ctx, round)
		if err != nil {
			return nil, err
		}
		s = append(s, ms(got.wall))
	}
	return s, nil
}
