//go:build linux

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/server"
)

func newWorkloadList(a *app) *cobra.Command {
	var f stewardFlags
	c := &cobra.Command{
		Use: "list", Short: "list the workloads, and what signers sign", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			all := []server.WorkloadView{}
			for after := ""; ; {
				var page []server.WorkloadView
				if err := s.do(http.MethodGet, "/v1/admin/workloads?limit=1000&after="+url.QueryEscape(after), nil, &page); err != nil {
					return err
				}
				all = append(all, page...)
				if len(page) < 1000 {
					break
				}
				after = page[len(page)-1].Subject
			}
			if f.asJSON {
				return a.printJSON(all)
			}
			for _, w := range all {
				state := fmt.Sprintf("policy %d", w.Policy)
				if w.Removed {
					state += ", removed"
				}
				if x := w.Signed; x != nil {
					if x.MinVersion > 0 {
						state += fmt.Sprintf(", version %d or higher", x.MinVersion)
					}
					if x.Highest > 0 {
						state += fmt.Sprintf(", version %d admitted", x.Highest)
					}
					fmt.Fprintf(a.stdout, "%s  %s\n", oneLine(w.Subject), state)
					continue
				}
				fmt.Fprintf(a.stdout, "%s  %s  %s  %s\n", w.Digest, w.FirstSeen.Format(time.RFC3339), state, oneLine(w.Name))
			}
			return nil
		},
	}
	f.register(c)
	return c
}

func newWorkloadRemove(a *app) *cobra.Command {
	var f pointedFlags
	c := &cobra.Command{
		Use: "remove [flags] WORKLOAD [-- ARGS]", Short: "admit a workload, or a signer's, no longer",
		Long: "remove writes a policy that admits nothing. Certificates that were issued end by\nthemselves; what the policies and secrets were stays in the log. A workload that was\nremoved is not admitted by a signature either.",
		RunE: func(c *cobra.Command, args []string) error {
			s, subject, err := a.about(c, &f, args)
			if err != nil {
				return err
			}
			defer s.close()
			var v server.PolicyView
			if err := s.do(http.MethodDelete, "/v1/admin/workloads/"+url.PathEscape(subject), nil, &v); err != nil {
				return err
			}
			v.Unconfirmed = nil
			return a.printPolicyView(v, f.asJSON)
		},
	}
	f.register(c)
	return c
}

func newWorkloadLeases(a *app) *cobra.Command {
	var f pointedFlags
	var end string
	c := &cobra.Command{
		Use: "leases [flags] WORKLOAD [-- ARGS]", Short: "list the Keeps that hold a place of max_instances, or end one's",
		RunE: func(c *cobra.Command, args []string) error {
			s, subject, err := a.about(c, &f, args)
			if err != nil {
				return err
			}
			defer s.close()
			if end != "" {
				return s.do(http.MethodDelete, "/v1/admin/workloads/"+url.PathEscape(subject)+"/leases/"+end, nil, nil)
			}
			var list []struct {
				Instance string    `json:"instance"`
				Until    time.Time `json:"until"`
				Decision uint64    `json:"decision"`
			}
			if err := s.do(http.MethodGet, "/v1/admin/workloads/"+url.PathEscape(subject)+"/leases", nil, &list); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(list)
			}
			for _, l := range list {
				fmt.Fprintf(a.stdout, "%s  until %s  decision %d\n", oneLine(l.Instance), l.Until.Format(time.RFC3339), l.Decision)
			}
			return nil
		},
	}
	f.register(c)
	c.Flags().StringVar(&end, "end", "", "end the lease of this `INSTANCE`: its certificate stays valid until it ends")
	return c
}
