//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// wazeroCommand is the peer of start-up and compute: the version of go.mod.
const wazeroCommand = "github.com/tetratelabs/wazero/cmd/wazero@v1.12.0"

// prepare builds everything that is measured, and a folder for what is thrown
// away.
func (e *env) prepare(ctx context.Context) error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(wd, "go.mod")); err != nil {
		return fmt.Errorf("run this in the repository's root: %w", err)
	}
	e.root, e.out = wd, filepath.Join(wd, "out", "bench")
	e.bin, e.wazero = filepath.Join(wd, "bin", "donjon"), filepath.Join(e.out, "wazero")
	if err := os.MkdirAll(e.out, 0o755); err != nil {
		return err
	}
	e.say("building …")
	for _, c := range [][]string{
		{"make", "--no-print-directory", "build", "bench-guests"},
		{"make", "--no-print-directory", "-C", "examples", "hello"},
		{"go", "build", "-trimpath", "-o", e.guest("oneprocess"), "./bench/oneprocess"},
		{"go", "build", "-trimpath", "-o", e.guest("native"), "./bench/native"},
		{"go", "build", "-trimpath", "-o", e.guest("attested"), "./bench/attested"},
		{"go", "install", "-trimpath", wazeroCommand},
	} {
		cmd := exec.CommandContext(ctx, c[0], c[1:]...)
		cmd.Env = append(os.Environ(), "GOBIN="+e.out, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", c, err, out)
		}
	}
	e.scratch, err = os.MkdirTemp("", "donjon-bench-")
	return err
}

// environ is that of a donjon whose caches are the benchmark's own.
func (e *env) environ(cache string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.scratch, "XDG_CACHE_HOME=" + cache, "XDG_STATE_HOME=" + filepath.Join(e.out, "state")}
}

func (e *env) warm() string { return filepath.Join(e.out, "cache") }
