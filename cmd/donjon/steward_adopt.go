//go:build linux

package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

func newStewardAdopt(a *app) *cobra.Command {
	var state string
	var heads []string
	var take adoption
	c := &cobra.Command{
		Use:   "adopt --state FOLDER",
		Short: "take over tokens and policies from before rows were authenticated",
		Long: `Tokens and policies carry a MAC under the Steward's keys, and grant nothing without.
adopt lists those that have none: a database from an earlier release has them, and so
does one that somebody wrote into. With --yes it authenticates the rows that the audit
log knows as they are, and leaves the others. Look at the list first, and at when a
token ends, which the log of an earlier release does not say.

Whoever writes the database can add to the log. So a row counts whose record is covered
by a signed head: those of --head, kept elsewhere (audit head gives one), or without
them the one beside the log. --unsigned takes over also what was recorded after it.

A row whose MAC does not hold is never taken over: revoke the token, write the policy
anew.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			for _, h := range heads {
				head, err := audit.ParseHeadText(h)
				if err != nil {
					return usageError(fmt.Errorf("--head: %w", err))
				}
				take.heads = append(take.heads, head)
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
			return a.adopt(context.Background(), st, take)
		},
	}
	c.Flags().StringVar(&state, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringArrayVar(&heads, "head", nil, "a signed `HEAD` that must be on the log (repeatable)")
	c.Flags().BoolVar(&take.yes, "yes", false, "take them over")
	c.Flags().BoolVar(&take.unsigned, "unsigned", false, "with --yes: also those that were recorded after the last head")
	return c
}

// adoption says which rows are taken over.
type adoption struct {
	heads         []*audit.Head
	yes, unsigned bool
}

func (a *app) adopt(ctx context.Context, st *state, take adoption) error {
	signed, err := st.verifyLog(ctx, take.heads)
	if err != nil {
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
	left, after := 0, 0
	for _, r := range rows {
		word := "in the log"
		switch {
		case !r.Logged:
			word = "NOT IN THE LOG"
			left++
		case r.Record > signed && !take.unsigned:
			word = "AFTER THE HEAD"
			after++
		case take.yes:
			if err := store.Adopt(ctx, st.store, r, store.Actor{Who: "local", At: time.Now()}); err != nil {
				return fail(statusFailed, err)
			}
			word = "taken over"
		}
		fmt.Fprintf(a.stdout, "%-14s  %s\n", word, describeRow(r))
	}
	if !take.yes {
		a.note("nothing was changed: --yes takes over those that are in the log")
	}
	if after > 0 {
		a.note("%d rows were recorded after record %d, the last one under a head: whoever writes the database can have done that. --unsigned takes them over too", after, signed)
	}
	if left > 0 {
		return failHint(statusFailed, "revoke such a token (token revoke), write such a policy anew (workload allow, policy set), and ask who could write the database",
			fmt.Errorf("%d rows are not as the audit log has them, or not in it", left))
	}
	if after > 0 && take.yes {
		return fail(statusFailed, fmt.Errorf("%d rows were left", after))
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
// given and the one kept beside it. It gives the last record that those given cover, or
// where there are none that one does.
func (s *state) verifyLog(ctx context.Context, heads []*audit.Head) (signed uint64, err error) {
	o := audit.Options{Keys: []crypto.PublicKey{&s.authority.AuditKey().PublicKey}, Unsigned: true, Heads: slices.Clone(heads)}
	for _, h := range heads {
		signed = max(signed, h.Seq)
	}
	kept, err := s.store.LatestHead(ctx)
	switch {
	case err == nil:
		h, err := audit.ParseHead(kept)
		if err != nil {
			return 0, err
		}
		o.Heads = append(o.Heads, h)
		if len(heads) == 0 {
			signed = h.Seq
		}
	case !errors.Is(err, store.ErrNotFound):
		return 0, err
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { _ = w.CloseWithError(s.writeLog(ctx, w)) }()
	_, err = audit.Verify(r, o)
	return signed, err
}

// writeLog writes an export without a head of its own.
func (s *state) writeLog(ctx context.Context, to io.Writer) error {
	w := audit.NewWriter(to, s.store.Log())
	if _, err := s.store.Records(ctx, w.Record); err != nil {
		return err
	}
	return w.Close()
}
