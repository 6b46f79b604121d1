//go:build !linux

package platform

import "runtime"

// NewHost on a system other than Linux knows the processor alone: no backend
// works there, and every check says so.
func NewHost(launches ...string) *Host {
	return &Host{OS: runtime.GOOS, Arch: runtime.GOARCH, Launches: launches, CPUID: hostCPUID()}
}
