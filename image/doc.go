// Package image makes what a virtual machine Keep boots: it finds a distribution
// kernel (a file, the cache, an installed package, or one downloaded through apt
// without installing it) and packs donjon-keep into an initramfs, byte for byte
// the same on every machine.
//
// Next door: image/measure predicts what hardware says about these files, keep/vm
// hands them to QEMU, warden/boot is the code that wakes up inside.
//
// A kernel package comes through apt, with the signatures apt checks; a file in
// the cache or under --kernel is believed as it is. Which of them ran is in the
// launch digest.
package image
