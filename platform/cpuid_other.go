//go:build !amd64

package platform

// hostCPUID is nil: there is no CPUID instruction here.
func hostCPUID() func(leaf, sub uint32) Regs { return nil }
