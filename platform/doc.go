// Package platform says what this host can launch Keeps on, and what is missing:
// one list of checks a technology, each with what was found, what is wanted and
// how to mend it. It also owns the hardware list (known.go).
//
// It looks and never changes anything: it loads no module, boots nothing and
// opens devices only to see whether it may. Everything it looks at comes through
// Host, so that a test describes a machine as a table; NewHost (host_linux.go)
// is the real one. The rooms next door: keep/ launches Keeps and makes its own,
// final checks; cmd/donjon/platform.go prints what is found here; the shape of
// the JSON is in docs/platform.md.
package platform

import "context"

// Status is the outcome of one check.
type Status string

// The outcomes. NotMade means that the check could not be made here, or only a
// launch can make it: it is neither good nor bad news.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	NotMade Status = "not_made"
)

// Check is one requirement and what this host shows for it.
type Check struct {
	// Code names the check in a stable way, for programs: "sev-snp-cpu".
	Code string `json:"code"`
	// Title names it for people.
	Title  string `json:"title"`
	Status Status `json:"status"`
	// Required says that a Keep cannot be launched without it. A check that is
	// not required only informs, or makes a Keep better or faster.
	Required bool `json:"required"`
	// Found is what was seen. It comes from the host and may hold anything:
	// escape it before it is printed (THREATS T30).
	Found string `json:"found,omitempty"`
	// Wanted is what would have been good; empty where any finding will do.
	Wanted string `json:"wanted,omitempty"`
	// Source is where it was looked up: a path, a CPUID leaf, a command.
	Source string `json:"source,omitempty"`
	// Hint says what to do; empty where the check passed.
	Hint string `json:"hint,omitempty"`
}

// Backend is one technology with its checks, in the order in which they are best
// mended.
type Backend struct {
	// Name is what --tee takes: snp, tdx, sgx, pef, vm, sim.
	Name  string `json:"name"`
	Title string `json:"title"`
	// TEE is false for vm and sim: they protect nothing from this host.
	TEE bool `json:"tee"`
	// Note is one sentence that must stand beside the name.
	Note string `json:"note,omitempty"`
	// Ready says that every required check passed. It is a forecast: the launch
	// itself has the last word.
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// System is the host in general.
type System struct {
	OS     string `json:"os"`
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	CPU    string `json:"cpu"`
	// Guest says in what this host itself runs, as far as it shows: "" (no sign
	// of a hypervisor), "vm", "snp", "tdx" or "pef". TEEs other than SGX are not
	// to be had inside an ordinary virtual machine.
	Guest string `json:"guest"`
}

// Report is everything that Probe found.
type Report struct {
	System   System    `json:"system"`
	Backends []Backend `json:"backends"`
}

// Probe looks at h. It never fails: what cannot be looked at is a check that was
// not made or not passed. ctx bounds the commands it runs (QEMU, to ask for its
// version); the file system is not interrupted.
func Probe(ctx context.Context, h *Host) Report {
	p := &prober{ctx: ctx, h: h}
	r := Report{System: p.system()}
	r.Backends = []Backend{p.snp(), p.tdx(), p.sgx(), p.pef(), p.vm(), p.sim()}
	for i := range r.Backends {
		b := &r.Backends[i]
		b.Ready = true
		for j := range b.Checks {
			c := &b.Checks[j]
			if c.Required && c.Status != Passed {
				b.Ready = false
			}
			if c.Status == Passed {
				c.Hint = ""
			}
		}
	}
	return r
}
