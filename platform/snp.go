package platform

import (
	"fmt"
	"strings"
)

// Memory that Enarx reckons locked for each SNP guest; kept so that figures can
// be compared.
const lockedPerKeep = 5 << 20

// snp lists what AMD SEV-SNP needs on the host. Minimum versions: KVM has SNP
// since Linux 6.11, QEMU since 9.1 (known.go has the sources).
func (p *prober) snp() Backend {
	var l list
	p.launches(&l, "snp")
	p.arch(&l, "snp", "amd64")
	p.encryption(&l, p.amdCPU(&l))
	on, found := p.moduleParameter("kvm_amd", "sev_snp")
	l.is(on, Check{
		Code: "snp-kernel-enabled", Title: "SEV-SNP is enabled in the host kernel", Found: found, Wanted: "on",
		Source: "/sys/module/kvm_amd/parameters/sev_snp",
		Hint:   "enable SMEE, SNP memory coverage and SEV-SNP in the firmware setup and boot without iommu=pt; dmesg | grep -i -e rmp -e sev says more",
	})
	p.kernel(&l, "snp", 6, 11, "first with SEV-SNP in KVM")
	p.device(&l, Check{
		Code: "snp-device-read", Title: "secure processor is readable", Required: true, Wanted: "may be opened",
		Hint: "load the module ccp; the device is there when the firmware has SEV enabled",
	}, "/dev/sev", Read)
	p.device(&l, Check{
		Code: "snp-device-write", Title: "secure processor is writable", Required: true, Wanted: "may be opened",
		Hint: "load the module ccp; the device is there when the firmware has SEV enabled",
	}, "/dev/sev", Write)
	p.kvm(&l, "snp", true)
	p.qemuFor(&l, "snp", "amd64", 9, 1, "sev-snp-guest")
	p.firmwareFor(&l, "snp", "amd-sev-snp", "install OVMF built from OvmfPkg/AmdSev: the usual build cannot check the hashes of kernel and initrd")
	p.memlock(&l)
	p.cached(&l, "snp-vcek-cache", "key certificate (VCEK) in the cache", amdCache, "vcek-")
	p.crlCache(&l, "snp-crl-cache", "AMD", amdCache+"/crls.der")
	return Backend{Name: "snp", Title: "AMD SEV-SNP", TEE: true, Checks: l.checks}
}

// amdCPU adds the checks of the processor's make.
func (p *prober) amdCPU(l *list) bool {
	amd := l.is(p.vendor() == vendorAMD, Check{
		Code: "snp-cpu", Title: "processor", Found: p.processor(), Wanted: vendorAMD,
		Source: "CPUID 0", Hint: "SEV-SNP is found in AMD EPYC processors: donjon platform --known",
	})
	c := Check{
		Code: "snp-cpu-epyc", Title: "EPYC, for which there is SEV firmware", Found: p.brand(), Wanted: "EPYC",
		Source: "CPUID 80000002", Hint: "other AMD processors have no SEV firmware: donjon platform --known",
	}
	generation := Check{
		Code: "snp-cpu-generation", Title: "generation with SEV-SNP", Wanted: "family 19h or 1Ah",
		Source: "CPUID 1 EAX", Hint: "EPYC 7003 is the first with SEV-SNP: donjon platform --known",
	}
	if !amd {
		l.unless("no AMD processor", c)
		l.unless("no AMD processor", generation)
		return false
	}
	l.is(strings.Contains(p.brand(), "EPYC"), c)
	family, model, stepping, ok := p.signature()
	generation.Found = fmt.Sprintf("family %Xh, model %Xh, stepping %d%s", family, model, stepping, codename(family, model))
	l.is(ok && (family == 0x19 || family == 0x1a), generation)
	return true
}

