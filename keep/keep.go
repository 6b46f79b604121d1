// Package keep launches a Keep on the host and supervises it: it serves the
// link's services (streams, listeners, connections, reports, storage) as far as
// the workload's configuration declares them and nothing else, and turns the way
// a Keep ends into one clear outcome.
//
// How a Keep is launched is next door, one folder a way: keep/sim, keep/vm. What
// runs inside is warden. Nothing here is trusted by the Keep.
package keep

import "io"

// Spec is what a backend needs to launch a Keep.
type Spec struct {
	HostData    [32]byte     // the workload digest
	Memory      uint64       // bytes of guest memory wanted for the workload; 0: the backend's default
	Arch        string       // GOARCH of the guest; "" is the host's
	Kernel      string       // path of a kernel; "" lets the backend find one (vm)
	KeepProgram string       // path of the donjon-keep for Arch
	Weak        bool         // start although the sandbox cannot be applied (sim)
	Verbose     bool         //
	Progress    func(string) // called with one line about long work; may be nil
}

// Machine is a launched Keep as its backend sees it.
type Machine interface {
	// Link is the host's end of the one byte channel.
	Link() io.ReadWriteCloser
	// Measurement is the launch digest of what was really started.
	Measurement() [48]byte
	// Console gives the last lines the guest printed outside the link, raw.
	Console() []string
	// Notes says what could not be applied on this host, a line each.
	Notes() []string
	// Wait waits for the end of the machine, Kill ends it. Both may be called
	// more than once and from any goroutine; after Wait nothing is left behind.
	Wait() error
	Kill() error
}
