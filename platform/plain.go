package platform

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// vm lists what a plain virtual machine needs.
func (p *prober) vm() Backend {
	var l list
	p.launches(&l, "vm")
	p.qemuFor(&l, "vm", p.h.Arch, 7, 2, "")
	for _, arch := range []string{"amd64", "arm64", "ppc64le"} {
		if arch == p.h.Arch {
			continue
		}
		q := p.qemu(arch)
		c := Check{
			Code: "vm-qemu-" + arch, Title: "QEMU for " + arch + ", for --arch " + arch,
			Source: qemuProgram(arch), Wanted: "7.2 or newer", Found: "not there",
			Hint: "install " + qemuPackage(arch) + " to emulate that processor",
		}
		if q.err == nil {
			c.Found, c.Source = q.text, q.path
		} else if q.path != "" {
			c.Found = reason(q.err)
		}
		l.may(q.err == nil && !q.version.less(version{7, 2}), c)
	}
	p.guestInstructions(&l)
	if p.kvm(&l, "vm", false) {
		// Some hypervisors offer a /dev/kvm on which no kernel boots.
		l.add(Check{
			Code: "vm-kvm-boots", Title: "a guest boots on KVM", Status: NotMade,
			Found: "/dev/kvm is present; whether a guest boots on it is tried at the first run",
		})
	}
	p.guestKernel(&l)
	return Backend{
		Name: "vm", Title: "virtual machine", Checks: l.checks,
		Note: "not a TEE: isolates the workload from the host, hides nothing from it; its silicon is simulated",
	}
}

// guestInstructions adds what a guest on KVM has of this processor. A Keep starts
// without: its kernel then has other entropy and slower switches.
func (p *prober) guestInstructions(l *list) {
	if p.h.Arch != "amd64" {
		return
	}
	first, ok1 := p.leaf(1, 0)
	seventh, ok7 := p.leaf(7, 0)
	for _, i := range []struct {
		name, what, source string
		known, has         bool
	}{
		{"rdrand", "RDRAND", "CPUID 1:ECX[30]", ok1, first.ECX>>30&1 == 1},
		{"fsgsbase", "FSGSBASE", "CPUID 7:EBX[0]", ok7, seventh.EBX&1 == 1},
	} {
		c := Check{Code: "vm-cpu-" + i.name, Title: i.what + " instruction", Found: yesNo(i.has), Wanted: "yes", Source: i.source,
			Hint: "a hypervisor below this machine may hide it"}
		if !i.known {
			c.Status, c.Found = NotMade, errUnknown.Error()
			l.add(c)
			continue
		}
		l.may(i.has, c)
	}
}

// guestKernel adds the check that a kernel for the guest is at hand or can be
// fetched.
func (p *prober) guestKernel(l *list) {
	c := Check{
		Code: "vm-kernel", Title: "kernel for the guest", Wanted: "an installed one, or apt-get to fetch one",
		Source: "/boot", Hint: "give one with --kernel FILE",
	}
	if k := p.bootKernel(); k != "" {
		c.Found = k
		l.is(true, c)
		return
	}
	if p.h.LookPath != nil {
		if apt, err := p.h.LookPath("apt-get"); err == nil {
			c.Found, c.Source = "none here; fetched with apt-get at the first run", apt
			l.is(true, c)
			return
		}
	}
	c.Found = "none here, and no apt-get to fetch one"
	l.is(false, c)
}

// bootKernel is the readable kernel in /boot that sorts last, or "".
func (p *prober) bootKernel() string {
	if p.h.List == nil || p.h.Access == nil {
		return ""
	}
	names, err := p.h.List("/boot")
	if err != nil {
		return ""
	}
	for _, n := range slices.Backward(names) {
		if !strings.HasPrefix(n, "vmlinuz-") && !strings.HasPrefix(n, "vmlinux-") {
			continue
		}
		if file := path.Join("/boot", n); p.h.Access(file, Read) == nil {
			return file
		}
	}
	return ""
}

// sim lists what the sandboxed process with simulated silicon needs. Without
// seccomp and no_new_privs it is refused (THREATS T32); namespaces and Landlock
// make it tighter.
func (p *prober) sim() Backend {
	var l list
	p.launches(&l, "sim")
	p.noNewPrivs(&l)
	actions := p.word("/proc/sys/kernel/seccomp/actions_avail")
	c := Check{
		Code: "sim-seccomp", Title: "seccomp filters", Found: actions, Wanted: "kill_process among the actions",
		Source: "/proc/sys/kernel/seccomp/actions_avail", Hint: "the kernel needs CONFIG_SECCOMP_FILTER",
	}
	if actions == "" {
		c.Found = "not there"
	}
	l.is(hasWord(actions, "kill_process"), c)
	p.landlock(&l)
	p.userNamespaces(&l)
	return Backend{
		Name: "sim", Title: "sandboxed process", Checks: l.checks,
		Note: "not a TEE: for development; whoever owns this machine sees everything, and its silicon is simulated",
	}
}

func (p *prober) noNewPrivs(l *list) {
	c := Check{
		Code: "sim-no-new-privs", Title: "no new privileges", Wanted: "yes", Source: "prctl(PR_GET_NO_NEW_PRIVS)",
		Hint: "the kernel is older than 3.5 or forbids prctl",
	}
	if p.h.NoNewPrivs == nil {
		l.unless(errUnknown.Error(), c)
		return
	}
	err := p.h.NoNewPrivs()
	c.Found = "yes"
	if err != nil {
		c.Found = reason(err)
	}
	l.is(err == nil, c)
}

func (p *prober) landlock(l *list) {
	c := Check{
		Code: "sim-landlock", Title: "Landlock", Wanted: "ABI 1 or newer", Source: "landlock_create_ruleset",
		Hint: "boot with landlock in lsm=; the kernel needs CONFIG_SECURITY_LANDLOCK (5.13)",
	}
	if p.h.LandlockABI == nil {
		c.Status, c.Found = NotMade, errUnknown.Error()
		l.add(c)
		return
	}
	abi, err := p.h.LandlockABI()
	if err != nil {
		c.Found = reason(err)
	} else {
		c.Found = "ABI " + strconv.Itoa(abi)
	}
	l.may(err == nil && abi >= 1, c)
}

// userNamespaces adds the check of namespaces. The three switches that
// distributions have for them are read to say why the try failed.
func (p *prober) userNamespaces(l *list) {
	c := Check{
		Code: "sim-namespaces", Title: "user namespaces", Wanted: "a process may have one of its own",
		Source: "clone(CLONE_NEWUSER)", Hint: "the Keep runs without them, less tightly shut",
	}
	if p.h.UserNamespace == nil {
		c.Status, c.Found = NotMade, errUnknown.Error()
		l.add(c)
		return
	}
	err := p.h.UserNamespace(p.ctx)
	c.Found = "yes"
	if err != nil {
		c.Found = reason(err)
		for _, s := range []struct{ file, closed, hint string }{
			{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"},
			{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
			{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for donjon"},
		} {
			if p.word(s.file) == s.closed {
				c.Found = fmt.Sprintf("%s (%s is %s)", reason(err), s.file, s.closed)
				c.Hint += "; to allow them: " + s.hint
				break
			}
		}
	}
	l.may(err == nil, c)
}
