//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/server"
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
