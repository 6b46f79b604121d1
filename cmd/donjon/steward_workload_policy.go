//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/image/measure"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/vm"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/server"
)

// allowPolicy writes the policy that the flags ask for.
func (a *app) allowPolicy(c *cobra.Command, f *allowFlags, w namedWorkload, settings server.Settings) (string, error) {
	if f.policy != "" {
		for _, n := range []string{"measurement", "tee", "simulated-root", "allow-simulated", "dns", "platforms", "max-instances", "validity"} {
			if c.Flags().Changed(n) {
				return "", usageError(fmt.Errorf("--%s and --policy: the policy says it", n))
			}
		}
		b, err := readAtMost(f.policy, 1<<20)
		return string(b), err
	}
	var snp, sgx, notes []string
	for _, m := range f.measurement {
		b, err := hex.DecodeString(m)
		switch {
		case err == nil && len(b) == 48:
			snp = append(snp, hex.EncodeToString(b))
		case err == nil && len(b) == 32:
			sgx = append(sgx, hex.EncodeToString(b))
		default:
			return "", usageError(fmt.Errorf("--measurement: found %q, wanted 48 bytes (SEV-SNP) or 32 (SGX) in hexadecimal; TDX needs a policy of its own: --policy", m))
		}
	}
	simulated := len(f.measurement) == 0 || len(f.tee) > 0 || f.allowSimulated || len(f.simulatedRoot) > 0
	if simulated && (len(f.measurement) == 0 || len(f.tee) > 0) {
		digests, err := a.simulatedDigests(f.tee, f.keepProgram)
		if err != nil {
			return "", err
		}
		for _, d := range digests {
			snp = append(snp, d.digest)
			notes = append(notes, fmt.Sprintf("%s: a %s Keep of this release, simulated", d.digest[:16], d.tee))
		}
	}
	roots := f.simulatedRoot
	if simulated && len(roots) == 0 {
		dir, err := a.stateDir()
		if err != nil {
			return "", fail(statusFailed, err)
		}
		sil, err := silicon.Open(filepath.Join(dir, "silicon"))
		if err != nil {
			return "", fail(statusFailed, err)
		}
		roots = []string{sil.RootFingerprint()}
	}
	admit := simulated && (settings.AllowSimulated || f.allowSimulated)
	if simulated && !admit {
		a.note("the Steward was started without --allow-simulated: this policy refuses the simulated Keeps that it names")
	}
	if f.maxInstances < 0 {
		return "", usageError(errors.New("--max-instances: found a number below 0"))
	}
	platforms := f.platforms
	if platforms == nil && simulated && len(f.measurement) == 0 {
		for _, r := range roots {
			platforms = append(platforms, "simulated:"+r)
		}
	}
	if platforms == nil {
		a.note("no --platforms: no secret is released to this workload")
	}
	for _, p := range platforms {
		if p == enrol.AnyPlatform {
			a.note("%s", enrol.AnyAccepts)
		}
	}
	return policyText(f, w, snp, sgx, notes, roots, admit, platforms), nil
}

func policyText(f *allowFlags, w namedWorkload, snp, sgx, notes, roots []string, admit bool, platforms []string) string {
	var b strings.Builder
	list := func(xs []string) string {
		q := make([]string, len(xs))
		for i, x := range xs {
			q[i] = strconv.Quote(x)
		}
		return "[" + strings.Join(q, ", ") + "]"
	}
	b.WriteString("# Written by donjon steward workload allow.\nversion = 1\n")
	if w.name != "" {
		fmt.Fprintf(&b, "name = %s\n", tomlString(w.name))
	}
	b.WriteString("freshness = \"nonce\"\n")
	if f.signer == "" {
		fmt.Fprintf(&b, "workloads = %s\n", list([]string{strings.TrimPrefix(w.subject, "sha256:")}))
	}
	if len(roots) > 0 {
		fmt.Fprintf(&b, "# SIMULATED: what chains to these roots protects nothing.\nsimulated_roots = %s\nallow_simulated = %t\n", list(roots), admit)
	}
	if len(snp) > 0 {
		b.WriteString("\n[snp]\n")
		for _, n := range notes {
			fmt.Fprintf(&b, "# %s\n", n)
		}
		fmt.Fprintf(&b, "launch_digests = %s\n", list(snp))
	}
	if len(sgx) > 0 {
		fmt.Fprintf(&b, "\n[sgx]\nenclaves = %s\n", list(sgx))
	}
	b.WriteString("\n# What is granted; this table stands last.\n[steward]\n")
	if len(f.dns) > 0 {
		fmt.Fprintf(&b, "dns = %s\n", list(f.dns))
	}
	if f.validity != "" {
		fmt.Fprintf(&b, "validity = %s\n", strconv.Quote(f.validity))
	}
	if f.maxInstances > 0 {
		fmt.Fprintf(&b, "max_instances = %d\n", f.maxInstances)
	}
	if platforms != nil {
		fmt.Fprintf(&b, "platforms = %s\n", list(platforms))
	}
	if f.signer != "" {
		fmt.Fprintf(&b, "[steward.signed]\nsigner = %q\nname = %q\nmin_version = %d\n", w.signer, w.name, f.minVersion)
	}
	return b.String()
}

// tomlString quotes any text for TOML: strconv's escapes are not all TOML's.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f || r == 0xfffd:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

type teeDigest struct{ tee, digest string }

// simulatedDigests measures this release's sim and vm Keeps. Unless asked for by
// name, vm is left out where no kernel is at hand.
func (a *app) simulatedDigests(tees []string, keepProgram string) ([]teeDigest, error) {
	asked := len(tees) > 0
	if !asked {
		tees = []string{"sim", "vm"}
	}
	program, err := a.keepProgram(keepProgram)
	if err != nil {
		return nil, err
	}
	var out []teeDigest
	for _, tee := range tees {
		switch tee {
		case "sim":
			hash, err := hashFile(program)
			if err != nil {
				return nil, fail(statusFailed, err)
			}
			d := measure.Sim(hash)
			out = append(out, teeDigest{"sim", hex.EncodeToString(d[:])})
		case "vm":
			p, err := vm.Prepare(context.Background(), keep.Spec{KeepProgram: program, Progress: func(string) {}}, vm.Options{CacheDir: a.cacheDir(), Offline: !asked})
			if err != nil && asked {
				return nil, fail(statusFailed, err)
			}
			if err != nil {
				a.detail("no vm Keep can be measured here: %v", err)
				continue
			}
			out = append(out, teeDigest{"vm", hex.EncodeToString(p.Measurement[:])})
		default:
			return nil, usageError(fmt.Errorf("--tee: found %q, wanted sim or vm; of others give the digest with --measurement", tee))
		}
	}
	return out, nil
}
