package platform

// cpuid executes the CPUID instruction (AMD64 APM volume 3, appendix E; Intel
// SDM volume 2A, CPUID). It is unprivileged and has no side effects.
//
// Why assembly and not /dev/cpu/*/cpuid: that device needs root and a module;
// the instruction needs neither. Why not /proc/cpuinfo alone: it names the
// features but not the C-bit, the ASID counts or the size of the EPC.
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

func hostCPUID() func(leaf, sub uint32) Regs {
	return func(leaf, sub uint32) Regs {
		a, b, c, d := cpuid(leaf, sub)
		return Regs{a, b, c, d}
	}
}