// codename names the server processors of a family and model as the names of
// their SEV firmware files group them (linux-firmware, amd/).
func codename(family, model uint32) string {
	switch {
	case family == 0x19 && model <= 0x0f:
		return ": Milan"
	case family == 0x19 && model >= 0x10 && model <= 0x1f:
		return ": Genoa"
	case family == 0x19 && model >= 0xa0 && model <= 0xaf:
		return ": Bergamo or Siena"
	case family == 0x1a && model <= 0x0f:
		return ": Turin"
	}
	return ""
}

// encryption adds the checks of CPUID leaf 8000001F.
func (p *prober) encryption(l *list, amd bool) {
	r, ok := p.leaf(0x8000_001f, 0)
	ok = ok && amd
	e := decodeEncryption(r)
	hint := "enable it in the firmware setup; a hypervisor hides it from its guests"
	bit := func(set bool, code, title, source string) bool {
		c := Check{Code: code, Title: title, Wanted: "yes", Source: source, Hint: hint}
		if !ok {
			return l.unless("no such CPUID leaf", c)
		}
		c.Found = yesNo(set)
		return l.is(set, c)
	}
	bit(e.SME, "snp-cpu-sme", "Secure Memory Encryption (SME)", "CPUID 8000001F EAX[0]")
	sev := bit(e.SEV, "snp-cpu-sev", "Secure Encrypted Virtualization (SEV)", "CPUID 8000001F EAX[1]")
	bit(e.ES, "snp-cpu-es", "encrypted register state (SEV-ES)", "CPUID 8000001F EAX[3]")
	bit(e.SNP, "snp-cpu-snp", "Secure Nested Paging (SEV-SNP)", "CPUID 8000001F EAX[4]")
	figure := func(good bool, value uint32, code, title, source string) {
		c := Check{Code: code, Title: title, Source: source}
		if !ok || !sev {
			c.Status, c.Found = NotMade, "no SEV"
			l.add(c)
			return
		}
		c.Found = fmt.Sprint(value)
		l.may(good, c)
	}
	figure(e.CBit >= 32, e.CBit, "snp-cpu-cbit", "C-bit location in page table entries", "CPUID 8000001F EBX[5:0]")
	figure(true, e.Reduction, "snp-cpu-reduction", "physical address bit reduction", "CPUID 8000001F EBX[11:6]")
	figure(e.VMPLs > 0, e.VMPLs, "snp-cpu-vmpl", "virtual machine privilege levels", "CPUID 8000001F EBX[15:12]")
	figure(e.Guests > 0, e.Guests, "snp-cpu-guests", "encrypted guests at the same time", "CPUID 8000001F ECX")
	figure(e.MinSEV > 1, e.MinSEV, "snp-cpu-asid", "lowest ASID for SEV without SEV-ES (SNP guests take those below)", "CPUID 8000001F EDX")
	c := Check{Code: "snp-cpu-flush", Title: "page flush MSR", Source: "CPUID 8000001F EAX[2]"}
	if !ok || !sev {
		c.Status, c.Found = NotMade, "no SEV"
		l.add(c)
	} else {
		c.Found = yesNo(e.PageFlush)
		l.may(e.PageFlush, c)
	}
}

func (p *prober) memlock(l *list) {
	c := Check{
		Code: "snp-memlock", Title: "limit on locked memory", Wanted: "room for a Keep or more (5 MiB each)",
		Source: "RLIMIT_MEMLOCK", Hint: "raise it: ulimit -l, /etc/security/limits.d or LimitMEMLOCK=",
	}
	if p.h.Memlock == nil {
		c.Status, c.Found = NotMade, errUnknown.Error()
		l.add(c)
		return
	}
	n, err := p.h.Memlock()
	switch {
	case err != nil:
		c.Found = reason(err)
	case n == ^uint64(0):
		c.Found = "unlimited"
	default:
		c.Found = fmt.Sprintf("%s, enough for %d Keeps", size(n), n/lockedPerKeep)
	}
	l.may(err == nil && n >= lockedPerKeep, c)
}
