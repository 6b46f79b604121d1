//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/image"
	"github.com/donjon-tee/donjon/image/measure"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/vm"
)

func newImageCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "make, list and measure what Keeps boot",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newImageBuildCommand(a), newImageListCommand(a), newImageMeasureCommand(a))
	return c
}

type imageFlags struct {
	tee, arch, kernel, keep, output string
	asJSON                          bool
	snp                             snpFlags
}

func (f *imageFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.arch, "arch", runtime.GOARCH, "processor of the Keep: amd64, arm64 or ppc64le")
	c.Flags().StringVar(&f.kernel, "kernel", "", "kernel to boot, a `FILE` (default: the newest in the cache, else an installed one, else downloaded)")
	c.Flags().StringVar(&f.keep, "keep", "", "the donjon-keep to put in, a `FILE` (default: the one beside donjon)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
}

// An imageReport is what image build and image measure print (docs/images.md).
type imageReport struct {
	TEE          string `json:"tee"`
	Simulated    bool   `json:"simulated"` // the digest is reported by simulated silicon
	LaunchDigest string `json:"launch_digest"`
	Arch         string `json:"arch"`
	Machine      string `json:"machine,omitempty"`
	Kernel       string `json:"kernel,omitempty"`
	Release      string `json:"kernel_release,omitempty"`
	Source       string `json:"kernel_source,omitempty"`
	KernelHash   string `json:"kernel_sha256,omitempty"`
	InitrdHash   string `json:"initrd_sha256,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	Cmdline      string `json:"cmdline,omitempty"`
	Output       string `json:"output,omitempty"`
}

func newImageBuildCommand(a *app) *cobra.Command {
	var f imageFlags
	c := &cobra.Command{
		Use:   "build",
		Short: "find the kernel of a vm Keep and pack its initramfs",
		Long: `build finds the kernel that run --tee vm would boot (fetching it into the cache
when there is none), packs donjon-keep into an initramfs and prints the digests.
The same kernel and donjon-keep give the same bytes on every machine.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			p, err := a.prepareImage(f)
			if err != nil {
				return err
			}
			r := vmReport(p)
			if f.output != "" {
				if err := writeImage(f.output, p); err != nil {
					return fail(statusFailed, err)
				}
				r.Output = f.output
			}
			return a.printImage(f, r)
		},
	}
	f.register(c)
	c.Flags().StringVarP(&f.output, "output", "o", "", "write kernel, initrd and cmdline into this `FOLDER`")
	return c
}

