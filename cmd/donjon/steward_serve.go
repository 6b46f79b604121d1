//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/store"
)

// serveFlags are what serve takes; steward.toml has the same by other names.
type serveFlags struct {
	state, config  string
	listen         string
	names          []string
	allowSimulated bool
	trustDomain    string
	database       string
	collateral     []string
	enarx, kvm     bool
	enarxPolicy    string
	logFormat      string
	grace          time.Duration
	retention      time.Duration // of steward.toml alone
	sealing        sealingSettings
}

func newStewardServe(a *app) *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "run a Steward",
		Long: `serve answers on one TLS port. With no configuration it makes, at its first start,
a CA, a database and an administrator's token in its state folder, and prints the
next three commands. Flags go before steward.toml in the state folder, which init
writes.

A Keep refuses a server that does not present a certificate of this Steward's own, so
a proxy in front must pass the TLS connection through.

exit status: 0 ended by SIGINT or SIGTERM, 1 failed, 2 wrong usage.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.stewardServe(c, f) },
	}
	c.Flags().StringVar(&f.state, "state", "", "state `FOLDER` (default: this user's)")
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE` (default: steward.toml in the state folder)")
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8443", "`ADDRESS:PORT` to answer on")
	c.Flags().StringArrayVar(&f.names, "name", nil, "host `NAME` or address that Keeps reach this Steward by (repeatable; localhost, this host's name and the address of --listen always)")
	c.Flags().BoolVar(&f.allowSimulated, "allow-simulated", false, "let policies that say so admit simulated evidence, which protects nothing: for development")
	c.Flags().StringVar(&f.trustDomain, "trust-domain", "", "trust domain of SPIFFE IDs (`NAME`; default: one of this Steward's own)")
	c.Flags().StringVar(&f.database, "database", "", "PostgreSQL `URL`, for many replicas (default: SQLite in the state folder); its password belongs in steward.toml or PGPASSFILE: every user sees this line")
	c.Flags().StringArrayVar(&f.collateral, "collateral", nil, "vendor data beside what is stapled: a bundle, a file or a folder (`PATH`, repeatable; read again each minute)")
	c.Flags().BoolVar(&f.enarx, "enarx", false, "answer Enarx's requests at POST / under a CA of their own; see docs/steward.md for what they lack")
	c.Flags().BoolVar(&f.kvm, "enarx-kvm", false, "with --enarx and --allow-simulated: certify KVM requests, which prove nothing")
	c.Flags().StringVar(&f.enarxPolicy, "enarx-policy", "", "what Enarx's requests must show: Enarx's own TOML or a policy, a `FILE`")
	c.Flags().StringVar(&f.logFormat, "log", "text", "form of the log on stderr: text or json")
	c.Flags().DurationVar(&f.grace, "grace", 10*time.Second, "`TIME` for requests that have begun when it is told to end")
	f.sealing.register(c)
	_ = c.MarkFlagDirname("state")
	_ = c.MarkFlagFilename("config", "toml")
	return c
}

