package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what a host adds unmeasured.
const (
	maxHostArgs = 1024
	maxHostText = 512 << 10 // bytes of arguments and variables together
)

// HostInput is what the host gives a workload beside what is measured. Only a
// configuration that has host_args or host_env lets any of it in (THREATS T6).
type HostInput struct {
	Args []string // follow the measured arguments
	Env  []string // NAME=VALUE, each name once; NAME is in host_env
	Role string   // one of roles; "" where there are none
}

// Input is what the guest is started with: its measured arguments and
// environment, and what the host may add to them. Both sides check it: the host
// so that the user learns early, the warden because the host may lie.
func (c *Config) Input(h HostInput) (args, env []string, err error) {
	if err := c.checkHost(h); err != nil {
		return nil, nil, err
	}
	return slices.Concat(c.Args, h.Args), c.environ(h.Env), nil
}

func (c *Config) checkHost(h HostInput) error {
	if h.Role != c.role {
		return fmt.Errorf("the host's role is %q, and the configuration was taken in the role %q", h.Role, c.role)
	}
	if len(h.Args) > 0 && !c.HostArgs {
		return errors.New("the host adds arguments, and the configuration has no host_args = true")
	}
	if len(h.Args) > maxHostArgs || len(h.Env) > len(c.HostEnv) {
		return fmt.Errorf("the host adds %d arguments and %d variables, at most %d and the %d of host_env", len(h.Args), len(h.Env), maxHostArgs, len(c.HostEnv))
	}
	total := 0
	for _, s := range slices.Concat(h.Args, h.Env) {
		if total += len(s); total > maxHostText {
			return fmt.Errorf("the host adds arguments and variables of more than %d bytes", maxHostText)
		}
		if err := text("an argument or a variable of the host", s); err != nil {
			return err
		}
		if !utf8.ValidString(s) {
			return errors.New("an argument or a variable of the host is not UTF-8 text")
		}
	}
	seen := map[string]bool{}
	for _, kv := range h.Env {
		name, _, ok := strings.Cut(kv, "=")
		switch {
		case !ok || !slices.Contains(c.HostEnv, name):
			return fmt.Errorf("the host sets the variable %q, and host_env does not name it", name)
		case seen[name]:
			return fmt.Errorf("the host sets the variable %q twice", name)
		}
		seen[name] = true
	}
	return nil
}

// checkHostKeys checks host_args and host_env themselves.
func checkHostKeys(c *Config) error {
	if !c.HostArgs && len(c.HostEnv) == 0 {
		return nil
	}
	if c.Steward != "" || len(c.Secrets) > 0 {
		return errors.New("host_args and host_env let the host change what runs; they are not allowed beside secrets or a Steward")
	}
	seen := map[string]bool{}
	for _, name := range c.HostEnv {
		switch {
		case name == "" || strings.Contains(name, "="):
			return fmt.Errorf("host_env: found the name %q, wanted one that is not empty and has no '='", name)
		case name == "FD_COUNT" || name == "FD_NAMES":
			return fmt.Errorf("host_env: %s tells the workload its descriptors, which are measured", name)
		case name == RoleVariable && len(c.Roles) > 0:
			return fmt.Errorf("host_env: %s tells the workload its role", name)
		case seen[name]:
			return fmt.Errorf("host_env: %q stands twice", name)
		}
		if err := text("host_env", name); err != nil {
			return err
		}
		seen[name] = true
	}
	return nil
}

// takeHost moves out of the flags what the configuration leaves to the host, so
// that the rest alone is measured.
func (c *Config) takeHost(f *Flags) HostInput {
	var h HostInput
	if c.HostArgs {
		h.Args, f.Args = f.Args, nil
	}
	if len(c.HostEnv) == 0 {
		return h
	}
	var measured []string
	for _, kv := range f.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || !slices.Contains(c.HostEnv, name) {
			measured = append(measured, kv)
			continue
		}
		// As with measured variables, the last one counts.
		h.Env = slices.DeleteFunc(h.Env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		h.Env = append(h.Env, kv)
	}
	f.Env = measured
	return h
}
