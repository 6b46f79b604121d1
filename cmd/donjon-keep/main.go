//go:build linux

// Command donjon-keep is the measured program: what runs inside every Keep, and
// nothing else. It is started in one of three ways and takes no flags:
//
//	/init              the first process of a virtual machine (vm)
//	donjon-keep sim    a process that the host has put into fresh namespaces, the
//	                   link on descriptor 3
//	donjon-keep exec   the child that runs the guest, the control socket on
//	                   descriptor 3; started by the two above alone
//
// What it does is package warden. The simulated secure processor at the other end
// of the link is this build's only source of reports: it is for sim and vm, which
// are not TEEs.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/warden"
	"github.com/donjon-tee/donjon/warden/boot"
	"github.com/donjon-tee/donjon/warden/sandbox"
)

const (
	linkFD    = 3
	rootBytes = 1 << 30 // bound of the Keep's own memory for files: the code cache
)

func main() {
	// The child dies with the thread that started it: that is the main thread,
	// which lives as long as the process.
	runtime.LockOSThread()
	// What stands on a stack is nobody's business on the console (THREATS T32).
	debug.SetTraceback("none")
	os.Exit(run(os.Args))
}

func run(args []string) int {
	switch {
	case boot.IsInit(args):
		return runVM()
	case len(args) == 2 && args[1] == "exec":
		return runChild()
	case len(args) >= 2 && args[1] == "sim":
		return runSim(len(args) == 3 && args[2] == "shared-mounts")
	}
	fmt.Fprintln(os.Stderr, "donjon-keep: this program is started by donjon, as a Keep; run: donjon run WORKLOAD")
	return 2
}

// runSim is a Keep as a process of its host.
func runSim(sharedMounts bool) int {
	debug.SetGCPercent(400) // a start-up's little garbage is not worth collecting
	if err := sandbox.InheritNothing(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	proc, err := child.Spawn()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer proc.Kill()
	o := warden.Options{Child: proc, TEE: "sim", NoCache: sharedMounts || !engine.Compiles()}
	if sharedMounts {
		o.Notes = append(o.Notes, "an empty file system: the Keep has no mount namespace of its own")
	} else if err := sandbox.EnterRoot(rootBytes); err != nil {
		o.NoCache = true
		o.Notes = append(o.Notes, "an empty file system: "+err.Error())
	}
	if o.Link, err = warden.OpenLink(linkFD); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := proc.Confine(!o.NoCache); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	report, failed := sandbox.Apply(sandbox.Warden, sandbox.Options{Child: proc.Pid(), UID: idIfRoot(sandbox.WardenID), GID: idIfRoot(sandbox.WardenID)})
	for _, m := range report.Missing {
		o.Notes = append(o.Notes, m.String())
	}
	o.CheckSandbox = func(weak bool) error {
		if weak {
			return nil
		}
		return failed
	}
	return warden.Run(o)
}

// runVM is a Keep as the first process of a virtual machine. When it ends the
// kernel ends the machine (panic=-1): after the sandbox nothing else may.
func runVM() int {
	lnk, err := boot.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		boot.PowerOff()
	}
	proc, err := child.Spawn()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		boot.PowerOff()
	}
	o := warden.Options{Link: lnk, Child: proc, TEE: "vm", NoCache: !engine.Compiles()}
	if err := os.Mkdir(sandbox.CacheDir, 0o777); err != nil && !os.IsExist(err) {
		o.NoCache = true
	} else if err := os.Chmod(sandbox.CacheDir, 0o1777); err != nil {
		o.NoCache = true
	}
	if err := proc.Confine(!o.NoCache); err != nil {
		fmt.Fprintln(os.Stderr, err)
		boot.PowerOff()
	}
	// Another uid, with the one capability to end the child: root without any may
	// not signal a process of another uid, and limits would end nothing.
	report, failed := sandbox.Apply(sandbox.Warden, sandbox.Options{Child: proc.Pid(), UID: sandbox.WardenID, GID: sandbox.WardenID})
	for _, m := range report.Missing {
		o.Notes = append(o.Notes, m.String())
	}
	o.CheckSandbox = func(bool) error { return failed }
	return warden.Run(o)
}

// idIfRoot asks for an id of one's own only where the process can give up root's.
func idIfRoot(id int) int {
	if os.Geteuid() != 0 {
		return 0
	}
	return id
}

func runChild() int {
	return child.Main(child.Hooks{
		CacheDir: sandbox.CacheDir,
		Compiling: func(cacheDir string) ([]string, error) {
			return applied(sandbox.Apply(sandbox.ChildCompile, sandbox.Options{
				CacheDir: cacheDir, UID: idIfRoot(sandbox.ChildID), GID: idIfRoot(sandbox.ChildID)}))
		},
		Running: func() ([]string, error) {
			return applied(sandbox.Apply(sandbox.ChildRun, sandbox.Options{}))
		},
	})
}

func applied(r sandbox.Report, err error) ([]string, error) {
	var missing []string
	for _, m := range r.Missing {
		missing = append(missing, m.String())
	}
	if err != nil {
		missing = append(missing, err.Error())
	}
	return missing, err
}
