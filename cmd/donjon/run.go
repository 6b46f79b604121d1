//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/sim"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// runFlags are what `donjon run` takes; workloadFlags is the part that is
// measured, which inspect takes too.
type runFlags struct {
	workloadFlags
	tee          string
	bind, dir    []string
	allowConnect []string
	evidence     string
	nonce        string
	grace        time.Duration
	keepProgram  string
	kernel       string
	arch         string
	weak         bool
	noCache      bool
	asJSON       bool
	maxMemory    string
	maxCPU       time.Duration
}

type workloadFlags struct {
	env                             []string
	config                          string
	memory, cpuTime, wallTime, outp string
}

func (f *workloadFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.env, "env", nil, "set a variable of the workload, `NAME=VALUE` (measured, unless host_env names it)")
	c.Flags().StringVar(&f.config, "config", "", "configuration beside a bare module, `FILE` (measured)")
	c.Flags().StringVar(&f.memory, "memory", "", "limit of memory, a `SIZE` such as 256MiB (measured)")
	c.Flags().StringVar(&f.cpuTime, "cpu-time", "", "limit of processor time, a `TIME` such as 10s (measured)")
	c.Flags().StringVar(&f.wallTime, "wall-time", "", "limit of time, a `TIME` such as 1m (measured)")
	c.Flags().StringVar(&f.outp, "output", "", "limit of output, a `SIZE` such as 10MiB (measured)")
}

func (f *workloadFlags) flags(args []string) workload.Flags {
	return workload.Flags{Config: f.config, Args: args, Env: f.env, Memory: f.memory, CPUTime: f.cpuTime, WallTime: f.wallTime, Output: f.outp}
}

// splitArgs takes WORKLOAD and what stands behind --. nil: nothing was given.
func splitArgs(c *cobra.Command, args []string) (string, []string, error) {
	dash := c.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	if dash != 1 {
		return "", nil, failHint(statusUsage, "usage: "+c.UseLine(), fmt.Errorf("found %d workloads, wanted 1; the workload's own arguments come after --", dash))
	}
	if len(args) == dash && c.ArgsLenAtDash() < 0 {
		return args[0], nil, nil
	}
	return args[0], append([]string{}, args[1:]...), nil
}

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
			return a.runReported(f, name, rest)
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.tee, "tee", "", "`WHERE` to run: sim (a sandboxed process) or vm (a virtual machine); neither is a TEE")
	c.Flags().StringArrayVar(&f.bind, "bind", nil, "move a declared listener, `NAME=ADDRESS:PORT` (not measured)")
	c.Flags().StringArrayVar(&f.dir, "dir", nil, "give the workload a folder of this host, `HOST::GUEST` (sim alone, for development)")
	c.Flags().StringArrayVar(&f.allowConnect, "allow-connect", nil, "let the workload reach link-local or metadata `ADDRESS`es")
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

// parsed is what the flags say, checked.
type parsed struct {
	tee     string // "sim" where nothing was asked for
	nonce   []byte
	bind    map[string]string
	dirs    []*os.Root
	allow   []netip.Prefix
	ceiling keep.Ceilings
}

