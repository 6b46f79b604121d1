package workload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// StewardAddr is where the configuration's Steward is: host is a name or an address
// (IPv6 without brackets). Without a Steward host is "".
func (c *Config) StewardAddr() (host string, port uint16) {
	if c.Steward == "" {
		return "", 0
	}
	host, port, err := stewardAddr(c.Steward)
	if err != nil {
		return "", 0 // checked when it was parsed
	}
	return host, port
}

// stewardAddr reads an https URL that is a host and perhaps a port: the paths below
// it are the protocol's.
func stewardAddr(s string) (host string, port uint16, err error) {
	bad := func(wanted string) (string, uint16, error) {
		return "", 0, fmt.Errorf("steward: found %q, wanted %s", s, wanted)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return bad("an https URL")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") || u.Path != "" && u.Path != "/" {
		return bad("https://HOST or https://HOST:PORT, and nothing behind it")
	}
	host, port = u.Hostname(), 443
	if strings.Contains(u.Host, ":") && !strings.HasSuffix(u.Host, "]") {
		if _, p, err := net.SplitHostPort(u.Host); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n == 0 {
				return bad("a port of 1 to 65535")
			}
			port = uint16(n)
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return bad("an address without a zone")
		}
		return host, port, nil
	}
	if len(host) > 253 {
		return bad("a host name of at most 253 characters")
	}
	for _, c := range host {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return bad("a host name of letters, digits, '-' and '.'")
		}
	}
	return host, port, nil
}

func checkSteward(c *Config, raw *rawConfig) error {
	if c.Steward != "" {
		if _, _, err := stewardAddr(c.Steward); err != nil {
			return err
		}
	}
	if len(raw.Secrets) > maxMembers {
		return fmt.Errorf("secrets: at most %d", maxMembers)
	}
	for _, s := range raw.Secrets {
		if s.Name == "" || (s.Env == "") == (s.File == "") {
			return errors.New("secrets: each has a name and either env or file")
		}
		if err := errors.Join(text("secrets: name", s.Name), text("secrets: env", s.Env), text("secrets: file", s.File)); err != nil {
			return err
		}
		if strings.Contains(s.Env, "=") {
			return fmt.Errorf("secrets: env: found %q, wanted a name without '='", s.Env)
		}
		if s.File != "" && (!path.IsAbs(s.File) || path.Clean(s.File) != s.File || s.File == "/") {
			return fmt.Errorf("secrets: file: found %q, wanted a clean absolute path below /", s.File)
		}
		c.Secrets = append(c.Secrets, Secret(s))
	}
	if len(c.Secrets) > 0 && (c.Steward == "" || c.StewardCA == "") {
		return errors.New("secrets need steward and steward_ca")
	}
	if err := checkHostKeys(c); err != nil {
		return err
	}
	if (c.Steward != "" || len(c.Secrets) > 0) && len(c.HostDirs) > 0 {
		return errors.New("host_dirs show the host what the workload writes; they are not allowed beside a Steward")
	}
	return checkPlaces(c)
}

// checkPlaces refuses a secret in a place that something else has: it would hide what
// was measured, or be hidden.
func checkPlaces(c *Config) error {
	envs := map[string]bool{}
	var files []string
	for _, s := range c.Secrets {
		if s.Env != "" {
			_, measured := c.Env[s.Env]
			switch {
			case measured:
				return fmt.Errorf("secrets: the variable %q stands in env too", s.Env)
			case s.Env == "FD_COUNT" || s.Env == "FD_NAMES":
				return fmt.Errorf("secrets: %s tells the workload its descriptors, which are measured", s.Env)
			case s.Env == RoleVariable && len(c.Roles) > 0:
				return fmt.Errorf("secrets: %s tells the workload its role", s.Env)
			case envs[s.Env]:
				return fmt.Errorf("secrets: the variable %q stands twice", s.Env)
			}
			envs[s.Env] = true
			continue
		}
		for _, f := range files {
			if f == s.File || below(f, s.File) || below(s.File, f) {
				return fmt.Errorf("secrets: the files %q and %q are in each other's place", f, s.File)
			}
		}
		files = append(files, s.File)
		var guests []string
		for _, d := range c.Data {
			guests = append(guests, d.Guest)
		}
		for _, d := range c.Scratch {
			guests = append(guests, d.Guest)
		}
		dir := path.Dir(s.File)
		for _, g := range guests {
			if dir == g || below(dir, g) || below(g, dir) {
				return fmt.Errorf("secrets: the folder of the file %q and the guest path %q overlap; secrets need a folder of their own, such as /secrets", s.File, g)
			}
		}
	}
	return nil
}

// below says whether the clean absolute path p is inside dir.
func below(p, dir string) bool {
	return p != dir && (dir == "/" || strings.HasPrefix(p, dir+"/"))
}
