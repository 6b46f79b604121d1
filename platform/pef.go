package platform

import (
	"fmt"
	"strconv"
	"strings"
)

// The first processor version with the Protected Execution Facility: POWER9 DD2.3
// (Linux Documentation/arch/powerpc/ultravisor.rst).
const pefPVR = 0x004e_1203

// pef lists what IBM's Protected Execution Facility needs on the host.
func (p *prober) pef() Backend {
	var l list
	p.launches(&l, "pef")
	power := p.arch(&l, "pef", "ppc64le")
	c := Check{
		Code: "pef-cpu", Title: "processor version", Wanted: fmt.Sprintf("POWER9 DD2.3 (PVR %#08x) or newer", uint32(pefPVR)),
		Source: "/proc/cpuinfo: revision", Hint: "donjon platform --known",
	}
	if !power {
		l.unless("no POWER processor", c)
	} else {
		pvr, ok := parsePVR(p.cpuinfo("revision"))
		c.Found = "unknown"
		if ok {
			c.Found = fmt.Sprintf("PVR %#08x", pvr)
		}
		l.is(ok && pefProcessor(pvr), c)
	}
	uv := p.exists("/sys/firmware/ultravisor")
	l.is(uv, Check{
		Code: "pef-ultravisor", Title: "ultravisor firmware is running", Found: presence(uv), Wanted: "there",
		Source: "/sys/firmware/ultravisor",
		Hint:   "needs OpenPOWER firmware with an ultravisor; IBM no longer maintains the published one",
	})
	p.kernel(&l, "pef", 5, 5, "first with secure guests (CONFIG_PPC_UV)")
	p.kvm(&l, "pef", true)
	p.qemuFor(&l, "pef", "ppc64le", 7, 2, "pef-guest")
	p.device(&l, Check{
		Code: "pef-tpm", Title: "TPM, which opens the guest's lockbox", Required: true, Wanted: "may be opened",
		Hint: "enable the TPM in the firmware; add the user to the group tss",
	}, "/dev/tpmrm0", Read|Write)
	return Backend{
		Name: "pef", Title: "IBM PEF", TEE: true, Checks: l.checks,
		Note: "access control by firmware: guest memory is not encrypted, and there is no signed report",
	}
}

// parsePVR reads the processor version from "2.3 (pvr 004e 1203)".
func parsePVR(s string) (uint32, bool) {
	_, after, ok := strings.Cut(s, "(pvr ")
	if !ok {
		return 0, false
	}
	f := strings.Fields(strings.TrimSuffix(after, ")"))
	if len(f) != 2 || len(f[0]) != 4 || len(f[1]) != 4 {
		return 0, false
	}
	v, err := strconv.ParseUint(f[0]+f[1], 16, 32)
	return uint32(v), err == nil
}

// pefProcessor says whether a POWER9 is DD2.3 or newer. The upper half of the PVR
// is the processor, the lower twelve bits its revision (digit 3: the chip's
// variant). Newer processors are not admitted: no ultravisor for them is known.
func pefProcessor(pvr uint32) bool {
	return pvr>>16 == pefPVR>>16 && pvr&0xfff >= pefPVR&0xfff
}
