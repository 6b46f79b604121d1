//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/server"
)

func newStewardSecret(a *app) *cobra.Command {
	return group("secret", "set, list, delete and confirm secrets", newSecretSet(a), newSecretList(a), newSecretDelete(a), newSecretConfirm(a))
}

type secretFlags struct {
	pointedFlags
	workload string
}

func (f *secretFlags) register(c *cobra.Command) {
	f.pointedFlags.register(c)
	c.Flags().StringVar(&f.workload, "workload", "", "whose secret: a `WORKLOAD` (a folder, a module or a digest)")
}

// about opens the Steward and gives whose secret it is.
func (f *secretFlags) about(a *app, c *cobra.Command, rest []string) (*steward, string, error) {
	switch {
	case f.signer == "" && f.workload == "":
		return nil, "", usageError(errors.New("--workload is missing, or --signer: whose secret"))
	case f.signer != "" && f.workload != "":
		return nil, "", usageError(errors.New("--workload and --signer: it is the one's or the other's"))
	case f.signer != "" && len(rest) > 0:
		return nil, "", usageError(errors.New("--signer and arguments: what is measured is in the digest that is signed"))
	case f.signer == "" && f.name != "":
		return nil, "", usageError(errors.New("--name goes with --signer"))
	}
	var w namedWorkload
	var err error
	if f.signer != "" {
		w, err = f.bySigner(c)
	} else {
		w, err = nameWorkload(f.workload, f.flags(rest), f.dir)
	}
	if err != nil {
		return nil, "", err
	}
	s, err := a.askSteward(&f.stewardFlags)
	return s, w.subject, err
}

// secret is about, and the secret's route.
func (a *app) secret(c *cobra.Command, f *secretFlags, name string, rest []string) (*steward, string, string, error) {
	s, subject, err := f.about(a, c, rest)
	if err != nil {
		return nil, "", "", err
	}
	return s, "/v1/admin/secrets/" + url.PathEscape(subject) + "/" + url.PathEscape(name), subject, nil
}

func newSecretSet(a *app) *cobra.Command {
	var f secretFlags
	c := &cobra.Command{
		Use:   "set --workload WORKLOAD NAME [-- ARGS]",
		Short: "set a secret, read from stdin",
		Long: `set reads a secret from stdin, every byte of it (a newline at the end too), and
stores it, sealed, for the Keeps of WORKLOAD. It is released under the policy that is
in force now, and under no other before secret confirm says so.

    printf s3cret | donjon steward secret set --workload app/ db-password

With --signer and --name it is for every version that the signer signs under that
name, where the signer's policy admits it.`,
		RunE: func(c *cobra.Command, args []string) error {
			name, rest, err := splitNamed(c, args)
			if err != nil {
				return err
			}
			if isTerminal(a.stdin) {
				return failHint(statusUsage, "printf %s \"$VALUE\" | donjon steward secret set …", errors.New("stdin is a terminal, which would show the secret"))
			}
			plain, err := io.ReadAll(io.LimitReader(a.stdin, protocol.MaxSecret+1))
			if err != nil {
				return fail(statusFailed, fmt.Errorf("stdin: %w", err))
			}
			defer clear(plain)
			if len(plain) > protocol.MaxSecret {
				return fail(statusFailed, fmt.Errorf("stdin: more than %d bytes", protocol.MaxSecret))
			}
			if len(plain) == 0 {
				return failHint(statusUsage, "is a variable of the shell unset?", errors.New("stdin: found an empty secret"))
			}
			s, path, _, err := a.secret(c, &f, name, rest)
			if err != nil {
				return err
			}
			defer s.close()
			var v server.SecretView
			if err := s.do(http.MethodPut, path, plain, &v); err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.stdout, "secret       %s, version %d, %d bytes, for %s\n", v.Name, v.Version, len(plain), v.Workload)
			return nil
		},
	}
	f.register(c)
	return c
}

// splitNamed takes NAME and what stands behind --.
func splitNamed(c *cobra.Command, args []string) (string, []string, error) {
	dash := c.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	if dash != 1 {
		return "", nil, failHint(statusUsage, "usage: "+c.UseLine(), fmt.Errorf("found %d names, wanted 1", dash))
	}
	if c.ArgsLenAtDash() < 0 {
		return args[0], nil, nil
	}
	return args[0], append([]string{}, args[1:]...), nil
}

