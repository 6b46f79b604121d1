package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/image"
	"github.com/donjon-tee/donjon/image/measure"
	"github.com/donjon-tee/donjon/keep"
)

// Options are what the backend needs beside the Keep's own specification.
type Options struct {
	CacheDir string // donjon's cache; "" keeps nothing and downloads nothing
	NoKVM    bool   // emulate even where the processor could help
	Offline  bool   // download no kernel
	Boot     string // folder of installed kernels; "" is /boot
	Times    Times
}

// Times bound the stages of a boot. The zero value of each means its default,
// generous enough for emulation on a machine that is busy with other things.
type Times struct {
	Kernel time.Duration // from QEMU's start to the first process: 90 s, 240 s on another processor
	Init   time.Duration // from there to the link's port: 30 s
	Link   time.Duration // from there to the first byte: 30 s
	Probe  time.Duration // all of the kernel's stage when trying KVM: 8 s
}

func (t Times) withDefaults(arch string) Times {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if arch != runtime.GOARCH {
		set(&t.Kernel, 240*time.Second)
	}
	set(&t.Kernel, 90*time.Second)
	set(&t.Init, 30*time.Second)
	set(&t.Link, 30*time.Second)
	set(&t.Probe, 8*time.Second)
	return t
}

// A Plan is a launch that is ready: every byte that will be booted, and its
// digest.
type Plan struct {
	Kernel      image.Kernel
	QEMU        string // path
	Machine     string // QEMU's name of it
	Firmware    string // path; "" where this machine has none
	Cmdline     string
	MemoryMiB   uint64
	KernelHash  [32]byte
	InitrdHash  [32]byte
	Measurement [48]byte

	target                   target
	kernel, initrd, firmware []byte
}

// An Error carries what can be done about it.
type Error struct {
	Err  error
	What string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *Error) Hint() string { return e.What }

// Prepare finds or makes all that a launch needs, and measures it. Nothing is
// started.
func Prepare(ctx context.Context, spec keep.Spec, o Options) (*Plan, error) {
	arch := spec.Arch
	if arch == "" {
		arch = runtime.GOARCH
	}
	ts := targets(arch)
	if len(ts) == 0 {
		return nil, fmt.Errorf("vm: processor: found %q, wanted amd64, arm64 or ppc64le", arch)
	}
	qemu, t, err := chooseTarget(ts)
	if err != nil {
		return nil, err
	}
	return prepare(ctx, spec, o, qemu, t)
}

// prepare is Prepare for one kind of machine.
func prepare(ctx context.Context, spec keep.Spec, o Options, qemu string, t target) (*Plan, error) {
	p := &Plan{QEMU: qemu, Machine: t.name, target: t}
	var err error
	if p.MemoryMiB, err = t.memory(spec.Memory); err != nil {
		return nil, err
	}
	program, err := os.ReadFile(spec.KeepProgram)
	if err != nil {
		return nil, fmt.Errorf("vm: reading the program for the Keep: %w", err)
	}
	if err := image.CheckProgram(program, t.arch); err != nil {
		return nil, err
	}
	f := image.Finder{CacheDir: o.CacheDir, Boot: o.Boot, Progress: spec.Progress, Offline: o.Offline}
	if p.Kernel, err = f.Kernel(ctx, t.arch, spec.Kernel); err != nil {
		return nil, err
	}
	if p.kernel, err = image.ReadKernel(p.Kernel.Path); err != nil {
		return nil, err
	}
	modules, err := image.Modules(p.Kernel.Modules, t.bus)
	if err != nil {
		return nil, err
	}
	if p.initrd, err = image.Initramfs(program, modules); err != nil {
		return nil, err
	}
	if t.firmware != "" {
		if p.Firmware, p.firmware, err = findFirmware(ctx, qemu, t.firmware); err != nil {
			return nil, err
		}
	}
	p.Cmdline = t.cmdline(hostTSC())
	p.KernelHash, p.InitrdHash = sha256.Sum256(p.kernel), sha256.Sum256(p.initrd)
	p.Measurement = measure.Simulated(measure.Launch{Firmware: p.firmware, Kernel: p.KernelHash, Initrd: p.InitrdHash, Cmdline: p.Cmdline})
	return p, nil
}

