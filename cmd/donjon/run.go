//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/sim"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [flags] WORKLOAD [-- ARGS]",
		Short: "run a workload in a Keep",
		Long: `run launches a Keep and runs WORKLOAD in it: a WebAssembly module, or a folder
with main.wasm and Donjon.toml or Enarx.toml. stdout is the workload's own.

exit status: the workload's own; 2 wrong usage, 125 the Keep could not be
started or ended abnormally (a limit or a trap too), 126 the workload cannot be
run, 127 not found, 128+N ended by signal N.`,
		RunE: func(c *cobra.Command, args []string) error {
			name, rest, err := splitArgs(c, args)
			if err != nil {
				return err
			}
			for _, flag := range []string{"evidence", "kernel", "keep", "tee", "config", "role"} {
				if c.Flags().Changed(flag) && c.Flags().Lookup(flag).Value.String() == "" {
					return failHint(statusUsage, "is a variable of the shell unset?", fmt.Errorf("--%s: found an empty value", flag))
				}
			}
			return a.runReported(f, name, rest)
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.tee, "tee", "", "`WHERE` to run: sim (a sandboxed process) or vm (a virtual machine); neither is a TEE")
	c.Flags().StringArrayVar(&f.bind, "bind", nil, "move a declared listener, `NAME=ADDRESS:PORT` (not measured)")
	c.Flags().StringArrayVar(&f.dir, "dir", nil, "give the workload a folder of this host, `HOST::GUEST` (sim alone, for development)")
	c.Flags().StringArrayVar(&f.allowConnect, "allow-connect", nil, "let the workload reach link-local or metadata `ADDRESS`es")
	c.Flags().StringVar(&f.role, "role", "", "the `ROLE` to run in, of those that the configuration lists (not measured)")
	c.Flags().StringVar(&f.evidence, "evidence", "", "write evidence about the Keep to `FILE`")
	c.Flags().StringVar(&f.nonce, "nonce", "", "put this nonce into the evidence, 8 to 64 bytes in `HEX`")
	c.Flags().DurationVar(&f.grace, "grace", 2*time.Second, "`TIME` to end after the first SIGINT or SIGTERM")
	c.Flags().StringVar(&f.keepProgram, "keep", "", "the donjon-keep to start, `FILE` (default: beside donjon)")
	c.Flags().StringVar(&f.kernel, "kernel", "", "kernel of a vm Keep, `FILE` (default: found or downloaded)")
	c.Flags().StringVar(&f.arch, "arch", "", "processor of a vm Keep: amd64, arm64 or ppc64le; another than this host's is emulated (implies --tee vm)")
	c.Flags().BoolVar(&f.weak, "weak-sandbox", false, "start a sim Keep although its sandbox cannot be applied")
	c.Flags().BoolVar(&f.noCache, "no-cache", false, "compile anew, and store nothing")
	c.Flags().BoolVar(&f.asJSON, "json", false, "say how the Keep ended in a line of JSON, the last on stderr")
	c.Flags().StringVar(&f.maxMemory, "max-memory", "", "the host's own ceiling of guest memory, a `SIZE` (not measured)")
	c.Flags().DurationVar(&f.maxCPU, "max-cpu", 0, "the host's own ceiling of processor time, a `TIME` (not measured)")
	completeWorkload(c)
	return c
}

// workloadFailure gives a loading error its exit status.
func workloadFailure(err error) error {
	var usage *workload.UsageError
	switch {
	case errors.As(err, &usage):
		return fail(statusUsage, err)
	case errors.Is(err, workload.ErrNotFound):
		return fail(statusNotFound, err)
	}
	return fail(statusWorkload, err)
}

// loadModule loads a workload whose digest is to be believed in later: what can be no
// workload gets no signature and no policy.
func loadModule(name string, f workload.Flags) (*workload.Workload, error) {
	w, err := workload.Load(name, f)
	if err != nil {
		return nil, workloadFailure(err)
	}
	if err := w.CheckModule(); err != nil {
		return nil, fail(statusWorkload, fmt.Errorf("%s: %w", name, err))
	}
	return w, nil
}