func newImageMeasureCommand(a *app) *cobra.Command {
	var f imageFlags
	c := &cobra.Command{
		Use:   "measure",
		Short: "predict the launch digest of a Keep from its files",
		Long: `measure predicts, from files alone, the launch digest that a Keep's report will
show. Nothing is started.

sim and vm: the Keep that run would start with the same flags. snp: a launch of
QEMU on SEV-SNP hardware with the OVMF firmware given by --firmware and what it
loads, --kernel, --initrd and --cmdline (kernel-hashes=on); without --kernel the
launch has no kernel hashes, and its digest says nothing about what is booted.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := f.snp.check(f); err != nil {
				return usageError(err)
			}
			switch f.tee {
			case "sim":
				program, err := a.keepProgram(f.keep)
				if err != nil {
					return err
				}
				hash, err := hashFile(program)
				if err != nil {
					return fail(statusFailed, err)
				}
				d := measure.Sim(hash)
				return a.printImage(f, imageReport{TEE: "sim", Simulated: true, LaunchDigest: hex.EncodeToString(d[:]),
					Arch: runtime.GOARCH, InitrdHash: hex.EncodeToString(hash[:])})
			case "vm":
				p, err := a.prepareImage(f)
				if err != nil {
					return err
				}
				return a.printImage(f, vmReport(p))
			case "snp", "sev":
				return a.measureSNP(f)
			}
			return usageError(fmt.Errorf("--tee: found %q, wanted sim, vm or snp", f.tee))
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.tee, "tee", "vm", "the kind of Keep: sim, vm or snp")
	f.snp.register(c)
	return c
}

func newImageListCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "list the kernels in the cache",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return a.listImages(asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// prepareImage makes ready, without starting it, the launch that the flags name.
func (a *app) prepareImage(f imageFlags) (*vm.Plan, error) {
	switch f.arch {
	case "amd64", "arm64", "ppc64le":
	default:
		return nil, usageError(fmt.Errorf("--arch: found %q, wanted amd64, arm64 or ppc64le", f.arch))
	}
	program, err := a.keepProgramFor(f.keep, f.arch)
	if err != nil {
		return nil, err
	}
	if f.kernel != "" {
		if _, err := os.Stat(f.kernel); err != nil {
			return nil, fail(statusNotFound, fmt.Errorf("--kernel: %w", err))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := vm.Prepare(ctx, keep.Spec{Arch: f.arch, Kernel: f.kernel, KeepProgram: program, Verbose: a.verbose, Progress: a.progress},
		vm.Options{CacheDir: a.cacheDir()})
	if err != nil {
		return nil, fail(statusFailed, err)
	}
	return p, nil
}

// keepProgramFor gives the donjon-keep for a processor: for another than this
// one's it has the processor in its name, as make cross leaves it.
func (a *app) keepProgramFor(named, arch string) (string, error) {
	if named != "" || arch == runtime.GOARCH {
		return a.keepProgram(named)
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fail(statusKeep, fmt.Errorf("finding donjon-keep: %w", err))
	}
	path := filepath.Join(filepath.Dir(exe), "donjon-keep-"+arch)
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return "", failHint(statusKeep, "make cross makes it; --keep FILE names one", fmt.Errorf("no donjon-keep for %s at %s", arch, path))
	}
	return path, nil
}

// progress shows a line about long work, on a terminal alone unless asked for
// more.
func (a *app) progress(line string) {
	if isTerminal(a.stderr) {
		a.note("%s", line)
	} else {
		a.detail("%s", line)
	}
}

func vmReport(p *vm.Plan) imageReport {
	return imageReport{TEE: "vm", Simulated: true, LaunchDigest: hex.EncodeToString(p.Measurement[:]), Arch: p.Kernel.Arch, Machine: p.Machine,
		Kernel: p.Kernel.Path, Release: p.Kernel.Release, Source: p.Kernel.Source,
		KernelHash: hex.EncodeToString(p.KernelHash[:]), InitrdHash: hex.EncodeToString(p.InitrdHash[:]),
		Firmware: p.Firmware, Cmdline: p.Cmdline}
}

func (a *app) printImage(f imageFlags, r imageReport) error {
	if f.asJSON {
		return a.printJSON(r)
	}
	tee := r.TEE + " (simulated silicon reports this digest)"
	if !r.Simulated {
		tee = r.TEE + " (a prediction; this release launches no such Keep)"
	}
	for _, row := range [][2]string{
		{"launch digest", r.LaunchDigest}, {"tee", tee}, {"processor", r.Arch}, {"machine", r.Machine},
		{"kernel", r.Kernel}, {"", r.Release + " " + r.Source}, {"kernel sha256", r.KernelHash}, {"initrd sha256", r.InitrdHash},
		{"firmware", r.Firmware}, {"command line", r.Cmdline}, {"written to", r.Output},
	} {
		if row[1] != "" && row[1] != " " {
			fmt.Fprintf(a.stdout, "%-14s %s\n", row[0], printable(row[1]))
		}
	}
	return nil
}

func writeImage(dir string, p *vm.Plan) error {
	kernel, err := image.ReadKernel(p.Kernel.Path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	for name, b := range map[string][]byte{"kernel": kernel, "initrd": p.Initrd(), "cmdline": []byte(p.Cmdline)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return fmt.Errorf("writing the image: %w", err)
		}
	}
	return nil
}
