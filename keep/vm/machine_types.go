package vm

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/donjon-tee/donjon/image"
)

// A target is how one processor's machine is described to QEMU.
type target struct {
	arch     string // GOARCH
	name     string // for people
	program  string // QEMU's binary
	pkg      string // the package that has it
	machine  string // -M without the accelerator
	kvm      string // -cpu with KVM; "" when KVM is not tried
	tcg      string // -cpu with TCG
	tcgOnly  string // added to -M with TCG
	firmware string // looked up in QEMU's data folders; "" has none
	bus      image.Bus
	console  string // for the kernel
	base     uint64 // MiB the guest's kernel and warden need, without the workload
	step     uint64 // -m is a multiple of this, MiB
}

const mib = 1 << 20

// tcgAMD64 is the processor that is emulated. Without fast string instructions: a
// real processor copies by them, QEMU counts them off one by one, and guests that
// see none copy by other means, faster here.
const tcgAMD64 = "max,-erms,-fsrm"

// targets, preferred first within a processor. The base sizes are measured with
// Debian's kernels (docs/images.md).
func targets(arch string) []target {
	switch arch {
	case "amd64":
		return []target{
			{arch: arch, name: "microvm", program: "qemu-system-x86_64", pkg: "qemu-system-x86", machine: "microvm", kvm: "host", tcg: tcgAMD64,
				firmware: "qboot.rom", bus: image.MMIO, console: "ttyS0", base: baseMiB, step: 1},
			{arch: arch, name: "q35", program: "qemu-system-x86_64", pkg: "qemu-system-x86", machine: "q35", kvm: "host", tcg: tcgAMD64,
				firmware: "bios-256k.bin", bus: image.PCI, console: "ttyS0", base: baseMiB, step: 1},
		}
	case "arm64":
		return []target{{arch: arch, name: "virt", program: "qemu-system-aarch64", pkg: "qemu-system-arm", machine: "virt", kvm: "", tcg: "cortex-a57",
			tcgOnly: ",gic-version=3", bus: image.MMIO, console: "ttyAMA0", base: 224, step: 1}}
	case "ppc64le":
		// QEMU's Virtual Open Firmware: SLOF, the default, takes 20 s. The cap-* options
		// are off because TCG has no answer to the side channels they are about.
		return []target{{arch: arch, name: "pseries", program: "qemu-system-ppc64", pkg: "qemu-system-ppc", machine: "pseries,x-vof=on", tcg: "power9",
			tcgOnly: ",cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off", firmware: "vof.bin",
			bus: image.PCI, console: "hvc0", base: 256, step: 256}}
	}
	return nil
}

// baseMiB is what Debian's 6.12 kernel and the warden need on amd64 before the
// workload gets any: with 88 MiB a small one still runs, with 80 the kernel does
// not get to its first process.
const baseMiB = 96

// maxMiB bounds -m.
const maxMiB = 1 << 20

// memory is -m in MiB for a workload that wants extra bytes.
func (t target) memory(extra uint64) (uint64, error) {
	if extra > math.MaxUint64-mib {
		extra = math.MaxUint64 - mib
	}
	m := t.base + (extra+mib-1)/mib
	m = (m + t.step - 1) / t.step * t.step
	if m > maxMiB {
		return 0, fmt.Errorf("vm: memory: found %d MiB wanted, at most %d can be given", m, maxMiB)
	}
	return m, nil
}

// cmdline is the kernel's command line. It is in the launch digest, so nothing
// enters it that changes from run to run.
func (t target) cmdline(tscKHz uint64) string {
	s := "console=" + t.console + " quiet panic=-1"
	if t.arch == "amd64" && tscKHz > 0 {
		// An emulated machine on a busy host fails to measure its clock and hangs
		// before the first process; its time stamp counter is the host's. For vm
		// alone: on a TEE the host has no say in this (THREATS T18).
		s += " tsc_early_khz=" + strconv.FormatUint(tscKHz, 10)
	}
	return s
}

// The places of the descriptors QEMU inherits.
const (
	fdLink = 3 + iota
	fdKernel
	fdInitrd
	fdFirmware
)

func inherited(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// arguments is QEMU's command line, without the program.
func (t target) arguments(kvm bool, memory uint64, cmdline string) []string {
	m, cpu := t.machine+",accel=tcg"+t.tcgOnly, t.tcg
	if kvm {
		m, cpu = t.machine+",accel=kvm", t.kvm
	}
	args := []string{
		"-M", m, "-cpu", cpu, "-m", strconv.FormatUint(memory, 10), "-smp", "1",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-name", "donjon-keep",
		"-kernel", inherited(fdKernel), "-initrd", inherited(fdInitrd), "-append", cmdline,
		"-chardev", "stdio,id=console,mux=off,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=c0,fd=" + strconv.Itoa(fdLink),
	}
	if t.firmware != "" {
		args = append(args, "-bios", inherited(fdFirmware))
	}
	if t.bus == image.PCI {
		args = append(args, "-device", "virtio-serial-pci,max_ports=2,disable-legacy=on")
	} else {
		args = append(args, "-device", "virtio-serial-device,max_ports=2")
	}
	return append(args, "-device", "virtserialport,chardev=c0,name=donjon.link")
}

// tscKHz is the rate of the host's time stamp counter as far as /proc/cpuinfo
// tells: in a virtual machine "cpu MHz" is it, exactly; on hardware that line
// changes with the load, and the model's name has the nominal rate. 0 when
// neither is there.
func tscKHz(cpuinfo string) uint64 {
	var model, mhz float64
	hypervisor := false
	for _, line := range strings.Split(cpuinfo, "\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			if mhz > 0 {
				break // one processor will do
			}
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name":
			if _, at, ok := strings.Cut(value, "@ "); ok {
				if ghz, err := strconv.ParseFloat(strings.TrimSuffix(at, "GHz"), 64); err == nil {
					model = ghz * 1000
				}
			}
		case "cpu MHz":
			mhz, _ = strconv.ParseFloat(value, 64)
		case "flags":
			hypervisor = strings.Contains(" "+value+" ", " hypervisor ")
		}
	}
	if !hypervisor && model > 0 {
		mhz = model
	}
	if !(mhz >= 100 && mhz <= 20000) {
		return 0
	}
	return uint64(mhz*1000 + 0.5)
}
