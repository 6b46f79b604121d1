package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/platform"
)

// newPlatformCommand is the verb that says what this host can launch Keeps on.
// It reports and judges nothing: its status is 0 whatever it finds.
func newPlatformCommand(a *app) *cobra.Command {
	var known, asJSON bool
	c := &cobra.Command{
		Use:   "platform",
		Short: "say what this machine can launch Keeps on, and what is missing",
		Long: `platform lists every technology that donjon knows with its requirements: met or
not, what was found, and how to mend it. It only looks; it loads no module and
boots nothing. --known prints the hardware list instead (docs/hardware.md).`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if known {
				return a.printKnown(platform.Known(), asJSON)
			}
			r := platform.Probe(c.Context(), platform.NewHost("vm", "sim"))
			if asJSON {
				return a.printJSON(platformResult{Donjon: buildVersion(), Report: r})
			}
			return a.printPlatform(r)
		},
	}
	c.Flags().BoolVar(&known, "known", false, "print the list of known hardware")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// platformResult is what platform --json prints (docs/platform.md).
type platformResult struct {
	Donjon versionInfo `json:"donjon"`
	platform.Report
}

func (a *app) printPlatform(r platform.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "donjon %s on %s %s, %s: %s\n", buildVersion().Version, r.System.OS, oneLine(r.System.Kernel), r.System.Arch, oneLine(r.System.CPU))
	if r.System.Guest != "" {
		fmt.Fprintf(&b, "this machine is itself a guest (%s)\n", r.System.Guest)
	}
	for _, k := range r.Backends {
		fmt.Fprintf(&b, "\n%s %s: %s\n", a.mark(k.Ready), k.Name, k.Title)
		if k.Note != "" {
			fmt.Fprintf(&b, "  %s\n", k.Note)
		}
		for _, c := range k.Checks {
			a.writeCheck(&b, c)
		}
	}
	b.WriteString("\n✔ met  ✗ not met  ✗ (optional) a Keep starts without it  - cannot be looked at here\n")
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// writeCheck writes one line, and a second one where something can be mended.
// What was found comes from the host and is escaped (THREATS T30).
func (a *app) writeCheck(b *strings.Builder, c platform.Check) {
	sign := "-"
	if c.Status != platform.NotMade {
		sign = a.mark(c.Status == platform.Passed)
	}
	title := c.Title
	if !c.Required && c.Status == platform.Failed {
		title = "(optional) " + title
	}
	fmt.Fprintf(b, "  %s %s", sign, title)
	if c.Found != "" {
		fmt.Fprintf(b, ": %s", oneLine(c.Found))
	}
	if c.Status == platform.Failed && c.Wanted != "" {
		fmt.Fprintf(b, "; wanted %s", c.Wanted)
	}
	b.WriteByte('\n')
	if c.Status == platform.Failed && c.Hint != "" {
		fmt.Fprintf(b, "      %s\n", c.Hint)
	}
}

// oneLine is printable text without line breaks: a finding must not forge the
// lines below it.
func oneLine(s string) string {
	return printable(strings.NewReplacer("\n", " ", "\t", " ").Replace(s))
}

func (a *app) printKnown(products []platform.Product, asJSON bool) error {
	if asJSON {
		return a.printJSON(products)
	}
	var b strings.Builder
	for _, p := range products {
		fmt.Fprintf(&b, "%s: %s (%s)\n", p.TEE, p.Product, p.Codename)
		for _, f := range []struct{ name, value string }{
			{"firmware", p.Firmware}, {"host kernel", p.HostKernel}, {"QEMU", p.QEMU}, {"guest kernel", p.GuestKernel},
			{"clouds", strings.Join(p.Clouds, "; ")}, {"notes", p.Notes}, {"sources", strings.Join(p.Sources, "\n                ")},
		} {
			if f.value != "" {
				fmt.Fprintf(&b, "  %-12s  %s\n", f.name, f.value)
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("from public sources; none of it has been tried with donjon yet\n")
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}
