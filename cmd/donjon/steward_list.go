//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
)

func newStewardCertificate(a *app) *cobra.Command {
	var f stewardFlags
	var workload string
	var within time.Duration
	var all bool
	list := &cobra.Command{
		Use: "list", Short: "list certificates, the next to expire first", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			q := url.Values{"limit": {"1000"}}
			if workload != "" {
				w, err := nameWorkload(workload, (&workloadFlags{}).flags(nil), nil)
				if err != nil {
					return err
				}
				q.Set("workload", w.subject)
			}
			now := time.Now().UTC()
			if !all {
				q.Set("from", now.Format(time.RFC3339))
			}
			if within > 0 {
				q.Set("to", now.Add(within).Format(time.RFC3339))
			}
			var certs []server.CertificateView
			if err := s.do(http.MethodGet, "/v1/admin/certificates?"+q.Encode(), nil, &certs); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(certs)
			}
			for _, c := range certs {
				simulated := ""
				if c.Simulated {
					simulated = " (simulated)"
				}
				fmt.Fprintf(a.stdout, "%s  until %s  %s%s  %s  decision %d\n", c.Serial, c.NotAfter.Format(time.RFC3339), oneLine(c.TEE), simulated, oneLine(c.Workload), c.Decision)
			}
			return nil
		},
	}
	f.register(list)
	list.Flags().StringVar(&workload, "workload", "", "of this `WORKLOAD` alone")
	list.Flags().DurationVar(&within, "within", 0, "those that end within this `TIME`")
	list.Flags().BoolVar(&all, "all", false, "those that have ended too")
	return group("certificate", "list what was issued", list)
}

func newStewardDecision(a *app) *cobra.Command {
	var f, g stewardFlags
	var outcome string
	var limit int
	list := &cobra.Command{
		Use: "list", Short: "list decisions, the newest first", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			if outcome != "" {
				q.Set("outcome", outcome)
			}
			var rows []server.DecisionView
			if err := s.do(http.MethodGet, "/v1/admin/decisions?"+q.Encode(), nil, &rows); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(rows)
			}
			for _, d := range rows {
				code := string(d.Outcome)
				if d.Code != "" {
					code += " (" + d.Code + ")"
				}
				fmt.Fprintf(a.stdout, "%d  %s  %s  %s  %s  %s\n", d.Seq, d.At.Format(time.RFC3339), oneLine(code), oneLine(d.TEE), oneLine(d.Workload), oneLine(d.Client))
			}
			return nil
		},
	}
	f.register(list)
	list.Flags().StringVar(&outcome, "outcome", "", "those alone that are admitted, not_genuine, refused or cannot_tell")
	list.Flags().IntVar(&limit, "limit", 50, "at most this `NUMBER`, up to 1000")
	show := &cobra.Command{
		Use: "show NUMBER", Short: "print all of a decision, as JSON", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(args[0], 10, 63); err != nil {
				return usageError(fmt.Errorf("found %q, wanted a decision's number", args[0]))
			}
			s, err := a.askSteward(&g)
			if err != nil {
				return err
			}
			defer s.close()
			var raw json.RawMessage
			if err := s.do(http.MethodGet, "/v1/admin/decisions/"+args[0], nil, &raw); err != nil {
				return err
			}
			var b bytes.Buffer
			if err := json.Indent(&b, raw, "", "  "); err != nil {
				return fail(statusFailed, err)
			}
			_, err = fmt.Fprintln(a.stdout, printable(b.String()))
			return err
		},
	}
	g.register(show)
	return group("decision", "list decisions and show one", list, show)
}

func newStewardToken(a *app) *cobra.Command {
	var f, g, h stewardFlags
	var name string
	var scopes []string
	var life time.Duration
	create := &cobra.Command{
		Use: "create", Short: "make an administrator's token and print it once", Args: usageArgs(cobra.NoArgs),
		Long: "scopes: read (workloads, policies, names of secrets, decisions), policy (workloads and\npolicies), secret (set, delete and confirm secrets), audit (export the log), admin\n(tokens, backup, epochs). None holds another.\n\nInto a file that its owner alone may read, as --token-file wants it:\n\n  (umask 077; donjon steward token create --name N --scope S >FILE)",
		RunE: func(*cobra.Command, []string) error {
			if name == "" || len(scopes) == 0 {
				return usageError(errors.New("--name and --scope are missing"))
			}
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			ask := server.TokenCreate{Name: name}
			for _, x := range scopes {
				ask.Scopes = append(ask.Scopes, store.Scope(x))
			}
			if life > 0 {
				ask.Expires = time.Now().Add(life)
			}
			var v server.TokenView
			if err := s.do(http.MethodPost, "/v1/admin/tokens", ask, &v); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(v)
			}
			a.note("token %s; it is shown this once", v.ID)
			if f, ok := a.stdout.(*os.File); ok {
				if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
					a.note("it goes into a file that others may read: chmod 600 that file, which --token-file refuses as it is")
				}
			}
			_, err = fmt.Fprintln(a.stdout, v.Token)
			return err
		},
	}
	f.register(create)
	create.Flags().StringVar(&name, "name", "", "whose it is (`NAME`)")
	create.Flags().StringSliceVar(&scopes, "scope", nil, "what it may do (`SCOPE`, repeatable)")
	create.Flags().DurationVar(&life, "expires", 0, "after this `TIME` it ends (default: never)")
	list := &cobra.Command{
		Use: "list", Short: "list administrators' tokens", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&g)
			if err != nil {
				return err
			}
			defer s.close()
			var rows []server.TokenView
			if err := s.do(http.MethodGet, "/v1/admin/tokens", nil, &rows); err != nil {
				return err
			}
			if g.asJSON {
				return a.printJSON(rows)
			}
			for _, t := range rows {
				state := "in use"
				if !t.Revoked.IsZero() {
					state = "revoked"
				} else if !t.Expires.IsZero() {
					state = "until " + t.Expires.Format(time.RFC3339)
				}
				if t.Doubt != "" {
					state += ", " + t.Doubt + ": good for nothing"
				}
				fmt.Fprintf(a.stdout, "%s  %s  %v  %s\n", t.ID, oneLine(t.Name), t.Scopes, state)
			}
			return nil
		},
	}
	g.register(list)
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "take a token back", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.askSteward(&h)
			if err != nil {
				return err
			}
			defer s.close()
			return s.do(http.MethodDelete, "/v1/admin/tokens/"+url.PathEscape(args[0]), nil, nil)
		},
	}
	h.register(revoke)
	return group("token", "administrators' tokens", create, list, revoke)
}
