package main

import "github.com/spf13/cobra"

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|fish|zsh",
		Short: "print a script that completes donjon's commands in a shell",
		Long: `completion prints a script for the named shell. To use it:

  bash  donjon completion bash > ~/.local/share/bash-completion/completions/donjon
  fish  donjon completion fish > ~/.config/fish/completions/donjon.fish
  zsh   donjon completion zsh > "${fpath[1]}/_donjon"`,
		Args:                  usageArgs(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs:             []string{"bash", "fish", "zsh"},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(a.stdout, true)
			case "fish":
				return c.Root().GenFishCompletion(a.stdout, true)
			}
			return c.Root().GenZshCompletion(a.stdout)
		},
	}
}

// flagValues are what a flag with a few values takes, with what each means.
func flagValues() map[string][]string {
	return map[string][]string{
		"tee": {"sim\ta sandboxed process, not a TEE", "vm\ta virtual machine, not a TEE",
			"snp\tAMD SEV-SNP", "tdx\tIntel TDX", "sgx\tIntel SGX", "pef\tIBM PEF"},
		"arch": {"amd64\tx86-64", "arm64\tAArch64", "ppc64le\tPOWER, little-endian"},
	}
}

// completeValues completes the flags with a few values, of all verbs below c.
func completeValues(c *cobra.Command) {
	for name, values := range flagValues() {
		if c.Flags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	for _, sub := range c.Commands() {
		completeValues(sub)
	}
}

// completeWorkload completes the flags of a verb that takes a workload: nothing
// for numbers and texts, files or folders for the others.
func completeWorkload(c *cobra.Command) {
	for _, name := range []string{"allow-connect", "bind", "cpu-time", "env", "grace", "max-cpu", "max-memory", "memory", "nonce", "output", "wall-time"} {
		if c.Flags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
		}
	}
	_ = c.MarkFlagDirname("dir")
	_ = c.MarkFlagFilename("config", "toml")
}
