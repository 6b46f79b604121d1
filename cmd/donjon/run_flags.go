//go:build linux

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/workload"
)

// runFlags are what `donjon run` takes; workloadFlags is the part that is
// measured, which inspect takes too.
type runFlags struct {
	workloadFlags
	tee          string
	bind, dir    []string
	allowConnect []string
	evidence     string
	role         string
	nonce        string
	grace        time.Duration
	keepProgram  string
	kernel       string
	arch         string
	weak         bool
	noCache      bool
	asJSON       bool
	maxMemory    string
	maxCPU       time.Duration
}

type workloadFlags struct {
	env                             []string
	config                          string
	memory, cpuTime, wallTime, outp string
}

func (f *workloadFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.env, "env", nil, "set a variable of the workload, `NAME=VALUE` (measured, unless host_env names it)")
	c.Flags().StringVar(&f.config, "config", "", "configuration beside a bare module, `FILE` (measured)")
	c.Flags().StringVar(&f.memory, "memory", "", "limit of memory, a `SIZE` such as 256MiB (measured)")
	c.Flags().StringVar(&f.cpuTime, "cpu-time", "", "limit of processor time, a `TIME` such as 10s (measured)")
	c.Flags().StringVar(&f.wallTime, "wall-time", "", "limit of time, a `TIME` such as 1m (measured)")
	c.Flags().StringVar(&f.outp, "output", "", "limit of output, a `SIZE` such as 10MiB (measured)")
}

func (f *workloadFlags) flags(args []string) workload.Flags {
	return workload.Flags{Config: f.config, Args: args, Env: f.env, Memory: f.memory, CPUTime: f.cpuTime, WallTime: f.wallTime, Output: f.outp}
}

// splitArgs takes WORKLOAD and what stands behind --. nil: nothing was given.
func splitArgs(c *cobra.Command, args []string) (string, []string, error) {
	dash := c.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	if dash != 1 {
		return "", nil, failHint(statusUsage, "usage: "+c.UseLine(), fmt.Errorf("found %d workloads, wanted 1; the workload's own arguments come after --", dash))
	}
	if len(args) == dash && c.ArgsLenAtDash() < 0 {
		return args[0], nil, nil
	}
	return args[0], append([]string{}, args[1:]...), nil
}

// guestDirs are the guest's sides of --dir HOST::GUEST, which are measured.
func guestDirs(list []string) ([]string, error) {
	var out []string
	for _, d := range list {
		host, guest, ok := strings.Cut(d, "::")
		if !ok || host == "" || guest == "" {
			return nil, usageError(fmt.Errorf("--dir: found %q, wanted HOST::GUEST", d))
		}
		out = append(out, guest)
	}
	return out, nil
}

// parsed is what the flags say, checked.
type parsed struct {
	tee     string // "sim" where nothing was asked for
	nonce   []byte
	bind    map[string]string
	dirs    []*os.Root
	allow   []netip.Prefix
	ceiling keep.Ceilings
}

func (f *runFlags) parse() (p parsed, w workload.Flags, err error) {
	bad := func(format string, args ...any) (parsed, workload.Flags, error) {
		return p, w, failHint(statusUsage, "donjon help run", fmt.Errorf(format, args...))
	}
	switch f.tee {
	case "", "sim", "vm", "snp", "sev", "tdx", "sgx", "pef":
	default:
		return bad("--tee: found %q, wanted one of sim, vm, snp, tdx, sgx, pef", f.tee)
	}
	if f.tee == "sev" { // Enarx's name of it
		f.tee = "snp"
	}
	if p.tee, err = f.place(); err != nil {
		return bad("%w", err)
	}
	if f.nonce != "" {
		if p.nonce, err = hex.DecodeString(f.nonce); err != nil || len(p.nonce) < 8 || len(p.nonce) > 64 {
			return bad("--nonce: found %q, wanted 8 to 64 bytes in hexadecimal", f.nonce)
		}
		if f.evidence == "" {
			return bad("--nonce goes with --evidence FILE")
		}
	}
	p.bind = map[string]string{}
	for _, b := range f.bind {
		name, addr, ok := strings.Cut(b, "=")
		if !ok || name == "" || !isAddress(addr) {
			return bad("--bind: found %q, wanted NAME=ADDRESS:PORT", b)
		}
		p.bind[name] = addr
	}
	for _, x := range f.allowConnect {
		pre, err := netip.ParsePrefix(x)
		if err != nil {
			addr, aerr := netip.ParseAddr(x)
			if aerr != nil {
				return bad("--allow-connect: found %q, wanted an address or a prefix", x)
			}
			pre = netip.PrefixFrom(addr, addr.BitLen())
		}
		p.allow = append(p.allow, pre)
	}
	if p.ceiling.Memory, err = workload.ParseSize(f.maxMemory); err != nil {
		return bad("--max-memory: %w", err)
	}
	if f.grace < 0 || f.maxCPU < 0 {
		return bad("--grace and --max-cpu: found a time below 0")
	}
	p.ceiling.CPU = f.maxCPU
	w = f.flags(nil)
	for _, d := range f.dir {
		host, guest, ok := strings.Cut(d, "::")
		if !ok || host == "" || guest == "" {
			return bad("--dir: found %q, wanted HOST::GUEST", d)
		}
		root, err := os.OpenRoot(host)
		if errors.Is(err, os.ErrNotExist) {
			return p, w, fail(statusNotFound, fmt.Errorf("--dir %s: not found", host))
		}
		if err != nil {
			return p, w, fail(statusKeep, fmt.Errorf("--dir: %w", err))
		}
		p.dirs = append(p.dirs, root)
		w.HostDirs = append(w.HostDirs, guest)
	}
	return p, w, nil
}

// isAddress says whether a is ADDRESS:PORT; the address may be a name or empty,
// which is all addresses.
func isAddress(a string) bool {
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}
