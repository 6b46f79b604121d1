package platform

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// The real host, whatever it is: the probes must agree with one another and with
// the kernel.
func TestRealHost(t *testing.T) {
	h := NewHost("vm", "sim")
	r := Probe(context.Background(), h)
	if r.System.Arch != runtime.GOARCH || r.System.Kernel == "" {
		t.Errorf("found %+v", r.System)
	}
	p := &prober{h: h}
	if runtime.GOARCH == "amd64" {
		if v := p.cpuinfo("vendor_id"); v != "" && v != p.vendor() {
			t.Errorf("CPUID says %q, /proc/cpuinfo %q", p.vendor(), v)
		}
		if v := p.cpuinfo("model name"); v != "" && v != p.brand() {
			t.Errorf("CPUID says %q, /proc/cpuinfo %q", p.brand(), v)
		}
		family, model, stepping, ok := p.signature()
		if f, m, s := p.cpuinfo("cpu family"), p.cpuinfo("model"), p.cpuinfo("stepping"); ok && f != "" {
			if got := []string{itoa(family), itoa(model), itoa(stepping)}; got[0] != f || got[1] != m || got[2] != s {
				t.Errorf("CPUID says %v, /proc/cpuinfo %s %s %s", got, f, m, s)
			}
		}
	}
	for _, b := range r.Backends {
		if b.TEE && b.Ready {
			t.Errorf("%s is ready in a build that cannot launch it", b.Name)
		}
	}
}

func TestAccess(t *testing.T) {
	if err := access("/dev/null", Read|Write); err != nil {
		t.Error(err)
	}
	if err := access("/dev/none", Read); err == nil {
		t.Error("a device that is not there opens")
	}
}

func TestRunIsBounded(t *testing.T) {
	out := &limited{left: 10}
	n, err := out.Write([]byte(strings.Repeat("x", 100)))
	if n != 100 || err != nil || out.Len() != 10 {
		t.Errorf("found %d, %v, %d kept", n, err, out.Len())
	}
	if _, err := run(t.Context(), "/none"); err == nil {
		t.Error("a program that is not there runs")
	}
}

func itoa(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
