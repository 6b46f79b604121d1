//go:build linux

// Package warden is the part of Donjon that runs inside a Keep, the same in
// every TEE. It opens the link and speaks first, takes the workload in and hashes
// it, refuses unless the Keep's own report names that very workload, makes a key,
// has evidence made that binds the key, opens what the configuration declares,
// and lets the exec child run the guest. TLS ends here.
//
// Everything that comes over the link is the host's and hostile; everything that
// comes from the child may be an escaped guest's and is treated alike. Keys never
// leave this process.
//
// Next door: engine/child (the process that runs the guest), link (the channel),
// warden/sandbox (what confines this process), attest/evidence (what is proved).
// The imports of this package are fenced by a test: what is linked in here is
// measured in every Keep.
package warden
