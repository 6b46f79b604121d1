//go:build linux

package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
)

func newStewardAudit(a *app) *cobra.Command {
	return group("audit", "export and verify the log of decisions", newAuditVerify(a), newAuditExport(a), newAuditHead(a))
}

func newAuditExport(a *app) *cobra.Command {
	var f stewardFlags
	var output string
	c := &cobra.Command{
		Use: "export", Short: "write the log, with a signed head at its end", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			return a.writeNew(output, func(w io.Writer) error { return s.do(http.MethodGet, "/v1/admin/audit/export", nil, w) })
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "-", "write to this `FILE` (- is stdout)")
	return c
}

func newAuditHead(a *app) *cobra.Command {
	var f stewardFlags
	c := &cobra.Command{
		Use: "head", Short: "sign the log's end as it is now, to be kept elsewhere", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			var v struct {
				Record uint64    `json:"record"`
				Hash   string    `json:"record_sha256"`
				Epoch  uint64    `json:"epoch"`
				At     time.Time `json:"at"`
				Head   string    `json:"head"`
			}
			if err := s.do(http.MethodGet, "/v1/admin/audit/head", nil, &v); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(v)
			}
			_, err = fmt.Fprintln(a.stdout, oneLine(v.Head))
			return err
		},
	}
	f.register(c)
	return c
}

func newAuditVerify(a *app) *cobra.Command {
	var f stewardFlags
	var heads, keys []string
	var unsigned bool
	c := &cobra.Command{
		Use:   "verify [EXPORT]",
		Short: "check that no record of the log was changed, removed or added",
		Long: `verify reads an EXPORT (audit export; - is stdin), or without one the log of the
state folder, and checks the chain of every record and the signed heads, and of a state
folder also that its decisions, policies, secrets and tokens are those of the log, and
that the MACs of policies and tokens hold. A head kept elsewhere (audit head;
certificates, tokens and refusals carry one) finds a log that was cut or made anew.

Where sealing keys are gone or cannot be used, the MACs that they made cannot be
checked. The rest is, and the status is then 12.

exit status: 0 all of it holds, 1 it does not, 2 wrong usage, 12 the log and what is
beside it agree, and MACs could not be checked.`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			f.unsealed = true // an export needs no sealing key
			o := audit.Options{Unsigned: unsigned}
			for _, h := range heads {
				head, err := audit.ParseHeadText(h)
				if err != nil {
					return usageError(fmt.Errorf("--head: %w", err))
				}
				o.Heads = append(o.Heads, head)
			}
			if len(keys) == 0 && f.server == "" {
				dir, err := a.stewardState(f.state)
				if err != nil {
					return err
				}
				keys = []string{filepath.Join(dir, stewardAuditKey)}
			}
			for _, k := range keys {
				key, err := readPublicKey(k)
				if err != nil {
					return err
				}
				o.Keys = append(o.Keys, key)
			}
			if len(o.Keys) == 0 {
				return usageError(errors.New("--key is missing: the Steward's audit-key.pem"))
			}
			in, end, err := a.auditInput(&f, args)
			if err != nil {
				return err
			}
			report, err := audit.Verify(in, o)
			if cerr := end(); err == nil {
				err = cerr
			}
			if err != nil {
				return failHint(statusFailed, "the log is not what the Steward wrote: keep the export and the heads, and ask who could write the database", err)
			}
			var rows *rowsReport
			var cannotTell error
			if len(args) == 0 && f.server == "" {
				if rows, cannotTell, err = a.auditRows(&f); err != nil {
					return err
				}
			}
			if f.asJSON {
				if err := a.printJSON(auditReport{report, rows}); err != nil {
					return err
				}
				return cannotTell
			}
			fmt.Fprintf(a.stdout, "✔ the log holds: %d records, %d under a signed head, %d given heads agree, the last of %s\n",
				report.Records, report.Signed, report.Given, report.Last.Format(time.RFC3339))
			if rows != nil && cannotTell == nil {
				fmt.Fprintln(a.stdout, "rows         as the log says; the MACs of policies and tokens hold")
			} else if rows != nil {
				fmt.Fprintf(a.stdout, "rows         as the log says; NOT CHECKED: the MACs of %d policies and %d tokens\n", rows.PoliciesNotMade, rows.TokensNotMade)
			}
			if report.Purges > 0 {
				fmt.Fprintf(a.stdout, "purged       %d decisions up to record %d, in %d signed purges, the last %s by %s: %s\n",
					report.Purged, report.PurgedTo, report.Purges, report.LastPurge.Format(time.RFC3339), oneLine(report.PurgedBy), oneLine(report.PurgedText))
			}
			if report.Backwards > 0 {
				a.note("%d records are dated before the one before them: a clock was set back, or those of replicas differ", report.Backwards)
			}
			return cannotTell
		},
	}
	f.register(c)
	c.Flags().StringArrayVar(&heads, "head", nil, "a signed `HEAD` that must be on the log (repeatable)")
	c.Flags().StringArrayVar(&keys, "key", nil, "public key of the Steward's log, a PEM `FILE` (default: the state folder's; repeatable)")
	c.Flags().BoolVar(&unsigned, "unsigned", false, "admit records behind the last signed head")
	return c
}

// auditReport is what verify says in JSON.
type auditReport struct {
	*audit.Report
	Rows *rowsReport `json:",omitempty"` // of a state folder
}

