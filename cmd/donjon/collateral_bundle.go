//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/collateral/fetch"
)

// collateralReport is what collateral list and export print.
type collateralReport struct {
	At     time.Time         `json:"at"`
	Folder string            `json:"folder,omitempty"` // of the cache
	Output string            `json:"output,omitempty"`
	Items  []collateral.Line `json:"items"`
	Bad    int               `json:"unverified,omitempty"` // in the cache, and of no use
}

func newCollateralList(a *app) *cobra.Command {
	var at string
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [flags] [PATH...]",
		Short: "show what is in the cache, or in files, and until when it counts",
		Args:  usageArgs(cobra.ArbitraryArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			when, err := atFlag(at)
			if err != nil {
				return err
			}
			r := collateralReport{At: when.UTC()}
			b := &collateral.Bundle{}
			if len(args) > 0 {
				if b, err = a.readBundles(args); err != nil {
					return err
				}
			} else if b, r.Bad, r.Folder, err = a.cachedBundle(); err != nil {
				return err
			}
			r.Items = collateralLines(b, when)
			if asJSON {
				return a.printJSON(r)
			}
			return a.printCollateral(r)
		},
	}
	c.Flags().StringVar(&at, "at", "", "what has ended at this `TIME` (RFC 3339; default: now)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// collateralLines describes b's items, sorted for people.
func collateralLines(b *collateral.Bundle, at time.Time) []collateral.Line {
	lines := b.Summary(at)
	slices.SortStableFunc(lines, func(x, y collateral.Line) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(describe(x), describe(y)), x.From.Compare(y.From))
	})
	return lines
}

// cachedBundle is the whole cache.
func (a *app) cachedBundle() (b *collateral.Bundle, bad int, folder string, err error) {
	client, err := a.offlineClient()
	if err != nil {
		return nil, 0, "", err
	}
	dir := client.Cache.(fetch.Dir)
	keys, err := dir.Keys()
	if err != nil {
		return nil, 0, "", fail(statusFailed, err)
	}
	b, bad = client.Bundle(keys)
	return b, bad, string(dir), nil
}

// readBundles reads bundles, with their moments, and loose files of vendors, without.
func (a *app) readBundles(paths []string) (*collateral.Bundle, error) {
	out := &collateral.Bundle{}
	var loose []string
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Size() <= collateral.MaxFile {
			raw, err := readAtMost(p, collateral.MaxFile)
			if err != nil {
				return nil, err
			}
			if b, err := collateral.ParseBundle(raw); err == nil {
				out.Merge(b)
				continue
			}
		}
		loose = append(loose, p)
	}
	set, err := a.readCollateral(loose)
	if err != nil {
		return nil, err
	}
	out.Add(set, time.Time{})
	return out, nil
}