func (a *app) stewardServe(c *cobra.Command, f serveFlags) error {
	dir, err := a.stewardState(f.state)
	if err != nil {
		return err
	}
	limits, err := f.merge(c, dir)
	if err != nil {
		return err
	}
	log, err := a.serveLog(f.logFormat)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return usageError(fmt.Errorf("--listen: found %q, wanted ADDRESS:PORT", f.listen))
	}
	run := serving{Listen: f.listen, Names: ownNames(f.names, host), AllowSimulated: f.allowSimulated, TrustDomain: f.trustDomain, Database: f.database}
	rules, err := f.enarxRules()
	if err != nil {
		return err
	}
	if err := f.sealing.settle(a); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// The port first: a second server on the state would change what the others read.
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return failHint(statusFailed, "is another server running there? --listen names another port", err)
	}
	defer l.Close()
	run.Listen = l.Addr().String()
	unlock, err := a.claim(ctx, dir, run.Database, log, end) // before the keys are read
	if err != nil {
		return err
	}
	defer unlock()
	noCores()
	st, err := a.openState(ctx, dir, stateOptions{create: true, serving: &run, sealing: &f.sealing})
	if err != nil {
		return err
	}
	defer st.close()
	st.limits, st.enarx, st.retention = limits, rules, f.retention
	if err := a.loadStewardCollateral(st, f.collateral); err != nil {
		return err
	}
	if err := st.publish(); err != nil {
		return fail(statusFailed, err)
	}
	first, err := st.firstToken(ctx)
	if err != nil {
		return fail(statusFailed, err)
	}
	s, err := st.server(ctx, log)
	if err != nil {
		return fail(statusFailed, err)
	}
	if err := a.sealedElsewhere(ctx, st); err != nil {
		return fail(statusFailed, err)
	}
	if err := a.fromBefore(ctx, st); err != nil {
		return fail(statusFailed, err)
	}
	go a.reloadCollateral(ctx, st, f.collateral, log)
	a.note("the Steward answers on https://%s; state in %s", run.Listen, dir)
	if run.AllowSimulated {
		a.note("--allow-simulated: policies may admit simulated evidence, which protects nothing")
	}
	if st.enarx != nil {
		a.note("--enarx: requests in Enarx's form are certified under %s; they have no nonce and name no workload", st.path(stewardEnarxCA))
		for _, n := range st.enarx.Notes {
			a.note("--enarx-policy: %s", n)
		}
		if st.enarx.Policy == nil {
			a.note("--enarx without --enarx-policy: nothing is good enough")
		}
	}
	if first {
		a.nextCommands(dir, run.Listen)
	}
	if st.sealedFirst {
		a.recoveryHint(dir)
	}
	notifySystemd("READY=1")
	err = s.Serve(ctx, l, f.grace)
	notifySystemd("STOPPING=1")
	if err != nil {
		return fail(statusFailed, err)
	}
	var moved *failure
	if errors.As(context.Cause(ctx), &moved) {
		return moved
	}
	a.note("the Steward ended")
	return nil
}

// noCores keeps keys and secrets out of core dumps, and other processes of this user
// out of the memory. It is a second line: where the kernel does not know it, the
// server runs.
func noCores() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

// sealedElsewhere says at the start which secrets no key here opens, and not at the
// first enrolment that wants one.
func (a *app) sealedElsewhere(ctx context.Context, st *state) error {
	ids, err := st.ring.KeyIDs()
	if err != nil {
		return err
	}
	current, err := st.ring.KeyID()
	if err != nil {
		return err
	}
	list, err := st.store.StaleSecrets(ctx, current, store.MaxPage)
	if err != nil {
		return err
	}
	n, first := 0, ""
	for _, x := range list {
		if !slices.Contains(ids, x.KeyID) {
			if n++; n == 1 {
				first = fmt.Sprintf("%s of %s, under the key %s", x.Name, x.Workload, x.KeyID)
			}
		}
	}
	if n > 0 {
		a.note("%d secrets cannot be opened, the first %s: put back that key in %s, or set them again", n, printable(first), printable(sealingDir(st.path(stewardKeys))))
	}
	return nil
}

