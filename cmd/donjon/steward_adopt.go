//go:build linux

package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

func newStewardAdopt(a *app) *cobra.Command {
	var state string
	var heads []string
	var yes bool
	c := &cobra.Command{
		Use:   "adopt --state FOLDER",
		Short: "take over tokens and policies from before rows were authenticated",
		Long: `Tokens and policies carry a MAC under the Steward's keys, and grant nothing without.
adopt lists those that have none: a database from an earlier release has them, and so
does one that somebody wrote into. With --yes it authenticates the rows that the audit
log knows as they are, and leaves the others. Look at the list first: the log is worth
what the heads are that it is held against (--head; audit head gives one).

A row whose MAC does not hold is never taken over: revoke the token, write the policy
anew.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			o := audit.Options{Unsigned: true}
			for _, h := range heads {
				head, err := audit.ParseHeadText(h)
				if err != nil {
					return usageError(fmt.Errorf("--head: %w", err))
				}
				o.Heads = append(o.Heads, head)
			}
			dir, err := a.stewardState(state)
			if err != nil {
				return err
			}
			st, err := a.openState(context.Background(), dir, stateOptions{})
			if err != nil {
				return err
			}
			defer st.close()
			return a.adopt(context.Background(), st, o, yes)
		},
	}
	c.Flags().StringVar(&state, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringArrayVar(&heads, "head", nil, "a signed `HEAD` that must be on the log (repeatable)")
	c.Flags().BoolVar(&yes, "yes", false, "take them over")
	return c
}

func (a *app) adopt(ctx context.Context, st *state, o audit.Options, yes bool) error {
	o.Keys = []crypto.PublicKey{&st.authority.AuditKey().PublicKey}
	if err := st.verifyLog(ctx, o); err != nil {
		return failHint(statusFailed, "the log is not what the Steward wrote: nothing can be taken over by it", err)
	}
	rows, err := store.UnprovenRows(ctx, st.store)
	if err != nil {
		return fail(statusFailed, err)
	}
	if len(rows) == 0 {
		a.note("every token and policy is authenticated, or forged: donjon steward audit verify tells")
		return nil
	}
	left := 0
	for _, r := range rows {
		word := "in the log"
		switch {
		case !r.Logged:
			word = "NOT IN THE LOG"
			left++
		case yes:
			if err := store.Adopt(ctx, st.store, r, store.Actor{Who: "local", At: time.Now()}); err != nil {
				return fail(statusFailed, err)
			}
			word = "taken over"
		}
		fmt.Fprintf(a.stdout, "%-14s  %s\n", word, describeRow(r))
	}
	if !yes {
		a.note("nothing was changed: --yes takes over those that are in the log")
	}
	if left > 0 {
		return failHint(statusFailed, "revoke such a token (token revoke), write such a policy anew (workload allow, policy set), and ask who could write the database",
			fmt.Errorf("%d rows are not as the audit log has them, or not in it", left))
	}
	return nil
}

func describeRow(r store.UnprovenRow) string {
	if t := r.Token; t != nil {
		ends := "does not end"
		if !t.Expires.IsZero() {
			ends = "ends " + t.Expires.Format(time.RFC3339)
		}
		return fmt.Sprintf("token   %s  %s  %v, %s", oneLine(t.ID), oneLine(t.Name), t.Scopes, ends)
	}
	return fmt.Sprintf("policy  %s  version %d, sha256:%s", oneLine(r.Policy.Workload), r.Policy.Version, r.Policy.Digest)
}

// verifyLog verifies the chain of the log as it is in the database, against the heads
// given and the one kept beside it.
func (s *state) verifyLog(ctx context.Context, o audit.Options) error {
	kept, err := s.store.LatestHead(ctx)
	switch {
	case err == nil:
		h, err := audit.ParseHead(kept)
		if err != nil {
			return err
		}
		o.Heads = append(o.Heads, h)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { _ = w.CloseWithError(s.writeLog(ctx, w)) }()
	_, err = audit.Verify(r, o)
	return err
}

// writeLog writes an export without a head of its own.
func (s *state) writeLog(ctx context.Context, to io.Writer) error {
	w := audit.NewWriter(to, s.store.Log())
	if _, err := s.store.Records(ctx, w.Record); err != nil {
		return err
	}
	return w.Close()
}
