//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/connect"
)

type connectFlags struct {
	policy, listen, identity string
	stdio                    bool
	share, shareIdentity     bool
	timeout, maxAge          time.Duration
	most                     int
	collateral               []string
	asJSON                   bool

	place connect.Place // of listen
}

func newConnectCommand(a *app) *cobra.Command {
	var f connectFlags
	c := &cobra.Command{
		Use:   "connect [flags] ADDRESS --policy POLICY",
		Short: "talk to a Keep through an attested connection",
		Long: `connect verifies the Keep at ADDRESS (HOST:PORT, [v6]:PORT or https://HOST:PORT) over
the connection itself, and shows the verdict. With --listen it then carries local
connections to it, with --stdio its own input and output: each connection is verified
afresh, and not a byte of it is read before the policy has admitted the Keep.

Who can make local connections is who can talk to the Keep from here: a Unix socket is
this user's alone, an address is open to every user and browser of this machine.

exit status: 0 done, 1 failed or not reached, 2 wrong usage, 10 not genuine,
11 genuine and refused, 12 something demanded could not be checked.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := notEmpty(c, "policy", "listen", "identity"); err != nil {
				return err
			}
			address, err := connect.ParseAddress(args[0])
			if err != nil {
				return usageError(fmt.Errorf("ADDRESS: %w", err))
			}
			if err := f.check(args[0]); err != nil {
				return err
			}
			return a.connect(f, address)
		},
	}
	c.Flags().StringVar(&f.policy, "policy", "", "what is demanded of the Keep, a policy `FILE`")
	c.Flags().StringVar(&f.listen, "listen", "", "carry the connections made to this local `ADDRESS:PORT` or unix:PATH")
	c.Flags().BoolVar(&f.stdio, "stdio", false, "carry stdin and stdout, as ssh's ProxyCommand does")
	c.Flags().StringVar(&f.identity, "identity", "", "show a Keep that asks for it the client identity in this `FOLDER` (cert.pem, key.pem; made at first use)")
	c.Flags().BoolVar(&f.share, "share", false, "listen on an address that other machines reach")
	c.Flags().BoolVar(&f.shareIdentity, "share-identity", false, "with --identity, listen on an address: whoever connects there is you")
	c.Flags().DurationVar(&f.timeout, "timeout", atls.DefaultTimeout, "`TIME` for connecting and attesting, each time")
	c.Flags().DurationVar(&f.maxAge, "max-age", connect.DefaultMaxAge, "close a connection this `TIME` after its Keep was verified")
	c.Flags().IntVar(&f.most, "max-connections", connect.DefaultMost, "carry this `NUMBER` at once; more wait")
	c.Flags().StringArrayVar(&f.collateral, "collateral", nil, "vendor data: a bundle, a file or a folder of files (`PATH`, repeatable)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the verdict as JSON")
	for _, n := range []string{"listen", "timeout", "max-age", "max-connections"} {
		_ = c.RegisterFlagCompletionFunc(n, cobra.NoFileCompletions)
	}
	_ = c.MarkFlagFilename("policy", "toml")
	_ = c.MarkFlagDirname("identity")
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

// check looks at the flags, and reads where to listen.
func (f *connectFlags) check(address string) (err error) {
	switch {
	case f.policy == "":
		return failHint(statusUsage, "donjon policy init --from-keep "+address+" writes one", errors.New("--policy is missing: what is demanded of the Keep"))
	case f.listen != "" && f.stdio:
		return usageError(errors.New("--listen and --stdio: wanted one of them"))
	case f.timeout <= 0:
		return usageError(fmt.Errorf("--timeout: found %s, wanted a time above 0", f.timeout))
	case f.maxAge <= 0:
		return usageError(fmt.Errorf("--max-age: found %s, wanted a time above 0", f.maxAge))
	case f.listen == "" && (f.share || f.shareIdentity):
		return usageError(errors.New("--share and --share-identity belong to --listen"))
	case f.most < 1:
		return usageError(fmt.Errorf("--max-connections: found %d, wanted a number above 0", f.most))
	case f.listen == "":
		return nil
	}
	if f.place, err = connect.ParsePlace(f.listen); err != nil {
		return usageError(fmt.Errorf("--listen: %w", err))
	}
	switch {
	case !f.place.Local && !f.share:
		return failHint(statusUsage, "--listen 127.0.0.1:PORT or unix:PATH; --share if other machines may talk to the Keep through this one",
			fmt.Errorf("--listen: found %q, which other machines reach", f.listen))
	case f.identity != "" && f.place.Path == "" && !f.shareIdentity: // THREATS T31
		return failHint(statusUsage, "--listen unix:PATH or --stdio; --share-identity if every user and browser of this machine may be you",
			fmt.Errorf("--identity with --listen %s: any program here could use the identity", f.listen))
	}
	return nil
}

func (a *app) connect(f connectFlags, address string) error {
	p, err := readPolicy(f.policy)
	if err != nil {
		return err
	}
	j, err := a.newConnectJudge(f.collateral)
	if err != nil {
		return err
	}
	d := &connect.Dialer{Address: address}
	d.Config.Options.Policy, d.Config.Options.Seen = p, j.seen
	d.Config.Judge, d.Config.Timeout = j.judge, f.timeout
	if f.identity != "" {
		if d.Config.Certificate, err = a.takeIdentity(f.identity); err != nil {
			return err
		}
	}
	if note := policy.TrustNote(p.Trust); note != "" {
		a.note("%s: %s", f.policy, note)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	first, err := d.Dial(ctx)
	j.remember()
	if err != nil {
		return a.notConnected(f, address, err)
	}
	if err := a.showVerdict(f, first.Verdict); err != nil {
		return err
	}
	if f.identity != "" && !first.Presented {
		a.note("the Keep did not ask for a client certificate: the identity is not shown")
	}
	switch {
	case f.stdio:
		err = (&connect.Proxy{MaxAge: f.maxAge}).Carry(ctx, first, a.stdin, closer{a.stdout})
	default:
		_ = first.Close()
		if f.listen != "" {
			err = a.carry(ctx, f, d)
		}
	}
	j.remember()
	if err != nil {
		return fail(statusFailed, err)
	}
	return nil
}

// closer closes stdout, where it is a file.
type closer struct{ io.Writer }

func (c closer) Close() error {
	if f, ok := c.Writer.(io.Closer); ok {
		return f.Close()
	}
	return nil
}

// takeIdentity reads the client's identity, or makes it.
func (a *app) takeIdentity(dir string) (*tls.Certificate, error) {
	noCores()
	id, err := connect.OpenIdentity(dir, time.Now())
	if err != nil {
		return nil, fail(statusFailed, err)
	}
	if id.Made {
		a.note("made a new identity in %s", dir)
	}
	a.note("the identity's key is sha256:%s", id.Key)
	return id.Certificate, nil
}

// showVerdict prints it; with --stdio stdout is the Keep's.
func (a *app) showVerdict(f connectFlags, v *verdict.Verdict) error {
	if !f.stdio {
		return a.printVerdict(v, f.asJSON)
	}
	if a.quiet {
		return nil
	}
	on := *a
	on.stdout = a.stderr
	return on.printVerdict(v, f.asJSON)
}

// notConnected says why there is no connection: its own status for a Keep that is not
// admitted, 1 for one that is not reached.
func (a *app) notConnected(f connectFlags, address string, err error) error {
	var refused *verdict.Error
	if errors.As(err, &refused) {
		if err := a.showVerdict(f, refused.Verdict); err != nil {
			return err
		}
		return verdictStatus(refused.Verdict)
	}
	return unreached(address, err)
}

func unreached(address string, err error) error {
	hint := ""
	var dns *net.DNSError
	var busy *atls.RemoteError
	switch {
	case errors.As(err, &dns):
		hint = "is the name right?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "is the Keep running, and is this the address of one of its TLS listeners?"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		hint = "does a TLS listener of a Keep answer there? --timeout gives it longer"
	case errors.As(err, &busy) && errors.Is(err, atls.ErrBusy):
		hint = "others are attesting it: try again later, or give it longer with --timeout"
	}
	return failHint(statusFailed, hint, fmt.Errorf("%s: not reached: %w", address, err))
}

// carry listens until it is told to end.
func (a *app) carry(ctx context.Context, f connectFlags, d *connect.Dialer) error {
	l, err := f.place.Listen()
	if err != nil {
		hint := "is another connect running? --listen names another place"
		switch {
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, fs.ErrPermission):
			hint = "--listen names another place"
		case errors.Is(err, fs.ErrNotExist):
			hint = "the folder of the socket must be there: mkdir -p -m 700 FOLDER"
		}
		return failHint(statusFailed, hint, fmt.Errorf("--listen: %w", err))
	}
	place := l.Addr().String()
	if f.place.Path != "" {
		place = connect.UnixPrefix + f.place.Path
	}
	a.note("listening on %s; each connection is verified afresh", place)
	if !f.place.Local {
		a.note("--share: other machines talk to the Keep through this one, without encryption on the way here")
	}
	p := &connect.Proxy{Dial: d.Dial, MaxAge: f.maxAge, Most: f.most,
		Failed: func(local net.Addr, err error) { a.localFailed(local, err) },
		Full:   func(most int) { a.note("%d connections are carried: more wait until one ends", most) },
		Quiet:  debug.FreeOSMemory}
	// Verifying makes garbage, and then there are connections that only wait: little
	// beside them counts for more than the time that collecting takes.
	debug.SetGCPercent(30)
	notifySystemd("READY=1")
	err = p.Serve(ctx, l)
	notifySystemd("STOPPING=1")
	if err == nil {
		a.note("ended")
	}
	return err
}

// localFailed says what became of one local connection. It is an error: --quiet leaves
// it in.
func (a *app) localFailed(local net.Addr, err error) {
	from := "a local connection"
	if t, ok := local.(*net.TCPAddr); ok {
		from = "the connection from " + t.String()
	}
	hint := ""
	var refused *verdict.Error
	switch {
	case errors.As(err, &refused):
		err = verdictStatus(refused.Verdict)
		hint = hintOf(err)
		err = fmt.Errorf("%s is refused: %w", from, err)
	default:
		err = fmt.Errorf("%s is closed: %w", from, err)
	}
	// One write: many may be said at once.
	text := fmt.Sprintf("donjon: %s\n", message(err.Error()))
	if hint != "" {
		text += fmt.Sprintf("hint: %s\n", message(hint))
	}
	_, _ = io.WriteString(a.stderr, text)
}