func (a *app) runWorkload(f runFlags, name string, args []string, end *ending) error {
	p, wf, err := f.parse()
	if err != nil {
		return err
	}
	wf.Args = args
	var early *sim.Early
	if p.tee == "sim" {
		if program, err := a.keepProgram(f.keepProgram); err == nil { // an error has its turn below
			known := ""
			if state, err := a.stateDir(); err == nil {
				known = filepath.Join(state, "silicon")
			}
			early = sim.Begin(keep.Spec{Arch: f.processor(), KeepProgram: program, Weak: f.weak}, known)
			defer early.Abandon() // where it is not taken
		}
	}
	w, err := workload.Load(name, wf)
	if err != nil {
		return workloadFailure(err)
	}
	if err := w.InRole(f.role); err != nil {
		return workloadFailure(err)
	}
	for b := range p.bind {
		found := false
		for _, d := range w.Config.Descriptors() {
			found = found || d.Kind == "listen" && d.Name == b
		}
		if !found {
			return failHint(statusUsage, "listeners are declared in the configuration: kind = \"listen\"", fmt.Errorf("--bind: the configuration declares no listener %q", b))
		}
	}
	if len(w.Config.HostDirs) != len(p.dirs) {
		return failHint(statusWorkload, "give each with --dir HOST::GUEST", fmt.Errorf("the configuration has %d host_dirs, --dir gave %d", len(w.Config.HostDirs), len(p.dirs)))
	}
	secret := w.Config.Steward != "" || len(w.Config.Secrets) > 0
	if admitted := w.Config.TEE; len(admitted) > 0 && !slices.Contains(admitted, p.tee) {
		tee := p.tee
		if f.tee == "" && f.arch == "" {
			tee = "sim, all that this host offers unasked"
		}
		return failHint(statusKeep, "run it with --tee of one of these", fmt.Errorf("the configuration admits tee = %q, and this would be %s", admitted, tee))
	}
	switch {
	case f.tee == "" && secret:
		return failHint(statusKeep, "--tee sim or --tee vm asks for one: the owner of this machine can then read the secrets", errors.New("the configuration names a Steward or secrets, and this host has no TEE that donjon can use: a sim or vm Keep must be asked for by name"))
	case p.tee == "sim" && f.tee == "":
		a.note("no TEE here that this release can use: running in a sim Keep; nothing is confidential")
	case p.tee == "vm" && len(p.dirs) > 0:
		return failHint(statusKeep, "--tee sim, for development; or a measured data folder", errors.New("--dir: the host would see and change all of the folder, and a vm Keep is to be kept apart from its host"))
	case p.tee == "vm":
		a.detail("a vm Keep: an ordinary virtual machine with simulated silicon, nothing is confidential")
	case p.tee == "sim":
		a.detail("a sim Keep: simulated silicon, nothing is confidential")
	default:
		return failHint(statusKeep, "donjon platform shows what this host has; --tee sim runs it for development", fmt.Errorf("--tee %s is not available in this release", f.tee))
	}
	if f.evidence != "" {
		if err := checkEvidenceFile(f.evidence); err != nil {
			return fail(statusKeep, err)
		}
	}
	program, err := a.keepProgramFor(f.keepProgram, f.processor())
	if err != nil {
		return err
	}
	return a.launch(f, p, w, program, early, end)
}

// keepProgram finds donjon-keep: named, or beside this program.
func (a *app) keepProgram(named string) (string, error) {
	if named == "" {
		named = a.getenv("DONJON_KEEP")
	}
	if named == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", fail(statusKeep, fmt.Errorf("finding donjon-keep: %w", err))
		}
		named = filepath.Join(filepath.Dir(exe), "donjon-keep")
	}
	// Without a folder in it a name would be looked for in PATH.
	if abs, err := filepath.Abs(named); err == nil {
		named = abs
	}
	if st, err := os.Stat(named); err != nil || !st.Mode().IsRegular() {
		return "", failHint(statusKeep, "make build makes it; --keep FILE or DONJON_KEEP names one", fmt.Errorf("no donjon-keep at %s", named))
	}
	return named, nil
}

