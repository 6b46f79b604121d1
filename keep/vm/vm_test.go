package vm

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestConsoleStagesAndBounds(t *testing.T) {
	c := newConsole()
	closed := func(s string) bool {
		select {
		case <-c.reached(s):
			return true
		default:
			return false
		}
	}
	fmt.Fprint(c, "qemu-system-x86_64: warning\n")
	if c.spoke() {
		t.Error("QEMU's own line was taken for the guest's")
	}
	fmt.Fprint(c, "[ 0.1] noise donjon-keep: sta")
	fmt.Fprint(c, "ge init\r\ndonjon-keep: stage link")
	if !closed("init") || closed("link") {
		t.Errorf("init %v, link %v; wanted true, false: its line is not whole", closed("init"), closed("link"))
	}
	fmt.Fprint(c, "\ndonjon-keep: stage link\ndonjon-keep: stage other\n")
	if !closed("link") {
		t.Error("link was not seen")
	}
	// A guest that floods the console fills nothing (THREATS T28).
	for range 1000 {
		fmt.Fprint(c, strings.Repeat("x", 1<<10))
	}
	if len(c.tail) > consoleBytes || len(c.line) > lineBytes || cap(c.tail) > 8*consoleBytes {
		t.Errorf("found %d (room %d) and %d bytes kept, wanted at most %d and %d", len(c.tail), cap(c.tail), len(c.line), consoleBytes, lineBytes)
	}
	fmt.Fprint(c, strings.Repeat("\nline", 100))
	if l := c.lines(); len(l) != consoleLines {
		t.Errorf("found %d lines, wanted %d", len(l), consoleLines)
	}
}

func TestConsoleEndsWithThePanic(t *testing.T) {
	c := newConsole()
	fmt.Fprint(c, "donjon-keep: no link\r\n[ 1.0] Kernel panic - not syncing: Attempted to kill init!\r\n", strings.Repeat("[ 1.1] RAX: 0\r\n", 30))
	l := c.lines()
	if len(l) != 2 || l[0] != "donjon-keep: no link" || !strings.HasSuffix(l[1], "kill init!") {
		t.Errorf("found %q, wanted the program's line and the panic's", l)
	}
}

func TestTSC(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       uint64
	}{
		{"a guest's processor", "model name\t: AMD EPYC\ncpu MHz\t\t: 2596.130\nflags\t\t: fpu hypervisor x\n\n", 2596130},
		{"hardware, scaled down", "model name\t: Intel(R) Xeon(R) CPU @ 2.60GHz\ncpu MHz\t\t: 1200.000\nflags\t\t: fpu\n\n", 2600000},
		{"hardware, no nominal rate", "model name\t: AMD EPYC 7543\ncpu MHz\t\t: 2800.000\nflags\t\t: fpu\n", 2800000},
		{"nothing", "", 0},
		{"nonsense", "cpu MHz : 1e99\n", 0},
		{"not a number", "cpu MHz : NaN\n", 0},
	} {
		if got := tscKHz(c.text); got != c.want {
			t.Errorf("%s: found %d, wanted %d", c.name, got, c.want)
		}
	}
}

func FuzzTSC(f *testing.F) {
	f.Add("model name : x @ 2.60GHz\ncpu MHz : 2596.1\n")
	f.Fuzz(func(t *testing.T, s string) {
		if k := tscKHz(s); k != 0 && (k < 100_000 || k > 20_000_000) {
			t.Errorf("found %d kHz", k)
		}
	})
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		arch  string
		extra uint64
		want  uint64
	}{
		{"amd64", 0, baseMiB}, {"amd64", 1, baseMiB + 1}, {"amd64", 64 * mib, baseMiB + 64},
		{"ppc64le", 0, 256}, {"ppc64le", 1, 512},
	} {
		got, err := targets(c.arch)[0].memory(c.extra)
		if err != nil || got != c.want {
			t.Errorf("%s, %d more: found %d MiB, %v, wanted %d", c.arch, c.extra, got, err, c.want)
		}
	}
	if _, err := targets("amd64")[0].memory(math.MaxUint64); err == nil {
		t.Error("all the memory there is was granted")
	}
}

// No machine gets a device or a way in beyond the link (THREATS T18), and QEMU's
// own sandbox is on.
func TestArguments(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64", "ppc64le"} {
		for _, target := range targets(arch) {
			args := target.arguments(false, 256, target.cmdline(2596130))
			line := strings.Join(args, " ")
			for _, want := range []string{"-nodefaults", "-no-user-config", "-no-reboot", "spawn=deny", "elevateprivileges=deny", "accel=tcg", "name=donjon.link"} {
				if !strings.Contains(line, want) {
					t.Errorf("%s: %s is missing", target.name, want)
				}
			}
			for _, never := range []string{"-net", "-drive", "virtio-rng", "virtio-net", "-monitor stdio", "-qmp"} {
				if strings.Contains(line, never) {
					t.Errorf("%s: found %s", target.name, never)
				}
			}
			devices := 0
			for _, a := range args {
				if a == "-device" {
					devices++
				}
			}
			if devices != 2 {
				t.Errorf("%s: found %d devices, wanted the bus of the link and its port", target.name, devices)
			}
			if (arch == "amd64") != strings.Contains(line, "tsc_early_khz=2596130") {
				t.Errorf("%s: command line %q", target.name, target.cmdline(2596130))
			}
			if target.kvm != "" && !slices.Contains(target.arguments(true, 256, ""), target.machine+",accel=kvm") {
				t.Errorf("%s: KVM was not asked for", target.name)
			}
		}
	}
}
