//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

// maxEvidence is more than any evidence has: reports and certificate chains are a
// few KiB.
const maxEvidence = 16 << 20 // bytes

type inspectFlags struct {
	workloadFlags
	dir         []string
	root, nonce string
	asJSON      bool
}

func newInspectCommand(a *app) *cobra.Command {
	var f inspectFlags
	c := &cobra.Command{
		Use:   "inspect [flags] WORKLOAD|FILE [-- ARGS]",
		Short: "show a workload's digest and what it covers, or what evidence or collateral says",
		Long: `inspect tells by the content what it was given. A WORKLOAD (a folder or a
WebAssembly module) is loaded as run would load it, so the flags that are measured
change the digest here as they do there; signatures beside it are verified, and who
is to be trusted is yours to say. Evidence is shown field by field with
offsets, with the checks of whether it is genuine as far as the file itself can
tell; whether it is good is what verify says. Collateral and event logs are listed.

exit status: 0 done, 1 failed, 2 wrong usage, 10 the evidence is not genuine.`,
		RunE: func(c *cobra.Command, args []string) error {
			name, rest, err := splitArgs(c, args)
			if err != nil {
				return err
			}
			return a.inspect(f, name, rest)
		},
	}
	f.register(c)
	c.Flags().StringArrayVar(&f.dir, "dir", nil, "a folder that run will be given, `HOST::GUEST` (the guest's side is measured)")
	c.Flags().StringVar(&f.root, "root", "", "simulated root to hold evidence against, a certificate's `FILE` or fingerprint (default: this machine's)")
	c.Flags().StringVar(&f.nonce, "nonce", "", "the nonce that evidence must hold, 8 to 64 bytes in `HEX`")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	completeWorkload(c)
	return c
}

func (a *app) inspect(f inspectFlags, name string, args []string) error {
	isWorkload, data, err := readInspected(name)
	if err != nil {
		return err
	}
	wf := f.flags(args)
	if wf.HostDirs, err = guestDirs(f.dir); err != nil {
		return err
	}
	if isWorkload {
		if f.root+f.nonce != "" {
			return usageError(fmt.Errorf("--root and --nonce belong to evidence; %s is a workload", name))
		}
		return a.inspectWorkload(name, wf, f.asJSON)
	}
	if args != nil || len(f.env)+len(f.dir) > 0 || f.config+f.memory+f.cpuTime+f.wallTime+f.outp != "" {
		return usageError(fmt.Errorf("a workload's flags and arguments were given, and %s is no workload: neither a folder nor WebAssembly", name))
	}
	return inspectFile(a, name, data, evidenceOptions{root: f.root, nonce: f.nonce, asJSON: f.asJSON})
}

// readInspected tells a workload from evidence by its content. A workload's bytes
// are left to workload.Load; evidence is read.
func readInspected(name string) (isWorkload bool, data []byte, err error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, fmt.Errorf("%s: not found", name)
	}
	if err != nil {
		return false, nil, err
	}
	if info.IsDir() {
		return true, nil, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return false, nil, err
	}
	defer file.Close()
	data, err = io.ReadAll(io.LimitReader(file, maxEvidence+1))
	if err != nil {
		return false, nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if bytes.HasPrefix(data, []byte("\x00asm")) {
		return true, nil, nil
	}
	if len(data) > maxEvidence {
		return false, nil, fmt.Errorf("%s: found more than %d bytes that are no WebAssembly, wanted evidence", name, maxEvidence)
	}
	return false, data, nil
}
