//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/collateral/fetch"
	"github.com/donjon-tee/donjon/attest/pki"
)

// fetchReport is what collateral fetch prints (docs/collateral.md).
type fetchReport struct {
	Items []fetchedItem `json:"items"`
}

type fetchedItem struct {
	What    string    `json:"what"`
	URL     string    `json:"url"` // the vendor's, also where a mirror was asked
	Got     bool      `json:"got"`
	Cached  bool      `json:"cached"`
	Fetched time.Time `json:"fetched,omitzero"` // absent: unknown, or built in
	Until   time.Time `json:"until,omitzero"`
	Expired bool      `json:"expired"`
	Problem string    `json:"problem,omitempty"`
}

func newCollateralFetch(a *app) *cobra.Command {
	var f vendorFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "fetch [flags] EVIDENCE...",
		Short: "get what verifying this evidence needs into the cache",
		Long: `fetch asks the vendors for everything that verifying EVIDENCE needs and that the
cache does not have, or not fresh enough. Where a server does not answer, what the
cache has is kept, and shown with its end. donjon verify then finds it there.

exit status: 0 everything is there and counts, 1 something is missing or has ended,
2 wrong usage, 10 the evidence cannot be read.`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args)+len(f.products) == 0 {
				return usageError(errors.New("nothing to get: wanted EVIDENCE or --product"))
			}
			return a.collateralFetch(&f, args, asJSON)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) collateralFetch(f *vendorFlags, evidence []string, asJSON bool) error {
	report, _, err := a.getCollateral(f, evidence)
	if err != nil {
		return err
	}
	if asJSON {
		if err := a.printJSON(report); err != nil {
			return err
		}
	} else {
		a.printFetched(report)
	}
	return report.missing()
}

// missing is an error where something was not got or counts no more.
func (r fetchReport) missing() error {
	n := 0
	for _, i := range r.Items {
		if !i.Got || i.Expired {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return failHint(statusFailed, "a vendor's server may be down; try again later, or import a bundle from another machine",
		fmt.Errorf("%d of %d are missing or have ended", n, len(r.Items)))
}

func (a *app) printFetched(r fetchReport) {
	for _, i := range r.Items {
		line := i.What
		switch {
		case !i.Got:
			line += ": " + i.Problem
		case i.Expired:
			line += ", ended on " + day(i.Until)
		default:
			line += ", until " + day(i.Until)
		}
		if i.Got && i.Cached && !i.Fetched.IsZero() {
			line += ", in the cache since " + day(i.Fetched)
		}
		if i.Got && i.Problem != "" {
			line += " (" + i.Problem + ")"
		}
		fmt.Fprintf(a.stdout, "%s %s\n", a.mark(i.Got && !i.Expired), printable(line))
	}
}

func day(t time.Time) string {
	if t.IsZero() {
		return "an unknown day"
	}
	return t.UTC().Format(time.DateOnly)
}

// chainEnd is when the first of the certificates ends.
func chainEnd(s *collateral.Set) time.Time {
	until, _ := pki.Validity(s.Certificates, time.Time{})
	return until
}

// getCollateral gets what evidence and products need, and gives it as a bundle.
func (a *app) getCollateral(f *vendorFlags, evidence []string) (fetchReport, *collateral.Bundle, error) {
	report := fetchReport{Items: []fetchedItem{}}
	out := &collateral.Bundle{}
	requests, err := f.requests(a, evidence)
	if err != nil {
		return report, out, err
	}
	client, err := f.client(a)
	if err != nil {
		return report, out, err
	}
	ctx, stop := interruptible()
	defer stop()
	_, results, err := client.All(ctx, requests)
	if err != nil {
		return report, out, fail(statusFailed, err)
	}
	builtIn := &collateral.Set{Certificates: client.Roots}
	now := time.Now()
	for _, r := range results {
		if r.Err != nil {
			// Chains that are built in are not missed.
			if set, err := r.Request.Take(builtIn); err == nil {
				r.Set, r.Until, r.Cached, r.Err = set, chainEnd(set), true, nil
			}
		}
		i := fetchedItem{What: r.Request.What, URL: r.Request.URL, Got: r.Err == nil}
		err := cmp.Or(r.Err, r.Problem)
		switch {
		case err == nil || i.Got && f.offline:
		case errors.Is(err, fetch.ErrNotCached):
			i.Problem = "not in the cache, and nobody is asked"
		default:
			i.Problem = strings.TrimPrefix(err.Error(), "fetch: ")
			if h := hintOf(err); h != "" {
				a.detail("%s: %s", r.Request.What, h)
			}
		}
		if i.Got {
			i.Cached, i.Fetched, i.Until, i.Expired = r.Cached, r.Fetched.UTC(), r.Until.UTC(), r.Expired(now)
			out.Add(r.Set, r.Fetched)
		}
		report.Items = append(report.Items, i)
	}
	return report, out, nil
}