// Initrd is the initramfs of the plan; it must not be changed.
func (p *Plan) Initrd() []byte { return p.initrd }

func hostTSC() uint64 {
	if runtime.GOARCH != "amd64" {
		return 0
	}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	return tscKHz(string(b))
}

// chooseTarget takes the first machine that this host's QEMU has.
func chooseTarget(ts []target) (string, target, error) {
	qemu, err := exec.LookPath(ts[0].program)
	if err != nil {
		return "", target{}, &Error{Err: fmt.Errorf("vm: no QEMU for %s: %s is not on this machine", ts[0].arch, ts[0].program),
			What: "apt-get install " + ts[0].pkg}
	}
	out, err := exec.Command(qemu, "-M", "help").Output()
	if err != nil {
		return "", target{}, fmt.Errorf("vm: asking %s for its machines: %w", qemu, err)
	}
	for _, t := range ts {
		machine, _, _ := strings.Cut(t.machine, ",")
		for _, line := range strings.Split(string(out), "\n") {
			if name, _, _ := strings.Cut(line, " "); name == machine {
				return qemu, t, nil
			}
		}
	}
	return "", target{}, fmt.Errorf("vm: %s has no machine of type %s", qemu, ts[0].machine)
}

const maxFirmware = 16 << 20

// findFirmware reads the firmware of that name from QEMU's own data folders.
func findFirmware(ctx context.Context, qemu, name string) (string, []byte, error) {
	out, err := exec.CommandContext(ctx, qemu, "-L", "help").Output()
	if err != nil {
		return "", nil, fmt.Errorf("vm: asking %s for its data folders: %w", qemu, err)
	}
	for _, dir := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path := filepath.Join(dir, name)
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, maxFirmware+1))
		_ = f.Close()
		if err != nil {
			return "", nil, fmt.Errorf("vm: reading the firmware: %w", err)
		}
		if len(b) == 0 || len(b) > maxFirmware {
			return "", nil, fmt.Errorf("vm: firmware %s: found %d bytes, wanted 1 to %d", path, len(b), maxFirmware)
		}
		return path, b, nil
	}
	return "", nil, &Error{Err: fmt.Errorf("vm: firmware %s: in none of QEMU's data folders", name), What: "apt-get install qemu-system-data seabios"}
}

// probeKey names the combination for which KVM is known to work or not: kernel,
// QEMU, host kernel and processor.
func (p *Plan) probeKey() (string, error) {
	st, err := os.Stat(p.QEMU)
	if err != nil {
		return "", err
	}
	host, err := os.ReadFile("/proc/version")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%x %s %d %d %s %s %d", p.KernelHash, p.QEMU, st.Size(), st.ModTime().UnixNano(), p.Machine, bytes.TrimSpace(host), hostTSC())
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// kvmKnown says what an earlier launch found.
func (p *Plan) kvmKnown(cacheDir string) (works, known bool) {
	key, err := p.probeKey()
	if err != nil || cacheDir == "" {
		return false, false
	}
	b, err := os.ReadFile(filepath.Join(cacheDir, probesDir, key))
	if err != nil {
		return false, false
	}
	s := strings.TrimSpace(string(b))
	return s == "works", s == "works" || s == "fails"
}

// rememberKVM keeps what this launch found; that it cannot is no reason to fail.
func (p *Plan) rememberKVM(cacheDir string, works bool) {
	key, err := p.probeKey()
	if err != nil || cacheDir == "" {
		return
	}
	word := "fails\n"
	if works {
		word = "works\n"
	}
	dir := filepath.Join(cacheDir, probesDir)
	if os.MkdirAll(dir, 0o700) == nil {
		_ = os.WriteFile(filepath.Join(dir, key), []byte(word), 0o600)
	}
}

const probesDir = "kvm"

// kvmUsable says whether this user may use KVM at all.
func kvmUsable() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("this host has no /dev/kvm")
	} else if err != nil {
		return err
	}
	return f.Close()
}
