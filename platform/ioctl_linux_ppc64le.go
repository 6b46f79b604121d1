package platform

// kvmGetAPIVersion is _IO(0xAE, 0x00); POWER encodes "no data" as direction 1
// (arch/powerpc/include/uapi/asm/ioctl.h).
const kvmGetAPIVersion = 0x2000AE00
