// Package vm launches a Keep as a virtual machine under QEMU: a distribution
// kernel, an initramfs with donjon-keep alone, one virtio-serial port as the link,
// no network, no disk. It isolates; it is not a TEE: this machine's owner can read
// the Keep's memory, and its evidence is simulated.
//
// Next door: image makes what is booted, warden/boot wakes up inside, keep
// supervises what Launch gives. What QEMU is given are sealed copies in memory, the
// very bytes that the launch digest covers.
package vm
