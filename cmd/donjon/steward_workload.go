//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/image/measure"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/vm"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

func newStewardWorkload(a *app) *cobra.Command {
	return group("workload", "allow, list and remove workloads", newWorkloadAllow(a), newWorkloadList(a), newWorkloadRemove(a), newWorkloadLeases(a))
}

type allowFlags struct {
	pointedFlags
	minVersion     uint64
	tee            []string
	measurement    []string
	simulatedRoot  []string
	allowSimulated bool
	dns            []string
	platforms      []string
	maxInstances   int
	validity       string
	policy         string
	keepProgram    string
}

func newWorkloadAllow(a *app) *cobra.Command {
	var f allowFlags
	c := &cobra.Command{
		Use:   "allow [flags] WORKLOAD [-- ARGS] | allow --signer KEY --name NAME --min-version NUMBER [flags]",
		Short: "admit a workload's Keeps from now on",
		Long: `allow records a WORKLOAD (a folder, a WebAssembly module or a digest) with a policy:
its digest, the launch digests it may run under, and what its Keeps are granted. The
flags that are measured change the digest as they do for run.

Without --measurement the launch digests are those of this release's sim and vm Keeps,
which are simulated: the policy names this machine's simulated root, and admits it
where the Steward was started with --allow-simulated. Allowing a workload again writes
the next version of its policy; secrets set before are then released only once
confirmed (donjon steward secret confirm).

With --signer and --name it is every version of that name which the signer signs
(donjon sign), from --min-version on and never lower than one that was admitted. A
workload that has a policy of its own is judged by that alone.

exit status: 0 done, 1 failed, 2 wrong usage, 126 not a workload, 127 not found.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.workloadAllow(c, f, args)
		},
	}
	f.pointedFlags.register(c)
	c.Flags().Lookup("name").Usage = "what to call it in lists (`NAME`; default: the file's); with --signer, the name that it is signed as"
	c.Flags().Uint64Var(&f.minVersion, "min-version", 0, "with --signer, the lowest version that is admitted, a `NUMBER`")
	c.Flags().StringSliceVar(&f.tee, "tee", nil, "the kinds of simulated Keep whose launch digests to record: sim, vm (default: those that can be measured here)")
	c.Flags().StringArrayVar(&f.measurement, "measurement", nil, "a launch digest it may run under, `HEX`: 48 bytes for SEV-SNP, 32 for SGX (MRENCLAVE) (repeatable)")
	c.Flags().StringArrayVar(&f.simulatedRoot, "simulated-root", nil, "a simulated root to name, its `FINGERPRINT` (default: this machine's)")
	c.Flags().BoolVar(&f.allowSimulated, "allow-simulated", false, "write allow_simulated into the policy (default: where the Steward was started with it)")
	c.Flags().StringSliceVar(&f.dns, "dns", nil, "DNS `NAME` in the certificate (repeatable)")
	c.Flags().StringSliceVar(&f.platforms, "platforms", nil, "machines that secrets are released to: any, chip:ID, vlek:CSP, sgx:ID, simulated:ROOT (default: the simulated root)")
	c.Flags().IntVar(&f.maxInstances, "max-instances", 0, "how many Keeps may hold a certificate at once (default: any `NUMBER`)")
	c.Flags().StringVar(&f.validity, "validity", "", "of the certificate, a `TIME` such as 1h or 7d (default 24h)")
	c.Flags().StringVar(&f.policy, "policy", "", "take this policy instead of making one, a `FILE`")
	c.Flags().StringVar(&f.keepProgram, "keep", "", "the donjon-keep to measure, `FILE` (default: beside donjon)")
	return c
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

func (a *app) workloadAllow(c *cobra.Command, f allowFlags, args []string) error {
	w, err := f.named(c, args)
	if err != nil {
		return err
	}
	switch {
	case f.signer != "" && f.policy == "" && !c.Flags().Changed("min-version"):
		return usageError(errors.New("--min-version is missing: the lowest version that is admitted"))
	case f.signer != "" && f.policy == "":
		if err := signature.CheckVersion(f.minVersion); err != nil {
			return usageError(fmt.Errorf("--min-version: %w", err))
		}
	case c.Flags().Changed("min-version"):
		return usageError(errors.New("--min-version goes with --signer, and not with --policy, which says it"))
	}
	if f.name != "" {
		w.name = f.name
	}
	if w.config != nil && len(w.config.Secrets) > 0 && w.config.StewardCA == "" {
		a.note("the configuration declares secrets and no steward_ca: its Keep will not enrol")
	}
	s, err := a.askSteward(&f.stewardFlags)
	if err != nil {
		return err
	}
	defer s.close()
	var settings server.Settings
	if err := s.do(http.MethodGet, "/v1/admin/settings", nil, &settings); err != nil {
		return err
	}
	text, err := a.allowPolicy(c, &f, w, settings)
	if err != nil {
		return err
	}
	if _, err := enrol.ParseDocument([]byte(text)); err != nil {
		return fail(statusUsage, err)
	}
	put := server.WorkloadPut{Name: w.name, Manifest: w.manifest, Policy: text}
	if f.signer != "" {
		put.Name = "" // it is in the subject
	}
	var v server.PolicyView
	if err := s.do(http.MethodPut, "/v1/admin/workloads/"+url.PathEscape(w.subject), put, &v); err != nil {
		return err
	}
	return a.printPolicyView(v, f.asJSON)
}

// printPolicyView says what was written.
func (a *app) printPolicyView(v server.PolicyView, asJSON bool) error {
	if asJSON {
		return a.printJSON(v)
	}
	same := ""
	if v.Same {
		same = ", as before"
	}
	fmt.Fprintf(a.stdout, "workload     %s\npolicy       version %d, sha256:%s%s\n", v.Workload, v.Version, v.Digest, same)
	for _, n := range v.Unconfirmed {
		a.note("the secret %s was set under another policy, and is not released before it is confirmed: donjon steward secret confirm %s %s", n, pointer(v.Workload), n)
	}
	return nil
}

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

func newWorkloadList(a *app) *cobra.Command {
	var f stewardFlags
	c := &cobra.Command{
		Use: "list", Short: "list the workloads, and what signers sign", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.askSteward(&f)
			if err != nil {
				return err
			}
			defer s.close()
			all := []server.WorkloadView{}
			for after := ""; ; {
				var page []server.WorkloadView
				if err := s.do(http.MethodGet, "/v1/admin/workloads?limit=1000&after="+url.QueryEscape(after), nil, &page); err != nil {
					return err
				}
				all = append(all, page...)
				if len(page) < 1000 {
					break
				}
				after = page[len(page)-1].Subject
			}
			if f.asJSON {
				return a.printJSON(all)
			}
			for _, w := range all {
				state := fmt.Sprintf("policy %d", w.Policy)
				if w.Removed {
					state += ", removed"
				}
				if x := w.Signed; x != nil {
					if x.MinVersion > 0 {
						state += fmt.Sprintf(", version %d or higher", x.MinVersion)
					}
					if x.Highest > 0 {
						state += fmt.Sprintf(", version %d admitted", x.Highest)
					}
					fmt.Fprintf(a.stdout, "%s  %s\n", oneLine(w.Subject), state)
					continue
				}
				fmt.Fprintf(a.stdout, "%s  %s  %s  %s\n", w.Digest, w.FirstSeen.Format(time.RFC3339), state, oneLine(w.Name))
			}
			return nil
		},
	}
	f.register(c)
	return c
}

func newWorkloadRemove(a *app) *cobra.Command {
	var f pointedFlags
	c := &cobra.Command{
		Use: "remove [flags] WORKLOAD [-- ARGS]", Short: "admit a workload, or a signer's, no longer",
		Long: "remove writes a policy that admits nothing. Certificates that were issued end by\nthemselves; what the policies and secrets were stays in the log. A workload that was\nremoved is not admitted by a signature either.",
		RunE: func(c *cobra.Command, args []string) error {
			s, subject, err := a.about(c, &f, args)
			if err != nil {
				return err
			}
			defer s.close()
			var v server.PolicyView
			if err := s.do(http.MethodDelete, "/v1/admin/workloads/"+url.PathEscape(subject), nil, &v); err != nil {
				return err
			}
			v.Unconfirmed = nil
			return a.printPolicyView(v, f.asJSON)
		},
	}
	f.register(c)
	return c
}

func newWorkloadLeases(a *app) *cobra.Command {
	var f pointedFlags
	var end string
	c := &cobra.Command{
		Use: "leases [flags] WORKLOAD [-- ARGS]", Short: "list the Keeps that hold a place of max_instances, or end one's",
		RunE: func(c *cobra.Command, args []string) error {
			s, subject, err := a.about(c, &f, args)
			if err != nil {
				return err
			}
			defer s.close()
			if end != "" {
				return s.do(http.MethodDelete, "/v1/admin/workloads/"+url.PathEscape(subject)+"/leases/"+end, nil, nil)
			}
			var list []struct {
				Instance string    `json:"instance"`
				Until    time.Time `json:"until"`
				Decision uint64    `json:"decision"`
			}
			if err := s.do(http.MethodGet, "/v1/admin/workloads/"+url.PathEscape(subject)+"/leases", nil, &list); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(list)
			}
			for _, l := range list {
				fmt.Fprintf(a.stdout, "%s  until %s  decision %d\n", oneLine(l.Instance), l.Until.Format(time.RFC3339), l.Decision)
			}
			return nil
		},
	}
	f.register(c)
	c.Flags().StringVar(&end, "end", "", "end the lease of this `INSTANCE`: its certificate stays valid until it ends")
	return c
}
