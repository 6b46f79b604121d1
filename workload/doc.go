// Package workload is what a Keep runs: a WebAssembly module, its configuration
// (Donjon.toml), the files that the configuration names, and the manifest over
// all of them, whose SHA-256 is the workload digest.
//
// The host loads a workload, merges what the command line says into the
// configuration, and takes the digest (load.go). The warden receives the same
// bytes and parses them with the same strict parsers (manifest.go, config.go).
// Everything here is bounded; nothing here touches a network.
package workload
