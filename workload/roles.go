package workload

import (
	"fmt"
	"slices"
	"strings"

	"github.com/donjon-tee/donjon/attest/evidence"
)

// Roles are the parts that one workload has: two Keeps of one digest, of which each
// knows the other by that digest and its role. A policy of one that named the other's
// digest would be part of what its own digest is of, and so in a circle (THREATS T13).
// Which role a Keep runs in the host says, the warden enforces and the evidence shows.

// RoleVariable is the variable that tells a workload its role.
const RoleVariable = "DONJON_ROLE"

// checkRoles checks roles, and the length of collateral.
func checkRoles(c *Config) error {
	if len(c.Roles) > maxMembers {
		return fmt.Errorf("roles: found %d, at most %d", len(c.Roles), maxMembers)
	}
	seen := map[string]bool{}
	for _, r := range c.Roles {
		if err := evidence.CheckRole(r); err != nil {
			return fmt.Errorf("roles: %s", strings.TrimPrefix(err.Error(), "evidence: "))
		}
		if seen[r] {
			return fmt.Errorf("roles: %q stands twice", r)
		}
		seen[r] = true
	}
	if len(c.Collateral) > maxCollateral {
		return fmt.Errorf("collateral: found %d files, at most %d", len(c.Collateral), maxCollateral)
	}
	if _, there := c.Env[RoleVariable]; there && len(c.Roles) > 0 {
		return fmt.Errorf("env: %s tells the workload its role", RoleVariable)
	}
	return nil
}

// As is the configuration in one of its roles: Descriptors, Environ and Input are that
// role's. A configuration without roles has none but "".
func (c *Config) As(role string) (*Config, error) {
	switch {
	case len(c.Roles) == 0 && role != "":
		return nil, fmt.Errorf("found the role %q, and the configuration has no roles", role)
	case len(c.Roles) > 0 && role == "":
		return nil, fmt.Errorf("no role is said, wanted one of %s", strings.Join(c.Roles, ", "))
	case role != "" && !slices.Contains(c.Roles, role):
		return nil, fmt.Errorf("found the role %q, wanted one of %s", role, strings.Join(c.Roles, ", "))
	}
	out := *c
	out.role = role
	return &out, nil
}

// Role is the role that the configuration was taken in; "" for none.
func (c *Config) Role() string { return c.role }

// inRole are the entries of files that the role has, all of them where there is none.
func (c *Config) inRole() []File {
	if c.role == "" {
		return c.Files
	}
	var out []File
	for _, f := range c.Files {
		if f.Role == "" || f.Role == c.role {
			out = append(out, f)
		}
	}
	return out
}

// InRole takes a loaded workload in a role, which is not measured: a *UsageError where
// the configuration has it not, or has roles and none is said.
func (w *Workload) InRole(role string) error {
	as, err := w.Config.As(role)
	if err != nil {
		return &UsageError{"--role: " + err.Error()}
	}
	w.Config, w.Host.Role = as, role
	return nil
}