func (a *app) launch(f runFlags, p parsed, w *workload.Workload, program string, early *sim.Early, end *ending) error {
	state, err := a.stateDir()
	if err != nil {
		return fail(statusKeep, err)
	}
	opening := openSilicon(filepath.Join(state, "silicon"))
	signals := catchSignals()
	defer signals.release()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	spec := keep.Spec{HostData: w.Digest, Arch: f.processor(), KeepProgram: program, Kernel: f.kernel, Weak: f.weak, Verbose: a.verbose, Progress: a.progress}
	tee := p.tee
	end.TEE, end.Simulated, end.WorkloadDigest = tee, true, w.Digest.String()
	var machine keep.Machine
	if tee == "vm" {
		// The guest is told how much there is: it hears of a limit, where otherwise
		// the machine's kernel would kill it without a word.
		if _, err := opening(); err != nil { // before a boot that takes seconds
			return err
		}
		spec.Memory, p.ceiling.Memory = vmMemory(uint64(len(w.Module)), w.Config.Limits.Memory, p.ceiling.Memory)
		machine, err = a.launchVM(ctx, signals.stop, spec)
	} else {
		machine, err = early.Take(ctx, spec)
	}
	if errors.Is(err, errStopped) {
		return end.ended(keep.Outcome{Stopped: true}, nil, signals.name)
	}
	if err != nil {
		return fail(statusKeep, err)
	}
	kill := func() { _ = machine.Kill(); _ = machine.Wait() }
	signals.onSecond(kill)
	sil, err := opening()
	if err != nil {
		kill()
		return err
	}
	if tee == "sim" {
		for _, n := range machine.Notes() {
			a.note("sandbox: not applied: %s", n)
		}
	}
	var signatures [][]byte
	if w.Config.Steward != "" || w.Config.Attests() {
		signatures = a.signaturesOf(w)
	}
	guest := sil.Guest(silicon.Launch{HostData: w.Digest}, machine.Measurement)
	o := keep.Options{
		Workload: w, Signatures: signatures, Machine: machine, TEE: tee, Silicon: guest,
		Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Terminals: a.terminals(),
		Bind: p.bind, HostDirs: p.dirs, Dialer: keep.Dialer{Allow: p.allow},
		Ceilings: p.ceiling, Stop: signals.stop, Grace: f.grace,
		WantEvidence: f.evidence != "", Nonce: p.nonce, Patience: patience(tee, spec.Arch),
		OnEvidence: func(b []byte) error { return writeEvidenceFile(f.evidence, b) },
		NoCache:    f.noCache, Weak: f.weak, Verbose: a.verbose,
		Log: func(level int, text string) {
			if level == 0 {
				a.note("%s", oneLine(text))
			} else {
				a.detail("%s", oneLine(text))
			}
		},
	}
	if dir := a.cacheDir(); !f.noCache && dir != "" {
		o.Blobs = keep.Blobs{Dir: filepath.Join(dir, "blobs")}
	}
	a.detail("workload digest %s", w.Digest)
	if f.role != "" {
		a.detail("in the role %s, which is not measured", f.role)
	}
	if n, m := len(w.Host.Args), len(w.Host.Env); n+m > 0 {
		a.detail("not measured, as host_args and host_env have it: %d arguments, %d variables", n, m)
	}
	out, err := keep.Supervise(ctx, o)
	if out.Exit.Kind == link.ExitFailed {
		for _, l := range machine.Console() {
			a.detail("console: %s", oneLine(l))
		}
	}
	return end.ended(out, err, signals.name)
}

// openSilicon opens the simulated processor beside the Keep's start; what it gives
// waits for it.
func openSilicon(dir string) func() (*silicon.Silicon, error) {
	type opened struct {
		s   *silicon.Silicon
		err error
	}
	done := make(chan opened, 1)
	go func() {
		s, err := silicon.Open(dir)
		done <- opened{s, err}
	}()
	return sync.OnceValues(func() (*silicon.Silicon, error) {
		o := <-done
		if o.err != nil && hintOf(o.err) == "" {
			return nil, failHint(statusKeep, "the simulated root is kept there; XDG_STATE_HOME names another place", o.err)
		}
		if o.err != nil {
			return nil, fail(statusKeep, o.err)
		}
		return o.s, nil
	})
}