// rowsReport says how what stands beside the log was held against it.
type rowsReport struct {
	Log             verdict.Status // the rows are as the log says
	MACs            verdict.Status // of policies and tokens
	PoliciesNotMade int            // versions whose MAC could not be checked
	TokensNotMade   int
	Why             string `json:",omitempty"`
}

// auditRows holds what the database has beside the log against the log. cannotTell says
// that it agrees, and that MACs could not be checked.
func (a *app) auditRows(f *stewardFlags) (rows *rowsReport, cannotTell, err error) {
	dir, err := a.stewardState(f.state)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	st, err := a.openState(ctx, dir, stateOptions{unsealed: true})
	if err != nil {
		return nil, nil, err
	}
	defer st.close()
	rows = &rowsReport{Log: verdict.Passed, MACs: verdict.Passed}
	var not *store.NotMade
	err = store.Agree(ctx, st.store)
	switch {
	case err == nil:
		return rows, nil, nil
	case errors.As(err, &not):
		hint := "such rows grant nothing, and cannot be told from forged ones: where no sealing key was lost, ask who could write the database. Where one was, put back a copy of it, or write the policies anew and make new tokens; the rows before stay, and this status with them"
		if st.noRing != nil {
			err, hint = fmt.Errorf("%w: %w", not, st.noRing), hintOf(st.noRing)
		}
		rows.MACs, rows.PoliciesNotMade, rows.TokensNotMade, rows.Why = verdict.NotMade, not.Policies, not.Tokens, err.Error()
		return rows, failHint(statusCannotTell, hint, fmt.Errorf("cannot tell: the log stands, and the database is as it says; %w", err)), nil
	case errors.Is(err, store.ErrUnavailable):
		return nil, nil, st.databaseError(err)
	case errors.Is(err, store.ErrUnproven):
		return nil, nil, failHint(statusFailed, "the log stands; a database or a backup from an earlier release has such rows, and they grant nothing until then", err)
	}
	return nil, nil, failHint(statusFailed, "the log stands, and the database was changed beside it: ask who could write it", err)
}

// auditInput is a file, or the log as it is exported now.
func (a *app) auditInput(f *stewardFlags, args []string) (io.Reader, func() error, error) {
	if len(args) == 1 && args[0] == "-" {
		return a.stdin, func() error { return nil }, nil
	}
	if len(args) == 1 {
		file, err := os.Open(args[0])
		if err != nil {
			return nil, nil, notFound(args[0], err)
		}
		return file, file.Close, nil
	}
	s, err := a.askSteward(f)
	if err != nil {
		return nil, nil, err
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := s.do(http.MethodGet, "/v1/admin/audit/export", nil, w)
		_ = w.CloseWithError(err)
		done <- err
	}()
	return r, func() error {
		_ = r.Close()
		defer s.close()
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return err
		}
		return nil
	}, nil
}

func readPublicKey(name string) (crypto.PublicKey, error) {
	b, err := readAtMost(name, 64<<10)
	if err != nil {
		return nil, err
	}
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, fail(statusFailed, fmt.Errorf("%s: no public key in PEM", name))
	}
	key, err := x509.ParsePKIXPublicKey(p.Bytes)
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("%s: %w", name, err))
	}
	return key, nil
}

func newStewardBackup(a *app) *cobra.Command {
	var f stewardFlags
	var output string
	c := &cobra.Command{
		Use: "backup -o FILE", Short: "write the database, from one moment",
		Long: `backup writes everything in the database. Secrets are in it as they are stored:
sealed. The keys (the folder keys/ of the state) are not: copy them to another place,
once and after each rotation, so that no single copy opens the secrets. Where the
sealing keys are protected by a PKCS#11 token, a copy of keys/ opens nothing without
the token's key: back that up by the token's own means.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if output == "" {
				return usageError(errors.New("-o FILE is missing (- is stdout)"))
			}
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			return a.writeNew(output, func(w io.Writer) error { return s.do(http.MethodGet, "/v1/admin/backup", nil, w) })
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "", "write to this `FILE`")
	return c
}

func newStewardConfirm(a *app) *cobra.Command {
	var f stewardFlags
	var show bool
	c := &cobra.Command{
		Use: "confirm", Short: "let grants go on after a backup was restored", Args: usageArgs(cobra.NoArgs),
		Long: `A restored backup brings back policies, secrets and tokens that may have been changed
or taken away since it was made, and the highest admitted versions of signed workloads
of that time. Until somebody has looked at them (workload list, policy show, secret
list, token list) and confirms, nothing is granted, and tokens over the network only
read: whoever owns the state folder confirms (--state).`,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			var e server.EpochView
			if err := s.do(http.MethodGet, "/v1/admin/epoch", nil, &e); err != nil {
				return err
			}
			if !show && !e.Confirmed {
				if err := s.do(http.MethodPost, "/v1/admin/epoch/"+strconv.FormatUint(e.Number, 10)+"/confirm", nil, nil); err != nil {
					return err
				}
				e.Confirmed = true
			}
			if f.asJSON {
				return a.printJSON(e)
			}
			word := "suspended"
			if e.Confirmed {
				word = "given"
			}
			fmt.Fprintf(a.stdout, "epoch        %d, since %s; grants are %s\n", e.Number, e.Opened.Format(time.RFC3339), word)
			return nil
		},
	}
	f.register(c)
	c.Flags().BoolVar(&show, "show", false, "show the epoch and confirm nothing")
	return c
}