func newSecretList(a *app) *cobra.Command {
	var f secretFlags
	c := &cobra.Command{
		Use: "list", Short: "list the names of secrets, never their values",
		RunE: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() < 0 && len(args) > 0 || c.ArgsLenAtDash() > 0 {
				return usageError(errors.New("list takes no name"))
			}
			query := "?limit=1000"
			var s *steward
			var err error
			if f.workload+f.signer+f.name != "" {
				var subject string
				if c.ArgsLenAtDash() < 0 {
					args = nil // no "--": the workload's own arguments stay
				}
				if s, subject, err = f.about(a, c, args); err != nil {
					return err
				}
				query = "?workload=" + url.QueryEscape(subject)
			} else if s, err = a.askSteward(&f.stewardFlags); err != nil {
				return err
			}
			defer s.close()
			list := []server.SecretView{}
			for more := ""; ; {
				var page []server.SecretView
				if err := s.do(http.MethodGet, "/v1/admin/secrets"+query+more, nil, &page); err != nil {
					return err
				}
				list = append(list, page...)
				if f.workload+f.signer != "" || len(page) < 1000 {
					break
				}
				last := page[len(page)-1]
				more = "&after_workload=" + url.QueryEscape(last.Workload) + "&after_name=" + url.QueryEscape(last.Name)
			}
			if f.asJSON {
				return a.printJSON(list)
			}
			for _, x := range list {
				note := ""
				if x.Releasable != nil && !*x.Releasable {
					note = "  not released: set under another policy"
				}
				fmt.Fprintf(a.stdout, "%s  %s  version %d  %s%s\n", x.Workload, oneLine(x.Name), x.Version, x.At.Format(time.RFC3339), note)
			}
			return nil
		},
	}
	f.register(c)
	return c
}

func newSecretDelete(a *app) *cobra.Command {
	var f secretFlags
	c := &cobra.Command{
		Use: "delete --workload WORKLOAD NAME [-- ARGS]", Short: "delete a secret",
		RunE: func(c *cobra.Command, args []string) error {
			name, rest, err := splitNamed(c, args)
			if err != nil {
				return err
			}
			s, path, _, err := a.secret(c, &f, name, rest)
			if err != nil {
				return err
			}
			defer s.close()
			return s.do(http.MethodDelete, path, nil, nil)
		},
	}
	f.register(c)
	return c
}

func newSecretConfirm(a *app) *cobra.Command {
	var f secretFlags
	var show bool
	c := &cobra.Command{
		Use:   "confirm --workload WORKLOAD NAME [-- ARGS]",
		Short: "let a secret be released under the policy that is in force now",
		Long: `A secret is released under the policy that it was set under. Where the policy was
changed since, whoever may set secrets looks at what changed and confirms: a policy
cannot be widened behind their back. confirm prints the difference to the
policy that the secret was set under; with --show it does nothing else.`,
		RunE: func(c *cobra.Command, args []string) error {
			name, rest, err := splitNamed(c, args)
			if err != nil {
				return err
			}
			s, path, subject, err := a.secret(c, &f, name, rest)
			if err != nil {
				return err
			}
			defer s.close()
			return a.confirmSecret(s, path, subject, name, show)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&show, "show", false, "show what changed and confirm nothing")
	return c
}

func (a *app) confirmSecret(s *steward, path, subject, name string, show bool) error {
	var p server.PolicyView
	if err := s.do(http.MethodGet, "/v1/admin/policies/"+url.PathEscape(subject), nil, &p); err != nil {
		return err
	}
	var list []server.SecretView
	if err := s.do(http.MethodGet, "/v1/admin/secrets?workload="+url.QueryEscape(subject), nil, &list); err != nil {
		return err
	}
	at := slices.IndexFunc(list, func(x server.SecretView) bool { return x.Name == name })
	if at < 0 {
		return fail(statusFailed, fmt.Errorf("there is no secret %q of %s", name, subject))
	}
	x := list[at]
	if x.Policy == p.Digest {
		a.note("the secret %s was set under the policy that is in force: there is nothing to confirm", printable(name))
		return nil
	}
	if err := a.showChange(s, subject, x, p); err != nil {
		return err
	}
	if show {
		return nil
	}
	// The digest is that of the policy that was shown.
	if err := s.do(http.MethodPost, path+"/confirm", server.SecretConfirm{Version: x.Version, Policy: p.Digest}, nil); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "confirmed    %s, version %d, under policy version %d, sha256:%s\n", oneLine(name), x.Version, p.Version, p.Digest)
	return nil
}

// showChange prints what changed from the policy that a secret was set under to p.
func (a *app) showChange(s *steward, subject string, x server.SecretView, p server.PolicyView) error {
	var versions []server.PolicyView
	if err := s.do(http.MethodGet, "/v1/admin/policies/"+url.PathEscape(subject)+"/versions", nil, &versions); err != nil {
		return err
	}
	at := slices.IndexFunc(versions, func(v server.PolicyView) bool { return v.Digest == x.Policy })
	if at < 0 {
		a.note("the policy that it was set under, sha256:%s, is not among the newest %d versions: look at donjon steward policy show", x.Policy, len(versions))
		return nil
	}
	var d server.PolicyDiff
	if err := s.do(http.MethodPost, "/v1/admin/policies/"+url.PathEscape(subject)+"/diff"+versionQuery(versions[at].Version), server.PolicyPut{Policy: p.Policy}, &d); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "policy       version %d, that the secret was set under, to version %d, that is in force:\n", d.From, p.Version)
	a.printDiff(d)
	fmt.Fprintln(a.stdout)
	return nil
}
