package workload

import (
	"errors"
	"fmt"
	"slices"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/policy"
)

const maxCollateral = 16 // files

// Policies reads the policies that the configuration names with attest. file gives the
// bytes of a path. A policy that cannot be judged by is a *ConfigError.
func (c *Config) Policies(file func(path string) ([]byte, error)) (map[string]*policy.Policy, error) {
	out := map[string]*policy.Policy{}
	for _, f := range c.Files {
		if f.Attest == "" {
			continue
		}
		b, err := file(f.Attest)
		if err != nil {
			return nil, err
		}
		p, err := policy.Parse(b)
		var at *policy.Error
		switch {
		case errors.As(err, &at):
			return nil, &ConfigError{File: f.Attest, Line: at.Line, Column: at.Column, What: "policy: " + at.Err.Error(), Suggestion: "docs/policy.md has every key; donjon policy check explains a file"}
		case err != nil:
			return nil, &ConfigError{File: f.Attest, What: err.Error()}
		case len(p.SPIFFE) > 0 && (c.Steward == "" || c.StewardCA == ""):
			return nil, &ConfigError{File: f.Attest, What: "policy: spiffe names peers by the Steward's word, and the configuration names no steward and steward_ca"}
		case p.PeerRole != "" && p.PeerRole == f.Role && p.SameWorkload && len(p.Workloads)+len(p.SPIFFE)+len(p.Signers) == 0:
			return nil, &ConfigError{File: f.Attest, What: fmt.Sprintf("policy: peer_role is %q, the role of the entry that names this policy: a Keep does not talk to its own role", p.PeerRole)}
		}
		out[f.Attest] = p
	}
	return out, nil
}

// Attests says whether any connection is with Keeps alone.
func (c *Config) Attests() bool {
	return slices.ContainsFunc(c.Files, func(f File) bool { return f.Attest != "" })
}

// VendorData reads the collateral that the configuration names. file gives the bytes of
// a path.
func (c *Config) VendorData(file func(path string) ([]byte, error)) (*collateral.Set, error) {
	s := &collateral.Set{}
	for _, name := range c.Collateral {
		b, err := file(name)
		if err != nil {
			return nil, err
		}
		before := len(s.Ignored)
		if err := s.Add(name, b); err != nil {
			return nil, &ConfigError{File: name, What: err.Error()}
		}
		if len(s.Ignored) > before {
			return nil, &ConfigError{File: name, What: "it is no collateral: " + s.Ignored[before].Why}
		}
	}
	return s, nil
}
