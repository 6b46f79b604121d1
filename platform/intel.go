package platform

import (
	"fmt"
)

// tdx lists what Intel TDX needs on the host. Minimum versions: KVM has TDX since
// Linux 6.16, QEMU since 10.1 (known.go has the sources).
func (p *prober) tdx() Backend {
	var l list
	p.launches(&l, "tdx")
	p.arch(&l, "tdx", "amd64")
	intel := p.intelCPU(&l, "tdx", "donjon platform --known lists the Xeons with TDX")
	feature := Check{
		Code: "tdx-cpu-host", Title: "platform can host trust domains", Wanted: "yes",
		Source: "/proc/cpuinfo: tdx_host_platform",
		Hint:   "enable TME, TME-MT, SEAM loader, TDX and a share of key ids for it in the firmware setup",
	}
	if !intel {
		l.unless("no Intel processor", feature)
	} else {
		feature.Found = yesNo(p.flag("tdx_host_platform"))
		l.is(p.flag("tdx_host_platform"), feature)
	}
	on, found := p.moduleParameter("kvm_intel", "tdx")
	l.is(on, Check{
		Code: "tdx-kernel-enabled", Title: "TDX is enabled in the host kernel", Found: found, Wanted: "on",
		Source: "/sys/module/kvm_intel/parameters/tdx",
		Hint:   "boot with kvm_intel.tdx=1; dmesg | grep -i tdx says whether the TDX module was initialized",
	})
	p.kernel(&l, "tdx", 6, 16, "first with TDX in KVM")
	p.kvm(&l, "tdx", true)
	p.qemuFor(&l, "tdx", "amd64", 10, 1, "tdx-guest")
	p.firmwareFor(&l, "tdx", "intel-tdx", "install OVMF built for TDX (TDVF)")
	p.device(&l, Check{
		Code: "tdx-quote-sgx", Title: "SGX, in whose quoting enclave quotes are made", Wanted: "may be opened",
		Hint: "enable SGX in the firmware setup: without it trust domains run but cannot be quoted",
	}, "/dev/sgx_enclave", Read|Write)
	l.may(p.exists(quoteSocket), Check{
		Code: "tdx-quote-service", Title: "quote generation service", Found: presence(p.exists(quoteSocket)),
		Wanted: "a socket, or a service on vsock port 4050", Source: quoteSocket,
		Hint: "install and start Intel's tdx-qgs",
	})
	return Backend{Name: "tdx", Title: "Intel TDX", TEE: true, Checks: l.checks}
}

// quoteSocket is where Intel's quote generation service listens unless told
// otherwise.
const quoteSocket = "/var/run/tdx-qgs/qgs.socket"

// aesmSocket is where Intel's architectural enclave service listens.
const aesmSocket = "/var/run/aesmd/aesm.socket"

// sgx lists what Intel SGX needs on the host: SGX2, because memory is added to a
// running enclave, which Linux does since 6.0 (known.go has the sources).
func (p *prober) sgx() Backend {
	var l list
	p.launches(&l, "sgx")
	p.arch(&l, "sgx", "amd64")
	intel := p.intelCPU(&l, "sgx", "donjon platform --known lists the Xeons with SGX2")
	p.sgxCPU(&l, intel)
	p.kernel(&l, "sgx", 6, 0, "first with dynamic enclave memory (EDMM)")
	p.device(&l, Check{
		Code: "sgx-device", Title: "SGX driver", Required: true, Wanted: "may be opened",
		Hint: "enable SGX in the firmware setup; the kernel needs CONFIG_X86_SGX and launch control",
	}, "/dev/sgx_enclave", Read|Write)
	p.device(&l, Check{
		Code: "sgx-provision", Title: "provisioning access, for quotes", Wanted: "may be opened",
		Hint: "only whoever makes quotes in this process needs it: add the user to the group sgx_prv",
	}, "/dev/sgx_provision", Read)
	l.may(p.exists(aesmSocket), Check{
		Code: "sgx-aesm", Title: "AESM daemon socket", Found: presence(p.exists(aesmSocket)), Wanted: "there", Source: aesmSocket,
		Hint: "install and start aesmd, which makes quotes",
	})
	p.crlCache(&l, "sgx-crl-cache", "Intel", intelCache+"/crls.der")
	p.cached(&l, "sgx-tcb-cache", "TCB information in the cache", intelCache, "tcb.der")
	p.cached(&l, "sgx-fmspc-cache", "FMSPC of this platform in the cache", intelCache, "fmspc.txt")
	return Backend{Name: "sgx", Title: "Intel SGX", TEE: true, Checks: l.checks}
}

