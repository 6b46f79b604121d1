// Package boot is what donjon-keep does as the first process of a virtual machine
// (vm): mount what the kernel offers, load the modules packed beside it, find the
// port that is the link, reap orphans, and power the machine off at the end.
//
// Next door: image packs the file system that is found here, keep/vm is the host's
// side of the launch, warden takes over with the link that Run opens. Everything
// here comes from the measured image, except what answers to the port's name.
package boot
