package workload

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Bounds of a configuration.
const (
	MaxConfig  = 1 << 20 // bytes
	maxFiles   = 128
	maxArgs    = 4096
	maxEnv     = 4096
	maxText    = 64 << 10 // bytes of one argument, value or path
	maxNamed   = 64       // data folders and files
	maxMembers = 64       // of every other list
	maxSize    = 1 << 44  // bytes of any limit: products of a number and its unit stay far from overflow
)

// Config is a parsed, checked configuration. The zero value is the configuration
// of a bare module.
type Config struct {
	Builtin   string // what runs in place of a module: BuiltinSealer; "": a module
	Args      []string
	Env       map[string]string
	Files     []File
	HasFiles  bool // files was declared, be it empty
	Limits    Limits
	Data      []Data
	Scratch   []Scratch
	HostDirs  []HostDir
	Steward   string
	StewardCA string
	Secrets   []Secret
	HostArgs  bool     // the host may add arguments, unmeasured
	HostEnv   []string // variables that the host may set, unmeasured
	TEE       []string
	DebugLog  bool
	// Roles are those of which the host chooses one for each Keep; none: there are no roles.
	Roles []string
	// Collateral are files of vendor data, for judging other Keeps.
	Collateral []string

	role string // the one that this configuration was taken in; see As
}

// File is one descriptor of the guest; its number is its position.
type File struct {
	Kind       string // null, stdin, stdout, stderr, listen, connect
	Name       string
	Prot       string        // listen, connect: tls or tcp
	Addr       string        // listen; default "::"
	Host       string        // connect
	Port       uint16        // default 443 for tls, 80 for tcp
	ClientCA   string        // listen, tls: authorities of client certificates, a PEM file
	ClientAuth string        // listen, tls: none, request, require, any
	CA         string        // connect, tls: the peer's authorities instead of Mozilla's
	Evidence   bool          // listen, tls: the Keep answers for its evidence by HTTP/1.1
	Attest     string        // tls: a policy file; the peer must be a Keep that it admits
	MaxAge     time.Duration // of a connection with attest, from the verdict on
	PeerHeader string        // listen, tls: "proxy-v2", or "" for none
	Role       string        // the entry is there in this role alone; "": in all
}

// Limits bound a workload; 0 is no limit of the configuration's own.
type Limits struct {
	Memory   uint64        // bytes
	CPUTime  time.Duration // processor time
	WallTime time.Duration
	Output   uint64 // bytes on stdout and stderr together
}

// Data is a measured, read-only file or folder.
type Data struct {
	Path  string // relative to the workload's folder
	Guest string // absolute, in the guest
}

// Scratch is a folder in the Keep's memory.
type Scratch struct {
	Guest string
	Size  uint64 // bytes
}

// HostDir is a folder of the host, for development in sim alone. Which folder is
// said on the command line and not measured; that there is one is measured.
type HostDir struct{ Guest string }

// Secret is a secret a Steward releases.
type Secret struct{ Name, Env, File string }

// The raw forms are what TOML is decoded into.
type rawConfig struct {
	Builtin   string            `toml:"builtin,omitempty"`
	Steward   string            `toml:"steward,omitempty"`
	StewardCA string            `toml:"steward_ca,omitempty"`
	Args      []string          `toml:"args,omitempty"`
	Env       map[string]string `toml:"env,omitempty"`
	HostArgs  bool              `toml:"host_args,omitempty"`
	HostEnv   []string          `toml:"host_env,omitempty"`
	Roles     []string          `toml:"roles,omitempty"`
	TEE       []string          `toml:"tee,omitempty"`
	DebugLog  bool              `toml:"debug_log,omitempty"`
	Collat    []string          `toml:"collateral,omitempty"`
	Limits    rawLimits         `toml:"limits,omitempty"`
	Files     *[]rawFile        `toml:"files,omitempty"`
	Data      []rawMount        `toml:"data,omitempty"`
	Scratch   []rawMount        `toml:"scratch,omitempty"`
	HostDirs  []rawMount        `toml:"host_dirs,omitempty"`
	Secrets   []rawSecret       `toml:"secrets,omitempty"`
}

type rawLimits struct {
	Memory   string `toml:"memory,omitempty"`
	CPUTime  string `toml:"cpu_time,omitempty"`
	WallTime string `toml:"wall_time,omitempty"`
	Output   string `toml:"output,omitempty"`
}

type rawFile struct {
	Kind       string `toml:"kind"`
	Name       string `toml:"name,omitempty"`
	Prot       string `toml:"prot,omitempty"`
	Addr       string `toml:"addr,omitempty"`
	Host       string `toml:"host,omitempty"`
	Port       *int64 `toml:"port,omitempty"`
	ClientCA   string `toml:"client_ca,omitempty"`
	ClientAuth string `toml:"client_auth,omitempty"`
	CA         string `toml:"ca,omitempty"`
	Evidence   bool   `toml:"evidence,omitempty"`
	Attest     string `toml:"attest,omitempty"`
	MaxAge     string `toml:"max_age,omitempty"`
	PeerHeader string `toml:"peer_header,omitempty"`
	Role       string `toml:"role,omitempty"`
}