func (p *prober) intelCPU(l *list, name, hint string) bool {
	return l.is(p.vendor() == vendorIntel, Check{
		Code: name + "-cpu", Title: "processor", Found: p.processor(), Wanted: vendorIntel,
		Source: "CPUID 0", Hint: hint,
	})
}

// sgxCPU adds the checks of CPUID leaves 7 and 12H.
func (p *prober) sgxCPU(l *list, intel bool) {
	r7, ok := p.leaf(7, 0)
	sgx := intel && ok && r7.EBX>>2&1 == 1
	caps, has12 := p.sgxCaps()
	has12 = has12 && sgx
	hint := "enable SGX and flexible launch control in the firmware setup; a hypervisor hides it from its guests"
	bit := func(known, set bool, code, title, source string) {
		c := Check{Code: code, Title: title, Wanted: "yes", Source: source, Hint: hint}
		if !known {
			l.unless("no SGX", c)
			return
		}
		c.Found = yesNo(set)
		l.is(set, c)
	}
	bit(intel && ok, sgx, "sgx-cpu-sgx", "SGX", "CPUID 7 EBX[2]")
	bit(sgx, r7.ECX>>30&1 == 1, "sgx-cpu-flc", "flexible launch control (FLC)", "CPUID 7 ECX[30]")
	bit(has12, caps.V1, "sgx-cpu-v1", "version 1", "CPUID 12 EAX[0]")
	bit(has12, caps.V2, "sgx-cpu-v2", "version 2", "CPUID 12 EAX[1]")
	figure := func(good bool, found, code, title, source string) {
		c := Check{Code: code, Title: title, Found: found, Source: source}
		if !has12 {
			c.Status, c.Found = NotMade, "no SGX"
			l.add(c)
			return
		}
		l.may(good, c)
	}
	figure(caps.Max32 > 0, size(caps.Max32), "sgx-cpu-max32", "largest enclave (32-bit)", "CPUID 12 EDX[7:0]")
	figure(caps.Max64 > 0, size(caps.Max64), "sgx-cpu-max64", "largest enclave (64-bit)", "CPUID 12 EDX[15:8]")
	figure(true, fmt.Sprintf("%#08x", caps.MiscSelect), "sgx-cpu-misc", "MISCSELECT", "CPUID 12 EBX")
	figure(true, fmt.Sprintf("%#016x", caps.Features), "sgx-cpu-features", "attributes", "CPUID 12.1 EAX, EBX")
	// x87 and SSE state are the least that an enclave's XFRM must hold.
	figure(caps.XFRM&3 == 3, fmt.Sprintf("%#016x", caps.XFRM), "sgx-cpu-xfrm", "XFRM", "CPUID 12.1 ECX, EDX")
	c := Check{
		Code: "sgx-epc", Title: "enclave page cache (EPC)", Found: size(caps.EPC), Wanted: "more than none",
		Source: "CPUID 12.2 and on", Hint: "give SGX memory (PRMRR) in the firmware setup",
	}
	if !has12 {
		l.unless("no SGX", c)
		return
	}
	l.is(caps.EPC > 0, c)
}

func presence(ok bool) string {
	if ok {
		return "there"
	}
	return "not there"
}
