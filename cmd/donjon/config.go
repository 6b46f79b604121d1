package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/workload"
)

func newConfigCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "make and check a workload's configuration",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newConfigInitCommand(a), newConfigCheckCommand(a))
	return c
}

func newConfigInitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "write a commented Donjon.toml",
		Long: `init writes a Donjon.toml with every key explained into FOLDER (default: here).
It overwrites nothing.`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.configInit(folderOf(args))
		},
	}
}

func newConfigCheckCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check [FILE|FOLDER]",
		Short: "check a Donjon.toml or Enarx.toml and say what it means",
		Long: `check reads FILE, or the configuration of FOLDER (default: here), and says in
words what it asks for. Where main.wasm lies beside it, everything that the
configuration names is read too, and the workload digest is printed.

exit status: 0 valid, 1 not, 2 wrong usage.`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.configCheck(folderOf(args), asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func folderOf(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

func (a *app) configInit(dir string) error {
	// Both configurations in one folder are an error for every other verb.
	if _, err := os.Lstat(filepath.Join(dir, "Enarx.toml")); err == nil {
		return failHint(statusFailed, "donjon reads an Enarx.toml as it is; remove it to start anew",
			fmt.Errorf("%s already has an Enarx.toml", dir))
	}
	name := filepath.Join(dir, "Donjon.toml")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return failHint(statusFailed, "donjon config check says what it means", fmt.Errorf("%s already exists", name))
	}
	if err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	_, err = f.WriteString(configTemplate)
	if err = errors.Join(err, f.Close()); err != nil {
		// A half-written configuration would be read as a whole one.
		return errors.Join(fmt.Errorf("writing %s: %w", name, err), os.Remove(name))
	}
	a.note("wrote %s", name)
	return nil
}

// configVerdict is the JSON of config check.
type configVerdict struct {
	File   string         `json:"file"`
	Valid  bool           `json:"valid"`
	Digest string         `json:"digest,omitempty"` // absent where there is neither main.wasm nor a built-in
	Config *configReport  `json:"config,omitempty"`
	Error  *configProblem `json:"error,omitempty"`
}

type configProblem struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	What   string `json:"what"`
	Hint   string `json:"hint,omitempty"`
}

func (a *app) configCheck(name string, asJSON bool) error {
	file, module, err := configBeside(name)
	if err != nil {
		return err
	}
	v := configVerdict{File: file}
	cfg, err := workload.ReadConfig(file)
	flags := workload.Flags{Config: file}
	if err == nil && cfg.Builtin != "" && module == "" && filepath.Base(file) == "Donjon.toml" {
		module, flags = filepath.Dir(file), workload.Flags{} // the configuration is all of it
	}
	if err == nil && module != "" {
		var w *workload.Workload
		if w, err = workload.Load(module, flags); err == nil {
			v.Digest = w.Digest.String()
		}
	}
	if err != nil {
		if asJSON {
			v.Error = problem(err)
			if err := a.printJSON(v); err != nil {
				return err
			}
		}
		return err
	}
	v.Valid, v.Config = true, reportConfig(cfg)
	if asJSON {
		return a.printJSON(v)
	}
	fmt.Fprintf(a.stdout, "%s %s\n", a.mark(true), printable(file))
	printConfig(a.stdout, cfg)
	if v.Digest == "" {
		a.note("no main.wasm beside it, so there is no digest")
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "digest       %s\n", v.Digest)
	return err
}

// configBeside finds the configuration that name means and the main.wasm beside
// it; "" where there is none.
func configBeside(name string) (file, module string, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", "", fmt.Errorf("reading the configuration: %w", err)
	}
	file, dir := name, filepath.Dir(name)
	if info.IsDir() {
		dir = name
		if file, err = configIn(name); err != nil {
			return "", "", err
		}
	}
	module = filepath.Join(dir, "main.wasm")
	if _, err := os.Stat(module); errors.Is(err, fs.ErrNotExist) {
		module = ""
	}
	return file, module, nil
}

func configIn(dir string) (string, error) {
	var found []string
	for _, n := range []string{"Donjon.toml", "Enarx.toml"} {
		if _, err := os.Lstat(filepath.Join(dir, n)); !errors.Is(err, fs.ErrNotExist) {
			found = append(found, filepath.Join(dir, n))
		}
	}
	switch len(found) {
	case 0:
		return "", failHint(statusFailed, "donjon config init writes one", fmt.Errorf("%s has neither a Donjon.toml nor an Enarx.toml", dir))
	case 2:
		return "", failHint(statusFailed, "remove one of them", fmt.Errorf("%s has both a Donjon.toml and an Enarx.toml", dir))
	}
	return found[0], nil
}

func problem(err error) *configProblem {
	var c *workload.ConfigError
	if errors.As(err, &c) {
		return &configProblem{Line: c.Line, Column: c.Column, What: c.What, Hint: c.Suggestion}
	}
	return &configProblem{What: err.Error()}
}
