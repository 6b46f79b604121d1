//go:build linux

package vmbench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/keep/vm"
)

const mib = 1 << 20

// bench skips with the reason where nothing can be booted.
func bench(b *testing.B) *Bench {
	b.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Skip(err)
	}
	x, err := New(b.Context(), b.TempDir(), vm.Options{CacheDir: filepath.Join(cache, "donjon"), Offline: os.Getenv("DONJON_DOWNLOAD") == "", NoKVM: true})
	if err != nil {
		b.Fatal(err)
	}
	if _, _, err := x.prepare(b.Context(), x.off, 0); err != nil {
		b.Skipf("%v (DONJON_DOWNLOAD=1 lets a kernel be downloaded)", err)
	}
	return x
}

// cHello builds the smallest program in C that says something.
func cHello(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	src, out := filepath.Join(dir, "hello.c"), filepath.Join(dir, "hello.wasm")
	if err := os.WriteFile(src, []byte("#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	if text, err := exec.Command("clang", "--target=wasm32-wasi", "-O2", "-s", "-o", out, src).CombinedOutput(); err != nil {
		b.Skipf("no clang for wasm32-wasi: %v %s", err, text)
	}
	return out
}

// median of a few; the benchmark's own average is disturbed by one slow run.
func median[T ~int64](xs []T) T {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// BenchmarkVMBoot boots, in turn, the kernel alone and a Keep, up to its first word
// and up to a C program's first output: go test -bench VMBoot -benchtime 5x ./bench/vmbench
func BenchmarkVMBoot(b *testing.B) {
	x, hello := bench(b), cHello(b)
	wall, cpu := map[string][]time.Duration{}, map[string][]time.Duration{}
	note := func(what string, c Cost) {
		wall[what], cpu[what] = append(wall[what], c.Wall), append(cpu[what], c.CPU)
	}
	for b.Loop() {
		c, err := x.Empty(b.Context())
		if err != nil {
			b.Fatalf("empty: %v", err)
		}
		note("empty", c)
		spoke, said, memory, err := x.Hello(b.Context(), hello)
		if err != nil {
			b.Fatalf("hello: %v", err)
		}
		note("keep", spoke)
		note("hello", said)
		b.ReportMetric(float64(memory), "machine-MiB")
	}
	for _, k := range []string{"empty", "keep", "hello"} {
		w, c := wall[k], cpu[k]
		b.ReportMetric(float64(median(w).Milliseconds()), k+"-ms")
		b.ReportMetric(float64(median(c).Milliseconds()), k+"-cpu-ms")
		b.Logf("%s: wall %v to %v, processor time %v to %v", k, w[0], w[len(w)-1], c[0], c[len(c)-1])
	}
	b.ReportMetric(float64(median(wall["hello"]))/float64(median(wall["empty"])), "ratio")
	b.ReportMetric(float64(median(cpu["hello"]))/float64(median(cpu["empty"])), "cpu-ratio")
}

// BenchmarkVMLink moves 100 MiB each way over the raw port and over the link:
// go test -bench VMLink -benchtime 5x ./bench/vmbench
func BenchmarkVMLink(b *testing.B) {
	x := bench(b)
	const n = 100 * mib
	rates := map[string][]time.Duration{}
	for b.Loop() {
		for name, f := range map[string]func(context.Context, int64) (Rate, error){"raw": x.Raw, "link": x.Link} {
			r, err := f(b.Context(), n)
			if err != nil {
				b.Fatalf("%s: %v", name, err)
			}
			rates[name+"-in"], rates[name+"-out"] = append(rates[name+"-in"], r.In), append(rates[name+"-out"], r.Out)
		}
	}
	for _, way := range []string{"in", "out"} {
		for _, name := range []string{"raw", "link"} {
			d := median(rates[name+"-"+way])
			b.ReportMetric(n/mib/d.Seconds(), fmt.Sprintf("%s-%s-MiB/s", name, way))
		}
		b.ReportMetric(float64(median(rates["raw-"+way]))/float64(median(rates["link-"+way])), way+"-ratio")
	}
}
