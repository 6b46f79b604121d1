package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/advisory"
)

// newAdvisoryCommand is the verb that lists, searches and explains the table of
// known vulnerabilities. It judges no evidence: verify does.
func newAdvisoryCommand(a *app) *cobra.Command {
	var q advisory.Query
	var class string
	var asJSON bool
	c := &cobra.Command{
		Use:   "advisory [ID | TEXT]",
		Short: "list known vulnerabilities of TEEs and explain what fixes them",
		Long: `advisory prints the table of known vulnerabilities (docs/advisories.md): all rows,
those that a word appears in, or one in full where the word is its id, one of its
CVEs or its name. What a piece of evidence says about each is told by verify.`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			q.Class = advisory.Class(class)
			if err := checkQuery(c, q); err != nil {
				return err
			}
			if len(args) == 1 {
				q.Text = strings.TrimSpace(args[0])
				if q.Text == "" {
					return usageError(fmt.Errorf("found an empty text, wanted an id or a word"))
				}
			}
			return a.advisories(q, asJSON)
		},
	}
	c.Flags().StringVar(&q.TEE, "tee", "", "only this TEE: snp, tdx, sgx or pef")
	c.Flags().StringVar(&q.Product, "product", "", "only this AMD product (Milan, Genoa, Turin) or FMSPC")
	c.Flags().StringVar(&class, "class", "", "only this class: tcb, module, guest, config, physical or protocol")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.RegisterFlagCompletionFunc("tee", cobra.FixedCompletions(advisoryTEEs(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("product", cobra.FixedCompletions(advisory.Products(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("class", cobra.FixedCompletions(classNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// advisoryTEEs are those that have rows; sim and vm, which run takes, have none.
func advisoryTEEs() []string { return []string{"snp", "tdx", "sgx", "pef"} }

func classNames() []string {
	var out []string
	for _, c := range advisory.Classes() {
		out = append(out, string(c))
	}
	return out
}

func checkQuery(c *cobra.Command, q advisory.Query) error {
	for _, f := range []struct {
		flag, value string
		known       []string
	}{
		{"tee", q.TEE, advisoryTEEs()},
		{"product", q.Product, advisory.Products()},
		{"class", string(q.Class), classNames()},
	} {
		in := func(s string) bool { return s == f.value || f.flag == "product" && strings.EqualFold(s, f.value) }
		if c.Flags().Changed(f.flag) && !slices.ContainsFunc(f.known, in) {
			return usageError(fmt.Errorf("--%s: found %q, wanted one of %s", f.flag, f.value, strings.Join(f.known, ", ")))
		}
	}
	return nil
}

func (a *app) advisories(q advisory.Query, asJSON bool) error {
	rows := advisory.Search(q)
	exact, one := advisory.Lookup(q.Text)
	one = one && slices.ContainsFunc(rows, func(r advisory.Row) bool { return r.ID == exact.ID })
	switch {
	case len(rows) == 0 && q.Text != "":
		among := ""
		if q.TEE != "" || q.Product != "" || q.Class != "" {
			among = " among those that the flags leave"
		}
		return failHint(statusFailed, "donjon advisory lists all that is known", fmt.Errorf("no advisory%s mentions %.80q", among, q.Text))
	case one && asJSON:
		return a.printJSON([]advisory.Row{exact})
	case asJSON:
		return a.printJSON(rows)
	case one:
		return a.explainAdvisory(exact)
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-20s  %-12s  %-8s  %s\n", r.ID, strings.Join(r.TEE, ","), r.Class, summary(r))
	}
	fmt.Fprintf(&b, "%d rows; donjon advisory ID explains one\n", len(rows))
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

func summary(r advisory.Row) string {
	if len(r.Names) > 0 {
		return strings.Join(r.Names, ", ") + ": " + r.What
	}
	return r.What
}

func (a *app) explainAdvisory(r advisory.Row) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.ID, r.What)
	for _, f := range []struct{ name, value string }{
		{"names", strings.Join(r.Names, ", ")}, {"CVEs", strings.Join(r.CVEs, ", ")}, {"published", r.Published},
		{"TEE", strings.Join(r.TEE, ", ")}, {"products", strings.Join(r.Product, ", ")}, {"class", string(r.Class)},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, "  %-10s  %s\n", f.name, f.value)
		}
	}
	switch {
	case r.NoFix != "":
		fmt.Fprintf(&b, "exposed, always: %s\n", r.NoFix)
	case r.Unseen != "":
		fmt.Fprintf(&b, "cannot be told from evidence: %s\n", r.Unseen)
	case len(r.Fix) > 0:
		b.WriteString("fixed where the evidence shows, on\n")
		for _, f := range r.Fix {
			fmt.Fprintf(&b, "  %s: %s\n", fixedOn(f), conditions(f))
		}
	case r.Class == advisory.Protocol:
		b.WriteString("exposed where evidence binds a key and neither a nonce nor a connection; else the checks nonce and channel-binding tell\n")
	default:
		b.WriteString("the table has no level that fixes it\n")
	}
	if strings.HasPrefix(r.ID, "INTEL-") {
		b.WriteString("exposed where Intel's signed list for the platform's TCB level names it, whatever stands above\n")
	}
	if r.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", r.Note)
	}
	fmt.Fprintf(&b, "source: %s\nconfidence: %s", r.Source, r.Confidence)
	if r.Confidence == advisory.Memory {
		b.WriteString(" (checked against no source: never called fixed)")
	}
	b.WriteByte('\n')
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

func fixedOn(f advisory.Fix) string {
	var parts []string
	if f.Product != "" {
		parts = append(parts, f.Product)
	}
	if f.FMSPC != "" {
		parts = append(parts, "FMSPC "+f.FMSPC)
	}
	if f.CPU != "" {
		parts = append(parts, "processor "+f.CPU)
	}
	if len(parts) == 0 {
		return "any product"
	}
	return strings.Join(parts, ", ")
}

func conditions(f advisory.Fix) string {
	if len(f.All) == 0 {
		return "an update whose level no source gives"
	}
	var parts []string
	for _, c := range f.All {
		parts = append(parts, c.String())
	}
	return strings.Join(parts, " and ")
}
