package workload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Descriptors are the guest's descriptors in order: what files declares, else
// stdin, stdout and stderr.
func (c *Config) Descriptors() []File {
	if c.HasFiles {
		return c.inRole()
	}
	return []File{{Kind: "stdin", Name: "stdin"}, {Kind: "stdout", Name: "stdout"}, {Kind: "stderr", Name: "stderr"}}
}

// Environ is the guest's environment as K=V, sorted. FD_COUNT and FD_NAMES tell
// a guest its descriptors as Enarx does; they are there only where files was
// declared, and env may override them. Of a configuration with roles that was not
// taken in one (As) they are left out.
func (c *Config) Environ() []string { return c.environ(nil) }

// environ lays more, K=V, over the measured environment.
func (c *Config) environ(more []string) []string {
	all := map[string]string{}
	if c.HasFiles && (c.role != "" || len(c.Roles) == 0) { // each role has descriptors of its own
		files, names := c.inRole(), ""
		for i, f := range files {
			if i > 0 {
				names += ":"
			}
			names += f.Name
		}
		all["FD_COUNT"] = strconv.Itoa(len(files))
		all["FD_NAMES"] = names
	}
	for k, v := range c.Env {
		all[k] = v
	}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		all[k] = v
	}
	if c.role != "" {
		all[RoleVariable] = c.role
	}
	out := make([]string, 0, len(all))
	for k, v := range all {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

// NamedPath is a file or folder that the configuration names: a layer.
type NamedPath struct {
	Path string
	// Data: mounted for the guest; such a path may be a folder. Others are files
	// that the warden reads.
	Data bool
}

// Paths are the named paths, each once, sorted bytewise: the order of the layers
// after the module.
func (c *Config) Paths() []NamedPath {
	set := map[string]bool{}
	for _, d := range c.Data {
		set[d.Path] = true
	}
	for _, p := range c.wardenPaths() {
		if !set[p] {
			set[p] = false
		}
	}
	out := make([]NamedPath, 0, len(set))
	for p, data := range set {
		out = append(out, NamedPath{p, data})
	}
	slices.SortFunc(out, func(a, b NamedPath) int {
		if a.Path < b.Path {
			return -1
		}
		return 1
	})
	return out
}

func (c *Config) wardenPaths() []string {
	var out []string
	if c.StewardCA != "" {
		out = append(out, c.StewardCA)
	}
	out = append(out, c.Collateral...)
	for _, f := range c.Files {
		if f.ClientCA != "" {
			out = append(out, f.ClientCA)
		}
		if f.CA != "" {
			out = append(out, f.CA)
		}
		if f.Attest != "" {
			out = append(out, f.Attest)
		}
	}
	return out
}

// Encode gives the canonical Donjon.toml of a configuration: what is hashed when
// the command line changed it, or when it was an Enarx.toml. Keys stand in a
// fixed order, values that are the default are left out.
func (c *Config) Encode() ([]byte, error) {
	raw := rawConfig{Builtin: c.Builtin, Steward: c.Steward, StewardCA: c.StewardCA, Args: c.Args, Env: c.Env,
		HostArgs: c.HostArgs, HostEnv: c.HostEnv, TEE: c.TEE, DebugLog: c.DebugLog, Roles: c.Roles, Collat: c.Collateral}
	size := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	raw.Limits.Memory, raw.Limits.Output = size(c.Limits.Memory), size(c.Limits.Output)
	if c.Limits.CPUTime > 0 {
		raw.Limits.CPUTime = c.Limits.CPUTime.String()
	}
	if c.Limits.WallTime > 0 {
		raw.Limits.WallTime = c.Limits.WallTime.String()
	}
	if c.HasFiles {
		files := []rawFile{}
		for _, f := range c.Files {
			r := rawFile{Kind: f.Kind, Name: f.Name, Prot: f.Prot, Addr: f.Addr, Host: f.Host,
				ClientCA: f.ClientCA, ClientAuth: f.ClientAuth, CA: f.CA, Evidence: f.Evidence,
				Attest: f.Attest, PeerHeader: f.PeerHeader, Role: f.Role}
			if f.MaxAge > 0 {
				r.MaxAge = f.MaxAge.String()
			}
			if f.Kind == "listen" || f.Kind == "connect" {
				port := int64(f.Port)
				r.Port = &port
			}
			if f.Kind == "connect" && f.Name == f.Host {
				r.Name = "" // the default; a host may hold what a name may not
			}
			files = append(files, r)
		}
		raw.Files = &files
	}
	for _, d := range c.Data {
		raw.Data = append(raw.Data, rawMount{Path: d.Path, Guest: d.Guest})
	}
	for _, s := range c.Scratch {
		raw.Scratch = append(raw.Scratch, rawMount{Guest: s.Guest, Size: size(s.Size)})
	}
	for _, h := range c.HostDirs {
		raw.HostDirs = append(raw.HostDirs, rawMount{Guest: h.Guest})
	}
	for _, s := range c.Secrets {
		raw.Secrets = append(raw.Secrets, rawSecret(s))
	}
	b, err := toml.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("workload: encoding the configuration: %w", err)
	}
	return b, nil
}
