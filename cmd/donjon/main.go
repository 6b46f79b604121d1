// Command donjon launches Keeps, shows what they prove, and inspects their
// evidence. One file a verb; ui.go owns how everything that is printed looks.
// What runs inside a Keep is not here: see cmd/donjon-keep and warden.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"

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
	// A start-up makes little garbage, and to collect it while the Keep starts beside
	// it on the same processors costs more than it gives.
	debug.SetGCPercent(400)
	a := &app{stdin: os.Stdin, stdout: &output{File: os.Stdout}, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(a.run(os.Args[1:]))
}

// run executes one command line and gives the exit status.
func (a *app) run(args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.Execute()
	if out, ok := a.stdout.(*output); ok && out.err != nil && (err == nil || statusOf(err) == statusFailed && errors.Is(err, out.err)) {
		err = fmt.Errorf("stdout cannot be written: %w", out.err)
	}
	return a.report(err)
}

// newHelpCommand is cobra's, but that an unknown topic is wrong usage.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "show how a command is used",
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if at, _, err := c.Root().Find(args); err == nil {
				for _, sub := range at.Commands() {
					if !sub.Hidden {
						names = append(names, sub.Name()+"\t"+sub.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			at, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return failHint(statusUsage, "donjon help lists the commands", fmt.Errorf("no help: unknown command %q", strings.Join(args, " ")))
			}
			return at.Help()
		},
	}
}

// output is stdout that remembers its first error: a result that a full disk
// swallowed is no result, whatever the verb looks at.
type output struct {
	*os.File
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if err != nil && o.err == nil {
		o.err = err
		var path *fs.PathError
		if errors.As(err, &path) {
			o.err = path.Err
		}
	}
	return n, err
}

func (o *output) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "donjon",
		Short: "run workloads in Keeps and prove what they run",
		Long: `donjon runs WebAssembly workloads in Keeps (instances of a trusted execution
environment) and proves to anyone what a Keep is and what it runs.

exit status: 0 done, 1 failed, 2 wrong usage; verify: 10 not genuine, 11 refused,
12 cannot tell; run passes the workload's own
status through and uses 125 (no Keep), 126 (not runnable), 127 (not found).`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "say on stderr what is being done")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print nothing on stderr but errors")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(flagError(err)) })
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(
		newAdvisoryCommand(a),
		newCacheCommand(a),
		newCollateralCommand(a),
		newCompletionCommand(a),
		newConfigCommand(a),
		newImageCommand(a),
		newInspectCommand(a),
		newPlatformCommand(a),
		newPolicyCommand(a),
		newRunCommand(a),
		newSignCommand(a),
		newStewardCommand(a),
		newVerifyCommand(a),
		newConnectCommand(a),
		newVersionCommand(a),
	)
	completeValues(root)
	return root
}
