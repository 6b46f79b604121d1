//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/image/measure"
)

// snpFlags describe a launch on SEV-SNP hardware, all of whose files are given.
type snpFlags struct {
	firmware, initrd, cmdline string
	vcpus                     int
	features                  uint64
}

func (s *snpFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&s.firmware, "firmware", "", "OVMF `FILE` (snp)")
	c.Flags().StringVar(&s.initrd, "initrd", "", "initramfs that goes with --kernel, a `FILE` (snp)")
	c.Flags().StringVar(&s.cmdline, "cmdline", "", "command `LINE` of the kernel (snp)")
	c.Flags().IntVar(&s.vcpus, "vcpus", 1, "processors of the machine (snp)")
	c.Flags().Uint64Var(&s.features, "guest-features", 1, "SEV_FEATURES of the guest as a `NUMBER`; 1 is SNP alone (snp)")
}

// check refuses flags that do not go together: a digest of less than was named
// would be believed.
func (s *snpFlags) check(f imageFlags) error {
	if f.tee != "snp" && f.tee != "sev" {
		if s.firmware != "" || s.initrd != "" || s.cmdline != "" || s.vcpus != 1 || s.features != 1 {
			return errors.New("--firmware, --initrd, --cmdline, --vcpus and --guest-features go with --tee snp: of a sim or vm Keep donjon chooses them")
		}
		if f.tee == "sim" && (f.kernel != "" || f.arch != runtime.GOARCH) {
			return errors.New("--kernel and --arch go with --tee vm: a sim Keep is a process of this host")
		}
		return nil
	}
	switch {
	case s.firmware == "":
		return errors.New("--tee snp: --firmware FILE is missing: the digest begins with it")
	case f.kernel == "" && (s.initrd != "" || s.cmdline != ""):
		return errors.New("--initrd and --cmdline go with --kernel: without one the launch has no kernel hashes")
	case f.keep != "":
		return errors.New("--keep: found it with --tee snp, which measures the --initrd given")
	case f.arch != "amd64":
		return fmt.Errorf("--arch: found %q, wanted amd64: SEV-SNP is AMD's", f.arch)
	}
	return nil
}

const maxOVMF = 16 << 20

func (a *app) measureSNP(f imageFlags) error {
	firmware, err := readFirmware(f.snp.firmware)
	if err != nil {
		return err
	}
	h := measure.Hardware{Firmware: firmware, VCPUs: f.snp.vcpus, Features: f.snp.features}
	r := imageReport{TEE: "snp", Arch: "amd64", Firmware: f.snp.firmware}
	if f.kernel != "" {
		boot := measure.Boot{Initrd: sha256.Sum256(nil), Cmdline: f.snp.cmdline}
		if boot.Kernel, err = hashFile(f.kernel); err != nil {
			return fileFailure("--kernel", err)
		}
		if f.snp.initrd != "" {
			if boot.Initrd, err = hashFile(f.snp.initrd); err != nil {
				return fileFailure("--initrd", err)
			}
		}
		h.Boot = &boot
		r.Kernel, r.Cmdline = f.kernel, f.snp.cmdline
		r.KernelHash, r.InitrdHash = hex.EncodeToString(boot.Kernel[:]), hex.EncodeToString(boot.Initrd[:])
	}
	d, err := measure.SNP(h)
	if err != nil {
		return fail(statusFailed, err)
	}
	r.LaunchDigest = hex.EncodeToString(d[:])
	if h.Boot == nil {
		a.note("no --kernel: this digest says nothing about what is booted")
	}
	return a.printImage(f, r)
}

func readFirmware(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fileFailure("--firmware", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxOVMF+1))
	if err != nil {
		return nil, fileFailure("--firmware", err)
	}
	if len(b) > maxOVMF {
		return nil, fail(statusFailed, fmt.Errorf("--firmware %s: found more than %d bytes, wanted an OVMF image", path, maxOVMF))
	}
	return b, nil
}

// fileFailure gives the error of a file that a flag names its exit status.
func fileFailure(flag string, err error) error {
	status := statusFailed
	if errors.Is(err, fs.ErrNotExist) {
		status = statusNotFound
	}
	return fail(status, fmt.Errorf("%s: %w", flag, err))
}