type rawMount struct {
	Path  string `toml:"path,omitempty"`
	Guest string `toml:"guest,omitempty"`
	Size  string `toml:"size,omitempty"`
}

type rawSecret struct {
	Name string `toml:"name"`
	Env  string `toml:"env,omitempty"`
	File string `toml:"file,omitempty"`
}

// A ConfigError says what is wrong with a configuration and where. Line and
// Column count from 1; 0 is unknown.
type ConfigError struct {
	File         string
	Line, Column int
	What         string
	Suggestion   string
}

func (e *ConfigError) Error() string {
	where := e.File
	if where == "" {
		where = "the configuration"
	}
	if e.Line > 0 {
		where += ":" + strconv.Itoa(e.Line)
	}
	return where + ": " + e.What
}

// Hint is what to do about it.
func (e *ConfigError) Hint() string { return e.Suggestion }

// ParseConfig parses and checks a Donjon.toml. Unknown keys are errors.
func ParseConfig(b []byte) (*Config, error) { return parse(b, "") }

func parse(b []byte, file string) (*Config, error) {
	raw, err := decode(b, file)
	if err != nil {
		return nil, err
	}
	c, err := check(raw)
	if err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	return c, nil
}

func decode(b []byte, file string) (*rawConfig, error) {
	if len(b) > MaxConfig {
		return nil, &ConfigError{File: file, What: fmt.Sprintf("found %d bytes, at most %d", len(b), MaxConfig)}
	}
	if err := bounded(b); err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	var raw rawConfig
	if err := decodeStrictly(b, file, &raw, donjonKeys); err != nil {
		return nil, err
	}
	return &raw, nil
}

// decodeStrictly reads TOML into one of the raw forms. Unknown keys are errors.
func decodeStrictly(b []byte, file string, raw any, keys map[string][]string) error {
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(raw)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		first := strict.Errors[0]
		line, col := first.Position()
		key := first.Key()
		return &ConfigError{File: file, Line: line, Column: col,
			What: fmt.Sprintf("unknown key %q", strings.Join(key, ".")), Suggestion: neighbour(key, keys)}
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, col := de.Position()
		return &ConfigError{File: file, Line: line, Column: col, What: mistyped(strings.TrimPrefix(de.Error(), "toml: "), de.Key())}
	}
	if err != nil {
		return &ConfigError{File: file, What: err.Error()}
	}
	return nil
}

func check(raw *rawConfig) (*Config, error) {
	c := &Config{Builtin: raw.Builtin, Args: raw.Args, Env: raw.Env, Steward: raw.Steward, StewardCA: raw.StewardCA,
		HostArgs: raw.HostArgs, HostEnv: raw.HostEnv, TEE: raw.TEE, DebugLog: raw.DebugLog, Roles: raw.Roles, Collateral: raw.Collat}
	if len(c.Args) > maxArgs || len(c.Env) > maxEnv || len(c.HostEnv) > maxMembers || len(c.TEE) > maxMembers {
		return nil, fmt.Errorf("too many arguments or variables: at most %d and %d", maxArgs, maxEnv)
	}
	for _, a := range c.Args {
		if err := text("an argument", a); err != nil {
			return nil, err
		}
	}
	for k, v := range c.Env {
		if k == "" || strings.ContainsAny(k, "=") {
			return nil, fmt.Errorf("env: found the name %q, wanted one that is not empty and has no '='", k)
		}
		if err := errors.Join(text("env", k), text("env."+k, v)); err != nil {
			return nil, err
		}
	}
	for _, t := range c.TEE {
		switch t {
		case "snp", "tdx", "sgx", "pef", "vm", "sim":
		default:
			return nil, fmt.Errorf("tee: found %q, wanted snp, tdx, sgx, pef, vm or sim", t)
		}
	}
	if err := checkLimits(c, raw.Limits); err != nil {
		return nil, err
	}
	if err := checkRoles(c); err != nil {
		return nil, err
	}
	if raw.Files != nil {
		c.HasFiles = true
		if len(*raw.Files) > maxFiles {
			return nil, fmt.Errorf("files: found %d, at most %d", len(*raw.Files), maxFiles)
		}
		names := map[string][]string{} // of listeners, with the roles that each has
		for i, f := range *raw.Files {
			file, err := checkFile(f)
			if err == nil && file.Role != "" && !slices.Contains(c.Roles, file.Role) {
				err = fmt.Errorf("role: found %q, wanted one of roles = %q", file.Role, c.Roles)
			}
			if err == nil && file.Kind == "listen" && slices.ContainsFunc(names[file.Name], func(r string) bool { return r == "" || file.Role == "" || r == file.Role }) {
				err = fmt.Errorf("the name %q is used twice", file.Name)
			}
			if err != nil {
				return nil, fmt.Errorf("files[%d]: %w", i, err)
			}
			names[file.Name] = append(names[file.Name], file.Role)
			c.Files = append(c.Files, file)
		}
	}
	if err := checkMounts(c, raw); err != nil {
		return nil, err
	}
	if err := checkSteward(c, raw); err != nil {
		return nil, err
	}
	return c, checkBuiltin(c)
}

func text(what, s string) error {
	if len(s) > maxText || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s: found %d bytes or a zero byte, at most %d and none", what, len(s), maxText)
	}
	return nil
}
