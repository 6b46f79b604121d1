//go:build linux

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/keyring/private"
)

// judgeFlags are what verify and policy init have in common.
type judgeFlags struct {
	at         string
	collateral []string
	asJSON     bool
}

func (f *judgeFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.at, "at", "", "judge at this `TIME` (RFC 3339; default: now)")
	c.Flags().StringArrayVar(&f.collateral, "collateral", nil, "vendor data: a bundle, a file or a folder of files, told apart by content (`PATH`, repeatable)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
}

type verifyFlags struct {
	judgeFlags
	tokenFlags
	policy, nonce, eventLog string
	platformOnly            bool
}

func newVerifyCommand(a *app) *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify [flags] EVIDENCE",
		Short: "judge evidence: is it genuine, and does a policy admit it",
		Long: `verify finds out by the content what EVIDENCE is (an SEV-SNP report, an SGX or TDX
quote, a TPM quote, a Nitro document, a certificate or request that carries one of
them; binary, hexadecimal, base64, PEM, DER, JSON or CBOR; - is stdin), checks it up
to the vendor's root, holds it against the policy, and shows every check.

Without --policy the platform is judged by the defaults, and which software runs is
not judged: the status is 12, or 0 with --platform-only.

exit status: 0 genuine and admitted, 1 failed, 2 wrong usage, 10 malformed or not
genuine, 11 genuine and refused, 12 something demanded could not be checked.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			// An empty variable in a script must not turn a demand into none.
			if err := notEmpty(c, "policy", "nonce", "at", "event-log", "token", "token-key", "token-audience"); err != nil {
				return err
			}
			return a.verify(f, args[0])
		},
	}
	f.judgeFlags.register(c)
	f.tokenFlags.register(c)
	c.Flags().StringVar(&f.policy, "policy", "", "what is demanded, a policy `FILE` (donjon policy init writes one)")
	c.Flags().StringVar(&f.nonce, "nonce", "", "the nonce that evidence must hold, 8 to 64 bytes in `HEX`")
	c.Flags().StringVar(&f.eventLog, "event-log", "", "a TCG or CCEL event `FILE` to replay against the registers that were signed")
	c.Flags().BoolVar(&f.platformOnly, "platform-only", false, "judge the platform, not which software and workload it runs")
	return c
}

// notEmpty refuses flags that are given without a value.
func notEmpty(c *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := c.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return usageError(fmt.Errorf("--%s: found nothing, wanted a value", name))
		}
	}
	return nil
}

func (a *app) verify(f verifyFlags, name string) error {
	o := attest.Options{PlatformOnly: f.platformOnly}
	var err error
	if o.Nonce, err = nonceFlag(f.nonce); err != nil {
		return err
	}
	if f.policy != "" {
		if o.Policy, err = readPolicy(f.policy); err != nil {
			return err
		}
	}
	key, err := f.signer()
	if err != nil {
		return err
	}
	evidence, err := a.judged(f.judgeFlags, name, &o)
	if err != nil {
		return err
	}
	if f.eventLog != "" {
		if o.EventLog, err = readAtMost(f.eventLog, 16<<20); err != nil {
			return err
		}
	}
	save, err := a.seenCollateral(f.at, &o)
	if err != nil {
		return err
	}
	var v attest.Verifier
	a.addCached(&v, evidence, &o)
	out := v.Verify(evidence, o)
	if err := save(); err != nil {
		a.note("what was seen of collateral could not be remembered: %v", err)
	}
	if err := a.printVerdict(out, f.asJSON); err != nil {
		return err
	}
	if err := f.write(out, key); err != nil {
		return err
	}
	return verdictStatus(out)
}

// addCached adds what the cache has for this evidence, where something is missing
// without it. Nothing is fetched.
func (a *app) addCached(v *attest.Verifier, evidence []byte, o *attest.Options) {
	first := *o
	first.Seen, first.PlatformOnly = nil, true
	out := v.Verify(evidence, first)
	if out.Claims == nil || out.Outcome == verdict.Admitted {
		return
	}
	o.Collateral = collateral.Merge(o.Collateral, a.cachedCollateral(out.Claims))
}

// verdictStatus passes the verdict on as the exit status, with the check that
// decided in one line on stderr.
func verdictStatus(v *verdict.Verdict) error {
	if v.Outcome == verdict.Admitted {
		return nil
	}
	deciding := v.Deciding()
	if len(deciding) == 0 {
		return fail(v.Exit, errors.New("evidence: "+v.Headline()))
	}
	c := deciding[0]
	if c.Status == verdict.NotMade {
		return failHint(v.Exit, c.Hint, fmt.Errorf("cannot tell: the check %s was not made: %s", c.Code, c.Found))
	}
	word := "evidence is refused"
	if v.Outcome == verdict.NotGenuine {
		word = "evidence is not genuine"
	}
	return failHint(v.Exit, c.Hint, fmt.Errorf("%s: the check %s failed: found %s, wanted %s", word, c.Code, c.Found, c.Wanted))
}

func (a *app) printVerdict(v *verdict.Verdict, asJSON bool) error {
	if asJSON {
		return a.printJSON(v)
	}
	_, err := io.WriteString(a.stdout, v.Text(a.verdictMark))
	return err
}

// verdictMark is the sign for a status.
func (a *app) verdictMark(s verdict.Status) string {
	if s == verdict.NotMade {
		return verdict.Mark(s)
	}
	return a.mark(s == verdict.Passed)
}

// judged reads evidence, time and collateral.
func (a *app) judged(f judgeFlags, name string, o *attest.Options) ([]byte, error) {
	var err error
	if o.At, err = atFlag(f.at); err != nil {
		return nil, err
	}
	b, err := a.readEvidence(name)
	if err != nil {
		return nil, err
	}
	o.Collateral, err = a.readCollateral(f.collateral)
	return b, err
}

func atFlag(s string) (time.Time, error) {
	if s == "" {
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, failHint(statusUsage, "RFC 3339: 2026-11-24T12:00:00Z", fmt.Errorf("--at: found %q, wanted a time", s))
	}
	return t, nil
}

func nonceFlag(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	n, err := hex.DecodeString(s)
	if err != nil || len(n) < 8 || len(n) > 64 {
		return nil, usageError(fmt.Errorf("--nonce: found %q, wanted 8 to 64 bytes in hexadecimal", s))
	}
	return n, nil
}

// readEvidence reads a file, or stdin for -; one that is too large is not read to
// its end, and is malformed evidence.
func (a *app) readEvidence(name string) ([]byte, error) {
	in := a.stdin
	if name != "-" {
		info, err := os.Stat(name)
		if err != nil {
			return nil, notFound(name, err)
		}
		if info.IsDir() {
			return nil, usageError(fmt.Errorf("%s is a folder, wanted a file with evidence", name))
		}
		file, err := os.Open(name)
		if err != nil {
			return nil, fail(statusFailed, err)
		}
		defer file.Close()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, envelope.MaxSize+1))
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("reading %s: %w", name, err))
	}
	return b, nil
}

func notFound(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fail(statusFailed, fmt.Errorf("%s: not found", name))
	}
	return fail(statusFailed, err)
}

func readPolicy(name string) (*policy.Policy, error) {
	b, err := readAtMost(name, policy.MaxSize)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(b)
	if err != nil {
		return nil, failHint(statusUsage, "docs/policy.md has every key; donjon policy init --from EVIDENCE writes a policy that holds", fmt.Errorf("%s: %w", name, err))
	}
	return p, nil
}

func readAtMost(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, notFound(name, err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("reading %s: %w", name, err))
	}
	if int64(len(b)) > most {
		return nil, fail(statusFailed, fmt.Errorf("%s: more than %d bytes", name, most))
	}
	return b, nil
}

// readPrivate reads a file of a secret, which others must not be able to read.
func readPrivate(name string, most int) ([]byte, error) {
	b, err := private.Read(name, most)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notFound(name, err)
	case errors.Is(err, private.ErrExposed):
		return nil, failHint(statusFailed, "chmod 600 "+name+", and think of who may have read it", err)
	case err != nil:
		return nil, fail(statusFailed, err)
	}
	return b, nil
}

// readCollateral takes files and folders apart. What is not understood in a folder is
// listed and ignored; a file that was named and holds nothing of use is an error.
func (a *app) readCollateral(paths []string) (*collateral.Set, error) {
	out := &collateral.Set{}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, notFound(p, err)
		}
		if !info.IsDir() {
			alone := &collateral.Set{}
			if err := addCollateral(alone, p); err != nil {
				return nil, err
			}
			if n := len(alone.Certificates) + len(alone.Lists) + len(alone.TCBInfos) + len(alone.QEIdentities); n == 0 && len(alone.Ignored) > 0 {
				i := alone.Ignored[0]
				return nil, fail(statusFailed, fmt.Errorf("--collateral %s: nothing of use: %s", i.Name, i.Why))
			}
			if err := addCollateral(out, p); err != nil {
				return nil, err
			}
			continue
		}
		if err := collateralFolder(out, p); err != nil {
			return nil, err
		}
	}
	for _, i := range out.Ignored {
		a.note("ignored %s: %s", i.Name, i.Why)
	}
	return out, nil
}