func (f *runFlags) parse() (p parsed, w workload.Flags, err error) {
	bad := func(format string, args ...any) (parsed, workload.Flags, error) {
		return p, w, failHint(statusUsage, "donjon help run", fmt.Errorf(format, args...))
	}
	switch f.tee {
	case "", "sim", "vm", "snp", "sev", "tdx", "sgx", "pef":
	default:
		return bad("--tee: found %q, wanted one of sim, vm, snp, tdx, sgx, pef", f.tee)
	}
	if f.tee == "sev" { // Enarx's name of it
		f.tee = "snp"
	}
	if p.tee, err = f.place(); err != nil {
		return bad("%w", err)
	}
	if f.nonce != "" {
		if p.nonce, err = hex.DecodeString(f.nonce); err != nil || len(p.nonce) < 8 || len(p.nonce) > 64 {
			return bad("--nonce: found %q, wanted 8 to 64 bytes in hexadecimal", f.nonce)
		}
		if f.evidence == "" {
			return bad("--nonce goes with --evidence FILE")
		}
	}
	p.bind = map[string]string{}
	for _, b := range f.bind {
		name, addr, ok := strings.Cut(b, "=")
		if !ok || name == "" || !isAddress(addr) {
			return bad("--bind: found %q, wanted NAME=ADDRESS:PORT", b)
		}
		p.bind[name] = addr
	}
	for _, x := range f.allowConnect {
		pre, err := netip.ParsePrefix(x)
		if err != nil {
			addr, aerr := netip.ParseAddr(x)
			if aerr != nil {
				return bad("--allow-connect: found %q, wanted an address or a prefix", x)
			}
			pre = netip.PrefixFrom(addr, addr.BitLen())
		}
		p.allow = append(p.allow, pre)
	}
	if p.ceiling.Memory, err = workload.ParseSize(f.maxMemory); err != nil {
		return bad("--max-memory: %w", err)
	}
	if f.grace < 0 || f.maxCPU < 0 {
		return bad("--grace and --max-cpu: found a time below 0")
	}
	p.ceiling.CPU = f.maxCPU
	w = f.flags(nil)
	for _, d := range f.dir {
		host, guest, ok := strings.Cut(d, "::")
		if !ok || host == "" || guest == "" {
			return bad("--dir: found %q, wanted HOST::GUEST", d)
		}
		root, err := os.OpenRoot(host)
		if errors.Is(err, os.ErrNotExist) {
			return p, w, fail(statusNotFound, fmt.Errorf("--dir %s: not found", host))
		}
		if err != nil {
			return p, w, fail(statusKeep, fmt.Errorf("--dir: %w", err))
		}
		p.dirs = append(p.dirs, root)
		w.HostDirs = append(w.HostDirs, guest)
	}
	return p, w, nil
}

// isAddress says whether a is ADDRESS:PORT; the address may be a name or empty,
// which is all addresses.
func isAddress(a string) bool {
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
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

func (a *app) runWorkload(f runFlags, name string, args []string, end *ending) error {
	p, wf, err := f.parse()
	if err != nil {
		return err
	}
	wf.Args = args
	w, err := workload.Load(name, wf)
	if err != nil {
		return workloadFailure(err)
	}
	for b := range p.bind {
		found := false
		for _, d := range w.Config.Files {
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
		return failHint(statusKeep, "this release cannot enrol with a Steward yet (LIMITATIONS.md): remove steward, steward_ca and secrets to run without", errors.New("the configuration names a Steward or secrets, and this host has no TEE that donjon can use: a sim or vm Keep must be asked for by name"))
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
	return a.launch(f, p, w, program, end)
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
		return "", failHint(statusKeep, "make build makes it; --keep FILE names one", fmt.Errorf("no donjon-keep at %s", named))
	}
	return named, nil
}

func (a *app) launch(f runFlags, p parsed, w *workload.Workload, program string, end *ending) error {
	state, err := a.stateDir()
	if err != nil {
		return fail(statusKeep, err)
	}
	sil, err := silicon.Open(filepath.Join(state, "silicon"))
	if err != nil && hintOf(err) == "" {
		return failHint(statusKeep, "the simulated root is kept there; XDG_STATE_HOME names another place", err)
	}
	if err != nil {
		return fail(statusKeep, err)
	}
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
		spec.Memory, p.ceiling.Memory = vmMemory(uint64(len(w.Module)), w.Config.Limits.Memory, p.ceiling.Memory)
		machine, err = a.launchVM(ctx, signals.stop, spec)
	} else {
		machine, err = sim.Launch(ctx, spec)
	}
	if errors.Is(err, errStopped) {
		return end.ended(keep.Outcome{Stopped: true}, nil, signals.name)
	}
	if err != nil {
		return fail(statusKeep, err)
	}
	signals.onSecond(func() { _ = machine.Kill(); _ = machine.Wait() })
	if tee == "sim" {
		for _, n := range machine.Notes() {
			a.note("sandbox: not applied: %s", n)
		}
	}
	guest := sil.Guest(silicon.Launch{HostData: w.Digest}, machine.Measurement)
	o := keep.Options{
		Workload: w, Machine: machine, TEE: tee, Silicon: guest,
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
