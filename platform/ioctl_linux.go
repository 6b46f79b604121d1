//go:build linux && !ppc64le

package platform

// kvmGetAPIVersion is _IO(0xAE, 0x00) with the generic encoding.
const kvmGetAPIVersion = 0xAE00