func (a *app) printCollateral(r collateralReport) error {
	if len(r.Items) == 0 {
		a.note("no collateral here; donjon collateral fetch EVIDENCE gets some, import takes files")
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	ended := 0
	for _, l := range r.Items {
		end := "until " + day(l.Until)
		switch {
		case l.Until.IsZero():
			end = "without an end: counts as ended"
		case l.Expired:
			end = "ended on " + day(l.Until)
		case l.Future:
			end = "from " + day(l.From) + " only, " + end
		}
		if l.Expired {
			ended++
		}
		fmt.Fprintf(w, "%s %s\t%s\t%s\n", a.mark(!l.Expired && !l.Future), l.Kind, oneLine(describe(l)), end)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if ended > 0 {
		a.note("%d of %d have ended", ended, len(r.Items))
	}
	if r.Bad > 0 {
		a.note("%d more in %s do not verify and are not used", r.Bad, r.Folder)
	}
	return nil
}

// describe says in a few words what an item is of.
func describe(l collateral.Line) string {
	switch l.Kind {
	case collateral.Certificate:
		s := commonName(l.Subject) + ", by " + commonName(l.Issuer)
		if l.Chip != "" {
			s += ", chip " + l.Chip[:min(16, len(l.Chip))]
		}
		return s
	case collateral.List:
		s := commonName(l.Issuer)
		if l.Number != "" {
			s += ", number " + l.Number
		}
		return s + ", of " + day(l.From)
	}
	s := l.TEE
	if l.FMSPC != "" {
		s += " " + l.FMSPC
	}
	return s + fmt.Sprintf(", evaluation %d, of %s", l.Eval, day(l.From))
}

// commonName is the common name of a distinguished name, or all of it.
func commonName(dn string) string {
	if _, cn, ok := strings.Cut(dn, "CN="); ok {
		cn, _, _ = strings.Cut(cn, ",")
		return cn
	}
	return dn
}

func newCollateralExport(a *app) *cobra.Command {
	var f vendorFlags
	var output string
	var asJSON bool
	c := &cobra.Command{
		Use:   "export -o FILE [flags] [EVIDENCE...]",
		Short: "write collateral into one file for a machine without a network",
		Long: `export writes a bundle: what verifying EVIDENCE needs, or what the given products
have in common, got from the vendors where the cache has it not; without either, the
whole cache. It shows until when each piece counts. If something cannot be got,
nothing is written. On the other machine donjon collateral import takes the file,
and so does donjon verify --collateral.`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			if output == "" {
				return usageError(errors.New("-o FILE is missing"))
			}
			return a.collateralExport(&f, output, args, asJSON)
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "", "write the bundle into this `FILE`")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) collateralExport(f *vendorFlags, output string, evidence []string, asJSON bool) error {
	b := &collateral.Bundle{}
	r := collateralReport{At: time.Now().UTC(), Output: output}
	if len(evidence)+len(f.products) == 0 {
		var err error
		if b, r.Bad, r.Folder, err = a.cachedBundle(); err != nil {
			return err
		}
	} else {
		report, got, err := a.getCollateral(f, evidence)
		if err != nil {
			return err
		}
		for _, i := range report.Items {
			if !i.Got {
				return failHint(statusFailed, "nothing was written: the bundle would not be whole", fmt.Errorf("%s: %s", i.What, i.Problem))
			}
			if i.Problem != "" {
				a.note("%s is from the cache, of %s: %s", i.What, day(i.Fetched), i.Problem)
			}
		}
		b = got
	}
	if len(b.Items) == 0 {
		return failHint(statusFailed, "name EVIDENCE or --product to get what they need", errors.New("the cache is empty: there is nothing to export"))
	}
	enc, err := b.Encode()
	if errors.Is(err, collateral.ErrLimit) {
		return failHint(statusFailed, "name the EVIDENCE that the bundle is for", err)
	}
	if err != nil {
		return fail(statusFailed, err)
	}
	if err := writeEvidenceFile(output, enc); err != nil {
		return fail(statusFailed, err)
	}
	r.Items = collateralLines(b, r.At)
	if asJSON {
		return a.printJSON(r)
	}
	if err := a.printCollateral(r); err != nil {
		return err
	}
	a.note("%d pieces written to %s", len(r.Items), output)
	return nil
}

func newCollateralImport(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "import [flags] PATH...",
		Short: "take a bundle or vendors' files into the cache",
		Long: `import takes bundles (donjon collateral export), loose files of vendors, or folders of
them into the cache, from where donjon verify has them. Only what verifies up to the
vendors' roots is taken, and nothing that is older than what the cache has. What no
server gives (VLEKs, PCK certificates) has no place there: verify --collateral takes
it.

exit status: 0 everything that has a place was taken or is there as new, 1 something
does not verify or no file can be read, 2 wrong usage.`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return a.collateralImport(args, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// importReport is what collateral import prints.
type importReport struct {
	Items []importedItem `json:"items"`
}

type importedItem struct {
	What    string    `json:"what"`
	URL     string    `json:"url"`
	Taken   bool      `json:"taken"`
	Until   time.Time `json:"until,omitzero"`
	Expired bool      `json:"expired"`
	Why     string    `json:"why,omitempty"` // why not
}

func (a *app) collateralImport(paths []string, asJSON bool) error {
	b, err := a.readBundles(paths)
	if err != nil {
		return err
	}
	client, err := a.offlineClient()
	if err != nil {
		return err
	}
	got, err := client.Import(b)
	if err != nil {
		return fail(statusFailed, err)
	}
	now, bad := time.Now(), 0
	r := importReport{Items: []importedItem{}}
	for _, i := range got {
		if i.Err != nil {
			bad++
		}
		r.Items = append(r.Items, importedItem{i.Request.What, i.Request.URL, i.Kept, i.Until.UTC(), !now.Before(i.Until), i.Why})
	}
	if asJSON {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		for n, i := range r.Items {
			line := i.What + ", until " + day(i.Until)
			if i.Expired {
				line = i.What + ", ended on " + day(i.Until)
			}
			if i.Why != "" {
				line += ": " + i.Why
			}
			fmt.Fprintf(a.stdout, "%s %s\n", a.mark(got[n].Err == nil), printable(line))
		}
	}
	switch {
	case bad > 0:
		return failHint(statusFailed, "a list or document needs its issuer's certificate beside it", fmt.Errorf("%d of %d do not verify and were not taken", bad, len(got)))
	case len(got) == 0:
		return fail(statusFailed, errors.New("there is nothing in it that has a place in the cache"))
	}
	return nil
}