// nextCommands are printed at the first start.
func (a *app) nextCommands(dir, listen string) {
	state := ""
	if def, err := a.stewardState(""); err != nil || def != dir {
		state = " --state " + shellWord(dir)
	}
	if host, port, err := net.SplitHostPort(listen); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			listen = net.JoinHostPort("localhost", port) // which its certificate has
		}
	}
	fmt.Fprintf(a.stderr, `
A new Steward: its roots are in %[1]s, the administrator's token is in %[2]s.
Copy %[1]s beside a workload's Donjon.toml, and name the Steward in it:
    steward = "https://%[3]s"
    steward_ca = "ca.pem"
Then:
    donjon steward workload allow%[4]s app/
    printf s3cret | donjon steward secret set%[4]s --workload app/ db-password
    donjon run --tee sim app/

`, printable(filepath.Join(dir, stewardCA)), printable(filepath.Join(dir, stewardToken)), listen, printable(state))
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ownNames are the names given, this host's, and the address it listens on.
func ownNames(given []string, listen string) []string {
	out := append([]string{}, given...)
	if listen != "" {
		if ip := net.ParseIP(strings.Trim(listen, "[]")); ip == nil || !ip.IsUnspecified() {
			out = append(out, listen)
		}
	}
	if h, err := os.Hostname(); err == nil && h != "" && !strings.Contains(h, "_") {
		out = append(out, h)
	}
	return out
}

func (a *app) serveLog(form string) (*slog.Logger, error) {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	if a.quiet {
		level = slog.LevelError
	}
	o := &slog.HandlerOptions{Level: level}
	switch form {
	case "text":
		return slog.New(slog.NewTextHandler(a.stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.stderr, o)), nil
	}
	return nil, usageError(fmt.Errorf("--log: found %q, wanted text or json", form))
}

// loadStewardCollateral reads the vendor data that was named.
func (a *app) loadStewardCollateral(s *state, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	set, err := a.readCollateral(paths)
	if err != nil {
		return err
	}
	s.collateral.Store(set)
	return nil
}

// reloadCollateral reads it again each minute. What cannot be read leaves what there
// was: it ends by its own dates.
func (a *app) reloadCollateral(ctx context.Context, s *state, paths []string, log *slog.Logger) {
	if len(paths) == 0 {
		return
	}
	quiet := &app{stdin: a.stdin, stdout: io.Discard, stderr: io.Discard, getenv: a.getenv, quiet: true}
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := quiet.loadStewardCollateral(s, paths); err != nil {
				log.Error("collateral could not be read again", "error", err)
			}
		}
	}
}

// enarxRules reads what the endpoint in Enarx's form demands.
func (f *serveFlags) enarxRules() (*enrol.Enarx, error) {
	if !f.enarx {
		if f.kvm || f.enarxPolicy != "" {
			return nil, usageError(errors.New("--enarx-kvm and --enarx-policy belong to --enarx"))
		}
		return nil, nil
	}
	if f.kvm && !f.allowSimulated {
		return nil, usageError(errors.New("--enarx-kvm needs --allow-simulated: KVM evidence proves nothing"))
	}
	rules := &enrol.Enarx{AllowKVM: f.kvm}
	if f.enarxPolicy != "" {
		b, err := readAtMost(f.enarxPolicy, 1<<20)
		if err != nil {
			return nil, err
		}
		if err := rules.Parse(b); err != nil {
			return nil, failHint(statusUsage, "docs/steward.md, Enarx", fmt.Errorf("--enarx-policy %s: %w", f.enarxPolicy, err))
		}
	}
	return rules, nil
}

// notifySystemd tells systemd (sd_notify(3)); elsewhere it does nothing.
func notifySystemd(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}

// fromBefore says at the start that tokens or policies grant nothing until they are
// taken over, and not at the first request that needs one.
func (a *app) fromBefore(ctx context.Context, st *state) error {
	tokens, err := st.store.Tokens(ctx)
	if err != nil {
		return err
	}
	policies, err := st.store.Subjects(ctx, "", store.MaxPage)
	if err != nil {
		return err
	}
	t, p := 0, 0
	for _, x := range tokens {
		if x.Doubt == store.Unproven && x.Revoked.IsZero() {
			t++
		}
	}
	for _, x := range policies {
		if x.Doubt == store.Unproven {
			p++
		}
	}
	if t+p > 0 {
		a.note("%d tokens and the policies of %d workloads have no MAC and grant nothing: after an earlier release donjon steward adopt --state %s takes them over", t, p, printable(st.dir))
	}
	return nil
}
