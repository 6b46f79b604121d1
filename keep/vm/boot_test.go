//go:build linux

package vm

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/image"
	"github.com/donjon-tee/donjon/keep"
)

// bootable gives a specification with the stand-in init, or skips with the reason
// why this machine cannot boot one.
func bootable(t *testing.T, arch string, ldflags ...string) (keep.Spec, Options) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a virtual machine: not with -short")
	}
	ts := targets(arch)
	if _, _, err := chooseTarget(ts); err != nil {
		t.Skip(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	o := Options{CacheDir: filepath.Join(cache, "donjon"), Offline: os.Getenv("DONJON_DOWNLOAD") == "", NoKVM: true}
	if _, err := (image.Finder{CacheDir: o.CacheDir, Offline: o.Offline}).Kernel(context.Background(), arch, ""); err != nil {
		t.Skipf("%v (DONJON_DOWNLOAD=1 lets this test download one)", err)
	}
	program := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w "+strings.Join(ldflags, " "), "-o", program, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the stand-in init: %v\n%s", err, out)
	}
	return keep.Spec{Arch: arch, KeepProgram: program, Progress: func(s string) { t.Log(s) }}, o
}

func TestBoot(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64", "ppc64le"} {
		t.Run(arch, func(t *testing.T) {
			spec, o := bootable(t, arch)
			began := time.Now()
			m, err := Launch(t.Context(), spec, o)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Kill()
			t.Logf("first byte after %v", time.Since(began).Round(time.Millisecond))
			b := make([]byte, 16)
			if _, err := io.ReadFull(m.Link(), b); err != nil || string(b[:8]) != "DONJON-K" {
				t.Fatalf("hello: found %q, %v", b, err)
			}
			if _, err := m.Link().Write([]byte("12345678")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(m.Link(), b[:8]); err != nil || string(b[:8]) != "12345678" {
				t.Fatalf("echo: found %q, %v", b[:8], err)
			}
			if m.Measurement() == [48]byte{} {
				t.Error("no measurement")
			}
			// The guest ends by itself once the link is gone.
			if err := m.Link().Close(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- m.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("end: %v\n%s", err, strings.Join(m.Console(), "\n"))
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("the machine still runs 20 s after its link was closed:\n%s", strings.Join(m.Console(), "\n"))
			}
		})
	}
}

func TestBootFailsAtAStage(t *testing.T) {
	spec, o := bootable(t, runtime.GOARCH)
	t.Run("start", func(t *testing.T) {
		p, err := Prepare(t.Context(), spec, o)
		if err != nil {
			t.Fatal(err)
		}
		p.target.tcg = "no-such-processor"
		wantStage(t, p, spec, o, "start")
	})
	t.Run("kernel", func(t *testing.T) {
		p, err := Prepare(t.Context(), spec, o)
		if err != nil {
			t.Fatal(err)
		}
		o := o
		o.Times.Kernel = time.Millisecond
		wantStage(t, p, spec, o, "kernel")
	})
	t.Run("init", func(t *testing.T) {
		p, err := Prepare(t.Context(), spec, o)
		if err != nil {
			t.Fatal(err)
		}
		p.initrd = append([]byte(nil), p.initrd...)
		p.initrd = []byte(strings.Replace(string(p.initrd), "donjon.link", "donjon.lunk", -1))
		o := o
		o.Times.Init = 2 * time.Second
		wantStage(t, p, spec, o, "init")
	})
	t.Run("link", func(t *testing.T) {
		spec, o := bootable(t, runtime.GOARCH, "-X", "main.mute=yes")
		p, err := Prepare(t.Context(), spec, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Times.Link = 2 * time.Second
		wantStage(t, p, spec, o, "link")
	})
}

func wantStage(t *testing.T, p *Plan, spec keep.Spec, o Options, want string) {
	t.Helper()
	m, err := p.Launch(t.Context(), spec, o)
	if err == nil {
		_ = m.Kill()
		t.Fatal("it booted")
	}
	var stage *StageError
	if !errors.As(err, &stage) || stage.Stage != want {
		t.Fatalf("found %v, wanted a failure at stage %s", err, want)
	}
	t.Log(err)
}

func TestKill(t *testing.T) {
	spec, o := bootable(t, runtime.GOARCH)
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Launch(ctx, spec, o)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := m.Wait(); err == nil {
		t.Error("a killed machine ended without an error")
	}
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
}
