//go:build linux

package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/server"
)

func newStewardPolicy(a *app) *cobra.Command {
	return group("policy", "show, set, test and compare the policies of workloads",
		newPolicyShow(a), newPolicySet(a), newPolicyTest(a), newPolicyDiff(a), newPolicyHistory(a))
}

// policyVerb is a verb about one policy; path is whose, escaped.
func (a *app) policyVerb(use, short, long string, more func(*cobra.Command), do func(s *steward, path string, f *pointedFlags) error) *cobra.Command {
	var f pointedFlags
	c := &cobra.Command{Use: use, Short: short, Long: long,
		RunE: func(c *cobra.Command, args []string) error {
			s, subject, err := a.about(c, &f, args)
			if err != nil {
				return err
			}
			defer s.close()
			return do(s, url.PathEscape(subject), &f)
		}}
	f.register(c)
	if more != nil {
		more(c)
	}
	return c
}

func newPolicyShow(a *app) *cobra.Command {
	var version uint64
	return a.policyVerb("show [flags] WORKLOAD [-- ARGS]", "print a workload's policy", "", func(c *cobra.Command) {
		c.Flags().Uint64Var(&version, "version", 0, "an earlier version, by `NUMBER`")
	}, func(s *steward, path string, f *pointedFlags) error {
		var v server.PolicyView
		if err := s.do(http.MethodGet, "/v1/admin/policies/"+path+versionQuery(version), nil, &v); err != nil {
			return err
		}
		if f.asJSON {
			return a.printJSON(v)
		}
		a.note("version %d, sha256:%s, of %s by %s", v.Version, v.Digest, v.At.Format(time.RFC3339), v.By)
		_, err := io.WriteString(a.stdout, printable(v.Policy))
		return err
	})
}

func versionQuery(n uint64) string {
	if n == 0 {
		return ""
	}
	return "?version=" + strconv.FormatUint(n, 10)
}

func newPolicySet(a *app) *cobra.Command {
	var file string
	var seen uint64
	c := a.policyVerb("set [flags] --file POLICY WORKLOAD [-- ARGS]", "write the next version of a workload's policy", "", func(c *cobra.Command) {
		c.Flags().StringVar(&file, "file", "", "the policy, a `FILE` (- is stdin)")
		c.Flags().Uint64Var(&seen, "seen", 0, "the version that it replaces, a `NUMBER`: refused where there is a newer one")
	}, func(s *steward, path string, f *pointedFlags) error {
		text, err := a.policyFile(file)
		if err != nil {
			return err
		}
		put := server.PolicyPut{Policy: text}
		if seen > 0 {
			put.Seen = &seen
		}
		var v server.PolicyView
		if err := s.do(http.MethodPut, "/v1/admin/policies/"+path, put, &v); err != nil {
			return err
		}
		return a.printPolicyView(v, f.asJSON)
	})
	return c
}

func (a *app) policyFile(name string) (string, error) {
	if name == "" {
		return "", usageError(fmt.Errorf("--file is missing: which policy"))
	}
	b, err := a.fileOrStdin(name, 256<<10)
	return string(b), err
}

func newPolicyTest(a *app) *cobra.Command {
	var file, evidence, sig string
	return a.policyVerb("test [flags] --evidence EVIDENCE WORKLOAD [-- ARGS]", "would this evidence pass",
		`test judges stored evidence (donjon run --evidence writes it) by the policy in force, or
by the one of --file, and prints the verdict. What only a live Keep can show, that it
answers a challenge over this connection, is left out. Nothing is recorded or released.
A signer's policy (--signer) looks at the signature beside the workload: --signature.

exit status: verify's: 0 it would pass, 10, 11, 12.`,
		func(c *cobra.Command) {
			c.Flags().StringVar(&file, "file", "", "a policy to try instead of the one in force, a `FILE`")
			c.Flags().StringVar(&evidence, "evidence", "", "the evidence, a `FILE` (- is stdin)")
			c.Flags().StringVar(&sig, "signature", "", "with --signer, what stands beside the workload, a `FILE`")
		}, func(s *steward, path string, f *pointedFlags) error {
			if evidence == "" {
				return usageError(fmt.Errorf("--evidence is missing"))
			}
			b, err := a.readEvidence(evidence)
			if err != nil {
				return err
			}
			ask := server.PolicyTest{Evidence: base64.StdEncoding.EncodeToString(b)}
			if sig != "" {
				if ask.Signatures, err = readSignatures(sig); err != nil {
					return err
				}
			}
			if file != "" {
				if ask.Policy, err = a.policyFile(file); err != nil {
					return err
				}
			}
			var v verdict.Verdict
			if err := s.do(http.MethodPost, "/v1/admin/policies/"+path+"/test", ask, &v); err != nil {
				return err
			}
			if err := a.printVerdict(&v, f.asJSON); err != nil {
				return err
			}
			return verdictStatus(&v)
		})
}

func newPolicyDiff(a *app) *cobra.Command {
	var file string
	var from uint64
	return a.policyVerb("diff [flags] --file POLICY WORKLOAD [-- ARGS]", "what a policy would change", "", func(c *cobra.Command) {
		c.Flags().StringVar(&file, "file", "", "the policy to compare, a `FILE`")
		c.Flags().Uint64Var(&from, "version", 0, "compare with this version instead of the newest, a `NUMBER`")
	}, func(s *steward, path string, f *pointedFlags) error {
		text, err := a.policyFile(file)
		if err != nil {
			return err
		}
		var d server.PolicyDiff
		if err := s.do(http.MethodPost, "/v1/admin/policies/"+path+"/diff"+versionQuery(from), server.PolicyPut{Policy: text}, &d); err != nil {
			return err
		}
		if f.asJSON {
			return a.printJSON(d)
		}
		a.printDiff(d)
		return nil
	})
}

func (a *app) printDiff(d server.PolicyDiff) {
	for _, l := range d.Text {
		fmt.Fprintln(a.stdout, oneLine(l))
	}
	if len(d.Word) == 0 {
		fmt.Fprintf(a.stdout, "\nin words, nothing changes against version %d\n", d.From)
		return
	}
	fmt.Fprintf(a.stdout, "\nin words, against version %d:\n", d.From)
	for _, l := range d.Word {
		fmt.Fprintln(a.stdout, oneLine(l))
	}
}

func newPolicyHistory(a *app) *cobra.Command {
	return a.policyVerb("history [flags] WORKLOAD [-- ARGS]", "list a policy's versions", "", nil, func(s *steward, path string, f *pointedFlags) error {
		var list []server.PolicyView
		if err := s.do(http.MethodGet, "/v1/admin/policies/"+path+"/versions", nil, &list); err != nil {
			return err
		}
		if f.asJSON {
			return a.printJSON(list)
		}
		for _, v := range list {
			fmt.Fprintf(a.stdout, "%d  %s  sha256:%s  by %s\n", v.Version, v.At.Format(time.RFC3339), v.Digest, oneLine(v.By))
		}
		return nil
	})
}
