//go:build linux

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

// pointedFlags name what a verb is about: a workload, or what a signer signs under a
// name.
type pointedFlags struct {
	stewardFlags
	workloadFlags
	dir    []string
	signer string
	name   string
}

func (f *pointedFlags) register(c *cobra.Command) {
	f.stewardFlags.register(c)
	f.workloadFlags.register(c)
	c.Flags().StringArrayVar(&f.dir, "dir", nil, "a folder that run will be given, `HOST::GUEST` (the guest's side is measured)")
	c.Flags().StringVar(&f.signer, "signer", "", "instead of a workload, what this signer signs: a public key's `FILE`, or a key id")
	c.Flags().StringVar(&f.name, "name", "", "with --signer, the `NAME` that it is signed as")
	completeWorkload(c)
	_ = c.MarkFlagFilename("signer", "pem", "pub")
}

// named is what the flags and arguments name.
func (f *pointedFlags) named(c *cobra.Command, args []string) (namedWorkload, error) {
	if !c.Flags().Changed("signer") {
		name, rest, err := splitArgs(c, args)
		if err != nil {
			return namedWorkload{}, err
		}
		return nameWorkload(name, f.flags(rest), f.dir)
	}
	if len(args) > 0 {
		return namedWorkload{}, usageError(errors.New("--signer and a workload: the signatures say which workloads"))
	}
	return f.bySigner(c)
}

func (f *pointedFlags) bySigner(c *cobra.Command) (namedWorkload, error) {
	for _, n := range []string{"env", "config", "memory", "cpu-time", "wall-time", "output", "dir"} {
		if c.Flags().Changed(n) {
			return namedWorkload{}, usageError(fmt.Errorf("--signer and --%s: what is measured is in the digest that is signed", n))
		}
	}
	if f.signer == "" {
		return namedWorkload{}, failHint(statusUsage, "is a variable of the shell unset?", errors.New("--signer: found an empty value"))
	}
	if err := signature.CheckName(f.name); err != nil {
		return namedWorkload{}, usageError(fmt.Errorf("--name, with --signer: %w", err))
	}
	id, err := readSigner(f.signer)
	return namedWorkload{subject: enrol.SignerSubject(id, f.name), signer: id, name: f.name}, err
}

// about opens the Steward for a verb about one workload, or what a signer signs.
func (a *app) about(c *cobra.Command, f *pointedFlags, args []string) (*steward, string, error) {
	w, err := f.named(c, args)
	if err != nil {
		return nil, "", err
	}
	if c.Flags().Changed("name") && f.signer == "" {
		return nil, "", usageError(errors.New("--name goes with --signer"))
	}
	s, err := a.askSteward(&f.stewardFlags)
	return s, w.subject, err
}

// pointer is a subject as flags name it.
func pointer(subject string) string {
	if signer, name, ok := enrol.SplitSigner(subject); ok {
		return "--signer " + signer + " --name " + name
	}
	return "--workload " + subject
}

// namedWorkload is a workload as an argument says it: loaded, a digest alone, or what a
// signer signs under a name.
type namedWorkload struct {
	subject  string // sha256:<digest>, or signer:<key id>/<name>
	signer   signature.KeyID
	name     string
	manifest []byte
	config   *workload.Config
}

// nameWorkload takes a digest or loads a workload with the flags that are measured.
func nameWorkload(name string, f workload.Flags, dirs []string) (namedWorkload, error) {
	text := strings.TrimPrefix(name, "sha256:")
	if b, err := hex.DecodeString(text); err == nil && len(b) == 32 && notThere(name) {
		return namedWorkload{subject: "sha256:" + hex.EncodeToString(b)}, nil
	}
	if strings.HasPrefix(name, "sha256:") && notThere(name) {
		return namedWorkload{}, usageError(fmt.Errorf("found %q, wanted sha256: and 64 hexadecimal digits", name))
	}
	var err error
	if f.HostDirs, err = guestDirs(dirs); err != nil {
		return namedWorkload{}, err
	}
	w, err := loadModule(name, f)
	if err != nil {
		return namedWorkload{}, err
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		abs = name
	}
	return namedWorkload{subject: w.Digest.String(), name: filepath.Base(abs), manifest: w.Manifest, config: w.Config}, nil
}
