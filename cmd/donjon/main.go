// Command donjon launches Keeps, shows what they prove, and inspects their
// evidence. One file a verb; ui.go owns how everything that is printed looks.
// What runs inside a Keep is not here: see cmd/donjon-keep and warden.
package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

// app is what every verb may touch of the outside: the three streams and the
// environment. Tests give their own.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string

	verbose bool
	quiet   bool
}

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(a.run(os.Args[1:]))
}

// run executes one command line and gives the exit status.
func (a *app) run(args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	return a.report(root.Execute())
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "donjon",
		Short: "run workloads in Keeps and prove what they run",
		Long: `donjon runs WebAssembly workloads in Keeps (instances of a trusted execution
environment) and proves to anyone what a Keep is and what it runs.

exit status: 0 done, 1 failed, 2 wrong usage; run passes the workload's own
status through and uses 125 (no Keep), 126 (not runnable), 127 (not found).`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "say on stderr what is being done")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print nothing on stderr but errors")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newCacheCommand(a),
		newCompletionCommand(a),
		newConfigCommand(a),
		newImageCommand(a),
		newInspectCommand(a),
		newPlatformCommand(a),
		newRunCommand(a),
		newVersionCommand(a),
	)
	completeValues(root)
	return root
}
